"""Synthetic twins of Synapse and ACDC: small plausible volumes in the official layouts, to try the whole path on."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import StrEnum, look_up_option
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from vafa_monai.data.acdc import acdc_plan, acdc_split
from vafa_monai.data.data_report import PHANTOM_MARK
from vafa_monai.data.files import is_finished, list_hashes, require_writable, whole_folder, write_json, write_whole
from vafa_monai.data.phantom_heart import Heart, group_of
from vafa_monai.data.phantom_shape import abdomen
from vafa_monai.data.preparation import DATALIST, Plan, prepare
from vafa_monai.data.split import PARTS, Split, evenly_spaced
from vafa_monai.data.synapse import synapse_plan, synapse_split

__all__ = ["write_phantom"]

MANIFEST = "phantom.json"
SIZES = (0.4, 8.0)
ORIENTATIONS = ("LPS", "RAS", "LAS", "RPI", "PIR")  # mostly as official files have, and others that a reader may meet
TILT = 12.0  # degrees: spread of the angles of an oblique stack
HEIGHTS, WEIGHTS, FRAMES = (150, 195), (45, 110), (18, 31)  # cm, kg, frames of the cine


class PhantomKind(StrEnum):
    """The dataset that is imitated."""

    SYNAPSE = "synapse"
    ACDC = "acdc"


class Layout(StrEnum):
    """As the owners hand the data out, or as :func:`prepare_synapse` and :func:`prepare_acdc` write them."""

    RAW = "raw"
    PREPARED = "prepared"


def write_phantom(
    kind: str,
    output: str | Path,
    *,
    cases: int = 6,
    seed: int = 0,
    layout: str = "raw",
    size: float = 1.0,
    classes: int = 14,
) -> Path:
    """Write synthetic volumes with every class, under names of the published split, in the official layout.

    Synapse: CT in HU of a body with thirteen organs, int16, about 81 x 61 x 39 voxels of 4.2 x 4.2 x 6 mm. ACDC: two
    frames of a heart in 7 to 11 slices of 8 or 10 mm, about 75 x 69 voxels of 1.8 mm, in units that differ from patient
    to patient; patients of even number have an affine with voxels of 1 mm and the true ones in ``pixdim``, as official
    files have, the others lie obliquely. Orientations and sizes differ from case to case; every header says that the
    volume is a phantom. The names are chosen so that every part of the split has some; the rest of the split is
    missing, so that ``allow_missing`` has to be set to prepare the raw layout.

    Args:
        kind: ``"synapse"`` or ``"acdc"``.
        output: folder to write to, new or empty; it appears whole or not at all.
        cases: number of cases, or of patients with two frames each; 3 to 30, or to 100.
        seed: random seed; a case of one name and seed is always the same.
        layout: ``"raw"`` as the data are handed out, or ``"prepared"`` as they are trained on.
        size: voxels along an axis relative to the above, 0.4 to 8, in the same body; slices of ACDC stay.
        classes: 14 or 9; for the prepared layout of Synapse only.

    Returns:
        ``output``, which can be prepared, or the path of ``dataset.json`` in it.

    Raises:
        ValueError: if an argument is out of range or ``output`` holds something else.
    """
    kind, layout, output = look_up_option(kind, PhantomKind), look_up_option(layout, Layout), Path(output).resolve()
    settings = _check_settings(kind, cases, seed, size)
    plan = _plan(kind, layout, classes, settings)
    require_writable(output / MANIFEST)
    if layout == Layout.RAW:
        if not is_finished(output, MANIFEST, settings):
            _write_raw(output, plan.split, settings)
        return output
    if not is_finished(output, DATALIST, plan.settings()):
        with tempfile.TemporaryDirectory() as folder:
            prepare(plan, _write_raw(Path(folder) / "raw", plan.split, settings), output)
    return output / DATALIST


def _check_settings(kind: str, cases: int, seed: int, size: float) -> dict[str, Any]:
    """Return what makes one phantom dataset differ from another, if it is in range."""
    most = sum(len(names) for names in _published_split(kind).values())
    if isinstance(cases, bool) or not isinstance(cases, int) or not len(PARTS) <= cases <= most:
        raise ValueError(f"cases must be a whole number from {len(PARTS)} to {most}, got {cases!r}.")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}.")
    if not isinstance(size, (int, float)) or not SIZES[0] <= size <= SIZES[1]:
        raise ValueError(f"size must be from {SIZES[0]:g} to {SIZES[1]:g}, got {size!r}.")
    return {"dataset": str(kind), "cases": cases, "seed": seed, "size": float(size)}


def _published_split(kind: str) -> Split:
    return synapse_split() if kind == PhantomKind.SYNAPSE else acdc_split()


def _plan(kind: str, layout: str, classes: int, settings: Mapping[str, Any]) -> Plan:
    """Return how the phantoms are prepared."""
    if classes != 14 and (kind != PhantomKind.SYNAPSE or layout != Layout.PREPARED):
        raise ValueError(f"classes must be left at 14 but for the prepared layout of Synapse, got {classes!r}.")
    more: dict[str, Any] = {"allow_missing": True, "origin": {"phantom": dict(settings)}}
    if kind == PhantomKind.SYNAPSE:
        return synapse_plan(classes=classes, split=synapse_split(), **more)
    return acdc_plan(split=acdc_split(), **more)


def _choose(split: Split, count: int) -> list[str]:
    """Choose names, at least one of every part and else in proportion, evenly spaced within it."""
    counts = dict.fromkeys(PARTS, 1)
    for _ in range(count - len(PARTS)):
        open_parts = [part for part in PARTS if counts[part] < len(split[part])]
        counts[max(open_parts, key=lambda part: len(split[part]) / (counts[part] + 1))] += 1
    return [name for part in PARTS for name in evenly_spaced(split[part], counts[part])]


def _write_raw(output: Path, split: Split, settings: Mapping[str, Any]) -> Path:
    """Write the official layout and the record of what made it; return the folder."""
    write = _write_abdomen if settings["dataset"] == PhantomKind.SYNAPSE else _write_heart
    with whole_folder(output) as folder:
        for name in _choose(split, settings["cases"]):
            number = int(name[-3:])
            write(folder, name, number, np.random.default_rng([settings["seed"], number]), settings["size"])
        write_json(folder / MANIFEST, {"settings": dict(settings), "sha256": list_hashes(folder)})
    return output


def _write_abdomen(folder: Path, name: str, number: int, rng: np.random.Generator, size: float) -> None:
    """Write ``img/imgNNNN.nii.gz`` and ``label/labelNNNN.nii.gz``."""
    image, label, affine = abdomen(rng, size)
    axes = ORIENTATIONS[number % len(ORIENTATIONS)]
    _save(folder / "img" / f"{name}.nii.gz", _turned(image, affine, axes))
    _save(folder / "label" / f"label{name[3:]}.nii.gz", _turned(label, affine, axes))


def _write_heart(folder: Path, name: str, number: int, rng: np.random.Generator, size: float) -> None:
    """Write the folder of a patient: ``Info.cfg`` and two frames with their labels."""
    group = group_of(number)
    heart = Heart.draw(rng, group, size)
    official = number % 2 == 0
    axes = "LPS" if official else ORIENTATIONS[number % len(ORIENTATIONS)]
    affine = heart.grid.affine if official else _tilted(heart.grid.affine, rng)
    frames = {"ED": 1, "ES": int(rng.integers(7, 16))}
    info = frames | {
        "Group": group,
        "Height": f"{rng.integers(*HEIGHTS)}.0",
        "NbFrame": rng.integers(*FRAMES),
        "Weight": f"{rng.integers(*WEIGHTS)}.0",
    }
    write_whole(folder / name / "Info.cfg", "".join(f"{key}: {value}\n" for key, value in info.items()))
    for phase, frame in frames.items():
        image, label = heart.frame(rng, systole=phase == "ES")
        for ending, volume in (("", _as_scanned(image, heart.scale)), ("_gt", label)):
            path = folder / name / f"{name}_frame{frame:02d}{ending}.nii.gz"
            _save(path, _turned(volume, affine, axes), voxels_of_1_mm=official)


def _as_scanned(image: np.ndarray, scale: float) -> np.ndarray:
    """Return whole numbers where their steps are fine enough."""
    return np.round(image).astype(np.uint16) if scale > math.sqrt(10) else image


def _tilted(affine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate an affine about the origin by three small angles."""
    for angle, (first, second) in zip(np.radians(rng.normal(0, TILT, 3)), ((0, 1), (1, 2), (0, 2)), strict=True):
        turn = np.eye(4)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        affine = turn @ affine
    return affine


def _turned(volume: np.ndarray, affine: np.ndarray, axes: str) -> nib.Nifti1Image:
    """Return the volume with its axes in another order and direction, at the same place."""
    image = nib.Nifti1Image(volume, affine)
    return image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(axes)))


def _save(path: Path, image: nib.Nifti1Image, voxels_of_1_mm: bool = False) -> None:
    """Write a volume that says in its header what it is; with voxels of 1 mm by its sform, as official ones of ACDC."""
    image.header["descrip"] = f"{PHANTOM_MARK}, not a patient"
    affine = image.affine.copy()
    if voxels_of_1_mm:
        affine[:3, 3] = 0
        image.set_sform(affine @ np.diag([*(1 / nib.affines.voxel_sizes(affine)), 1]), code=1)
    image.set_qform(affine, code=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)

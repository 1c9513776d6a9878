"""The real brain MRI of the demo: the MNI152 T1 with its tissue maps, as nilearn ships it, cut into cases."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.utils import optional_import

from vafa_monai.data.files import read_json, require_writable, sha256, write_json, write_volume

__all__ = ["prepare_mni152"]

CLASSES = ("background", "gray matter", "white matter")
FILES = {name: f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz" for name in ("t1", "gm", "wm")}
BLOCK = 32  # edge of a held-out case, in voxels of 1 mm
LEAST_TISSUE = 0.1  # share of a held-out case; emptier corners of the boxes are left out
# Boxes in mm, (first, last + 1) along x (left to right), y (back to front), z (bottom to top). The template is
# symmetric to the bit, so that a held-out hemisphere would be the mirror image of a training one: front and back part.
TRAINING = ((-74, 75), (-108, -8), (-72, 84))
VALIDATION = ((0, 64), (4, 68), (-36, -4))
TEST = ((0, 64), (4, 68), (0, 64))
DESCRIPTION = (
    "Brain tissue in the ICBM 152 nonlinear symmetric 2009a T1 template, 1 mm. Everything behind y = -8 mm trains; the "
    "right frontal lobe, from y = 4 mm on, is held out, its lower layer for model selection, the rest for tests. The "
    "left frontal lobe is left out: the template is symmetric, so it is the mirror image of the right one."
)


def prepare_mni152(output: str | Path) -> Path:
    """Write the cases as NIfTI files with their affines, and ``dataset.json`` that lists them.

    Nothing is downloaded: the volumes come with nilearn (extra ``demo``). A folder that is already complete is left as
    it is.

    Args:
        output: folder to write to; made if need be.

    Returns:
        The path of ``dataset.json``, in the form of the Medical Segmentation Decathlon, with the keys ``"training"``,
        ``"validation"`` and ``"test"``.

    Raises:
        ValueError: if nilearn or one of its volumes is missing, or ``output`` holds another dataset.
    """
    output = Path(output)
    datalist = output / "dataset.json"
    if datalist.is_file():
        if _complete(datalist):
            return datalist
        raise ValueError(f"output must be empty or hold the MNI152 cases as they were written, got {str(output)!r}.")
    require_writable(datalist)
    image, label, affine = _load_tissue()
    boxes = {"training": [TRAINING], "validation": _blocks(VALIDATION), "test": _blocks(TEST)}
    cases = {split: _write_split(output, split, boxes[split], image, label, affine) for split in boxes}
    content = {
        "name": "MNI152 brain tissue",
        "description": DESCRIPTION,
        "licence": "ICBM 2009a, McConnell Brain Imaging Centre, McGill University; see data_license.txt of the bundle",
        "modality": {"0": "T1"},
        "labels": {str(index): name for index, name in enumerate(CLASSES)},
        "numTraining": len(cases["training"]),
        "numTest": len(cases["test"]),
        **cases,
        "sha256": {name: sha256(output / name) for split in cases.values() for case in split for name in case.values()},
    }
    write_json(datalist, content)
    return datalist


def _complete(datalist: Path) -> bool:
    """Tell whether every listed file is there as it was written."""
    try:
        listed = read_json(datalist).get("sha256", {})
    except ValueError:
        return False
    files = {name: datalist.parent / name for name in listed}
    return bool(files) and all(path.is_file() and sha256(path) == listed[name] for name, path in files.items())


def _load_tissue() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the T1, its labels and its affine."""
    nilearn, found = optional_import("nilearn")
    if not found:
        raise ValueError('nilearn is not installed, and the demo data come with it; pip install ".[demo]".')
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    missing = [name for name in FILES.values() if not (folder / name).is_file()]
    if missing:
        raise ValueError(f"nilearn must ship {missing[0]!r}, got a version without it; install nilearn 0.11 to 0.14.")
    volumes: dict[str, Any] = {name: nib.load(folder / file) for name, file in FILES.items()}
    image = np.asarray(volumes["t1"].dataobj).astype(np.uint8)
    gray, white = (np.asarray(volumes[name].dataobj).astype(np.int16) for name in ("gm", "wm"))
    label = np.stack([255 - gray - white, gray, white]).argmax(axis=0).astype(np.uint8)
    return image, label, volumes["t1"].affine


def _blocks(box: tuple) -> list[tuple]:
    """Cut a box into cubes of ``BLOCK`` mm."""
    corners = product(*(range(first, last - BLOCK + 1, BLOCK) for first, last in box))
    return [tuple((start, start + BLOCK) for start in corner) for corner in corners]


def _write_split(
    output: Path, split: str, boxes: list[tuple], image: np.ndarray, label: np.ndarray, affine: np.ndarray
) -> list[dict[str, str]]:
    """Write the cases of a split that hold enough tissue; return their relative paths."""
    suffix = {"training": "Tr", "validation": "Val", "test": "Ts"}[split]
    origin = affine[:3, 3].round().astype(int)
    cases: list[dict[str, str]] = []
    for box in boxes:
        start = [first - edge for (first, _), edge in zip(box, origin, strict=True)]
        part = tuple(slice(a, a + last - first) for a, (first, last) in zip(start, box, strict=True))
        if (label[part] > 0).mean() < LEAST_TISSUE:
            continue
        place = affine.copy()
        place[:3, 3] = affine[:3, :3] @ start + affine[:3, 3]
        case = {kind: f"{kind}s{suffix}/mni152_{split}_{len(cases):02d}.nii.gz" for kind in ("image", "label")}
        write_volume(output / case["image"], image[part], place)
        write_volume(output / case["label"], label[part], place)
        cases.append(case)
    return cases

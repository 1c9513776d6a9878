"""What the slice viewer of a report draws: one case under every attack, packed into texts that fit into a page."""

from __future__ import annotations

import base64
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vafa_monai.reports.chart import class_colors
from vafa_monai.results.attack_name import CLEAN, attack_title
from vafa_monai.results.case import mean_known
from vafa_monai.results.document import require
from vafa_monai.results.result import Result
from vafa_monai.results.result_set import Comparison

__all__ = ["CaseVolume", "load_volume", "viewer_content"]

VOLUMES = ("clean", "delta", "label", "pred")
SCALES = ("volume_delta_grey", "volume_spacing", "spectrum_energy", "spectrum_coefficients")
BYTES = {"clean": "uint8", "delta": "int8", "label": "uint8", "pred": "uint8"}


@dataclass(frozen=True, kw_only=True)
class CaseVolume:
    """Arrays of shape ``(H, W, D)``, a byte a voxel, as :func:`small_volume` of the handler makes them.

    Args:
        delta_gray: change of the image, in gray levels, that a ``delta`` of 127 stands for.
        spacing: millimeters between voxels.
        energy: share of the energy of the perturbation in every band of frequency; all 0 for the clean run.
        coefficients: share of the coefficients in every band.
    """

    case: str
    clean: NDArray[np.uint8]
    delta: NDArray[np.int8]
    label: NDArray[np.uint8]
    pred: NDArray[np.uint8]
    delta_gray: float
    spacing: tuple[float, float, float]
    energy: tuple[float, ...]
    coefficients: tuple[float, ...]


def load_volume(result: Result) -> CaseVolume | None:
    """Read the volume that a result points to, or return ``None`` if it has none.

    Raises:
        ValueError: if the file does not hold four volumes of one 3D shape, a byte a voxel, with classes that the result
            names, spacing, scale and spectrum.
    """
    if result.slices is None:
        return None
    name = f"{result.slices.parent.name}/{result.slices.name}"
    try:
        with np.load(result.slices, allow_pickle=False) as file:
            content = {key: file[key] for key in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"slices must be a file of arrays, got {str(error)!r} for {name}.") from error
    if "volume_clean" not in content:  # a result of an earlier version
        return None
    return _parse(content, len(result.classes), name)


def _parse(content: dict[str, NDArray[np.generic]], n_classes: int, name: str) -> CaseVolume:
    """Check the arrays of a file and give them names."""
    missing = [key for key in (*(f"volume_{key}" for key in VOLUMES), "case", *SCALES) if key not in content]
    require(not missing, f"volumes of {name}", "have every array", missing)
    volumes = {key: content[f"volume_{key}"] for key in VOLUMES}
    kinds = {key: str(volume.dtype) for key, volume in volumes.items()}
    require(kinds == BYTES, f"volumes of {name}", f"be of kind {BYTES}", kinds)
    shapes = {volume.shape for volume in volumes.values()}
    require(len(shapes) == 1 and len(next(iter(shapes))) == 3, f"volumes of {name}", "be of one 3D shape", shapes)
    highest = max(int(volumes[key].max()) for key in ("label", "pred"))
    require(highest < n_classes, f"volumes of {name}", f"have classes below {n_classes}", highest)
    scales = {key: tuple(np.ravel(content[key]).astype(float).tolist()) for key in SCALES}
    finite = all(np.isfinite(values).all() for values in scales.values())
    right = finite and len(scales["volume_spacing"]) == 3 and min(scales["volume_spacing"]) > 0
    bands = len(scales["spectrum_energy"]) == len(scales["spectrum_coefficients"]) > 0
    require(right and bands, f"volumes of {name}", "have spacing, scale and spectrum as finite numbers", scales)
    return CaseVolume(
        case=str(content["case"]),
        **volumes,  # type: ignore[arg-type]
        delta_gray=scales["volume_delta_grey"][0],
        spacing=scales["volume_spacing"],  # type: ignore[arg-type]
        energy=scales["spectrum_energy"],
        coefficients=scales["spectrum_coefficients"],
    )


SIGNED = 127
SMALLEST_SCALE = 0.5  # gray levels; rounding errors must not fill the colors
LARGEST_VIEWER = 9_000_000  # characters; a report stays below 15 MB with it

Bytes = NDArray[np.generic]
Volumes = Mapping[tuple[str, str], CaseVolume]


def viewer_content(comparison: Comparison, volumes: Volumes, *, largest: int = LARGEST_VIEWER) -> dict[str, Any] | None:
    """Return what the viewer shows as JSON, or ``None`` if no model has a clean run and an attack to show.

    Every volume is a list of axial slices, each with the first axis to the right and the second up, as bytes, deflated,
    in base64; equal volumes are kept once. If all would take more than ``largest`` characters, every second, third, ...
    slice is left out.

    Args:
        comparison: the results.
        volumes: what :func:`vafa_monai.reports.viewer.load_volume` gave, by model and attack.
        largest: how many characters the volumes may take.
    """
    shown = _shown(comparison, volumes)
    if not shown:
        return None
    depth = max(volumes[model, CLEAN].clean.shape[2] for model in shown)
    step = 1
    while step <= depth:
        content = _content(comparison, volumes, shown, step)
        size = sum(map(len, content["volumes"]))
        if size <= largest:
            return content
        step = max(step + 1, step * size // largest)
    return None


def pack(volume: Bytes, step: int = 1) -> str:
    """Return ``(H, W, D)`` bytes as deflated base64: slice after slice, the row of the largest W first.

    Example:
        >>> zlib.decompress(base64.b64decode(pack(np.array([[[1], [2]]], np.uint8)))).hex()
        '0201'
    """
    slices = np.ascontiguousarray(volume.transpose(2, 1, 0)[::step, ::-1])
    return base64.b64encode(zlib.compress(slices.tobytes(), 9)).decode()


def _shown(comparison: Comparison, volumes: Volumes) -> dict[str, list[str]]:
    """Return the attacks of every model whose volume fits to its clean run."""
    shown: dict[str, list[str]] = {}
    for model in comparison.models:
        clean = volumes.get((model, CLEAN))
        names = [*comparison.attacks("attack"), *comparison.attacks("control")]
        fitting = [name for name in names if clean and _same_case(clean, volumes.get((model, name)))]
        if fitting:
            shown[model] = fitting
    return shown


def _same_case(clean: CaseVolume, other: CaseVolume | None) -> bool:
    """Tell whether two volumes are of the same case, cropped alike."""
    return other is not None and other.case == clean.case and np.array_equal(other.label, clean.label)


def _content(comparison: Comparison, volumes: Volumes, shown: Mapping[str, Sequence[str]], step: int) -> dict[str, Any]:
    """Return the content with every ``step``-th slice."""
    packed: dict[str, int] = {}

    def add(volume: Bytes) -> int:
        return packed.setdefault(pack(volume, step), len(packed))

    classes = comparison.results[0].classes
    models = [_model(comparison, volumes, model, attacks, add, step) for model, attacks in shown.items()]
    return {
        "classes": list(classes),
        "colors": ["#000000", *class_colors(len(classes))],
        "models": models,
        "every": step,
        "volumes": list(packed),
    }


def _model(
    comparison: Comparison, volumes: Volumes, model: str, attacks: Sequence[str], add: Callable[[Bytes], int], step: int
) -> dict[str, Any]:
    """Return what is shown of one model."""
    clean = volumes[model, CLEAN]
    dice = [_dice(comparison, model, name, clean.case) for name in attacks]
    width, height, depth = clean.clean.shape
    return {
        "name": model,
        "case": clean.case,
        "size": [width, height, len(range(0, depth, step))],
        "ratio": round(width * clean.spacing[0] / (height * clean.spacing[1]), 4),
        "dice": _dice(comparison, model, CLEAN, clean.case),
        **{key: add(getattr(clean, key)) for key in ("clean", "label", "pred")},
        "start": min(range(len(attacks)), key=lambda index: _height(dice[index])),
        "attacks": [
            {
                "title": attack_title(name),
                "delta": add(volumes[model, name].delta),
                "gray": round(volumes[model, name].delta_gray, 4),
                "scale": round(_scale(volumes[model, name]), 4),
                "pred": add(volumes[model, name].pred),
                "dice": scores,
            }
            for name, scores in zip(attacks, dice, strict=True)
        ],
    }


def _scale(volume: CaseVolume) -> float:
    """Return the gray levels at the ends of the colors of a change: nearly all of its voxels lie between them."""
    shown = float(np.percentile(np.abs(volume.delta.astype(np.int16)), 99.5)) / SIGNED * volume.delta_gray
    return max(SMALLEST_SCALE, shown)


def _height(dice: Sequence[float | None]) -> float:
    """Return the foreground DSC of a case by which the viewer begins with the attack that harms most."""
    mean = mean_known(dice[1:])
    return 1.0 if mean is None else mean


def _dice(comparison: Comparison, model: str, attack: str, name: str) -> list[float | None]:
    """Return the DSC of every class of one case under one attack."""
    result = comparison.get(model, attack)
    cases = () if result is None else result.cases
    return next((list(case.dice) for case in cases if case.case == name), [])

"""The small volume of one case that a result keeps: image, perturbation and masks, and a spectrum."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vafa_monai.reports.document_file import require
from vafa_monai.reports.result import Result

__all__ = ["CaseVolume", "load_volume"]

VOLUMES = ("clean", "delta", "label", "pred")
SCALES = ("volume_delta_grey", "volume_spacing", "spectrum_energy", "spectrum_coefficients")
BYTES = {"clean": "uint8", "delta": "int8", "label": "uint8", "pred": "uint8"}


@dataclass(frozen=True, kw_only=True)
class CaseVolume:
    """Arrays of shape ``(H, W, D)``, a byte a voxel, as :func:`vafa_monai.handlers.snapshot.small_volume` makes them.

    Args:
        delta_grey: change of the image, in grey levels, that a ``delta`` of 127 stands for.
        spacing: millimetres between voxels.
        energy: share of the energy of the perturbation in every band of frequency; all 0 for the clean run.
        coefficients: share of the coefficients in every band.
    """

    case: str
    clean: NDArray[np.uint8]
    delta: NDArray[np.int8]
    label: NDArray[np.uint8]
    pred: NDArray[np.uint8]
    delta_grey: float
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
        delta_grey=scales["volume_delta_grey"][0],
        spacing=scales["volume_spacing"],  # type: ignore[arg-type]
        energy=scales["spectrum_energy"],
        coefficients=scales["spectrum_coefficients"],
    )

"""Checks of cases before long work starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = ["check_cases"]

logger = logging.getLogger(__name__)
AFFINE_TOLERANCE = 1e-3  # mm
RANGE_TOLERANCE = 1e-4  # of the width of value_range


def check_cases(
    data: Sequence[Mapping[str, Any]],
    *,
    num_classes: int,
    preprocessing: Callable[[Any], Any] | None = None,
    value_range: Sequence[float] | None = (0.0, 1.0),
    roi_size: Sequence[int] | None = None,
    unique_names: bool = False,
    exit_on_error: bool = False,
) -> None:
    """Refuse cases that cannot be trained on or attacked, each with one sentence.

    Args:
        data: cases, dictionaries with the paths ``"image"`` and ``"label"``.
        num_classes: number of classes with the background.
        preprocessing: deterministic transforms of a case, after which the intensities and the size are checked.
        value_range: lowest and highest intensity after ``preprocessing``; ``None`` allows every finite one.
        roi_size: window of the network in voxels; a smaller volume is refused.
        unique_names: refuse two images of one file name, whose results could not be told apart.
        exit_on_error: end the process with the sentence and exit code 1, as configs do, instead of raising.

    Raises:
        ValueError: if there is no case, a file is missing or unreadable, an image has NaN or is constant, a label is
            outside the classes, image and label differ in shape or affine, an intensity is outside ``value_range``, or
            a volume is smaller than the window.
    """
    try:
        _check_list(data, unique_names)
        for case in data:
            _check_files(case, num_classes)
            if preprocessing is not None:
                _check_preprocessed(case, preprocessing, value_range, roi_size)
    except ValueError as error:
        _fail(error, exit_on_error)
    logger.info("checked %d cases", len(data))


def _check_list(data: Sequence[Mapping[str, Any]], unique_names: bool) -> None:
    """Check that there are cases, each with two paths."""
    if not data:
        raise ValueError("data must hold at least one case, got an empty list.")
    names = set()
    for case in data:
        for kind in ("image", "label"):
            if not isinstance(case.get(kind), (str, Path)):
                raise ValueError(f"case must have one path as {kind!r}, got {case.get(kind)!r}.")
        name = Path(case["image"]).name
        if unique_names and name in names:
            raise ValueError(f"images must have file names that differ, got {name!r} twice.")
        names.add(name)


def _fail(error: ValueError, exit_on_error: bool) -> None:
    """Raise the error, or end the process with its sentence."""
    if exit_on_error:
        raise SystemExit(str(error)) from None
    raise error


def _load(path: Any, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Read a volume and its affine."""
    if not Path(path).is_file():
        raise ValueError(f"{kind} must be a file, got {str(path)!r}.")
    try:
        volume: Any = nib.load(path)
        return np.asanyarray(volume.dataobj), volume.affine
    except Exception as error:
        raise ValueError(f"{kind} must be a readable volume, got {str(path)!r} ({error}).") from error


def _check_files(case: Mapping[str, Any], num_classes: int) -> None:
    """Check the two files of a case."""
    (image, affine), (label, label_affine) = (_load(case[kind], kind) for kind in ("image", "label"))
    where = f" for {str(case['image'])!r}"
    if image.shape != label.shape:
        raise ValueError(f"label must have the shape of its image {image.shape}, got {label.shape}{where}.")
    if not np.allclose(affine, label_affine, atol=AFFINE_TOLERANCE):
        distance = np.abs(affine - label_affine).max()
        raise ValueError(f"label must have the affine of its image, got one that differs by {distance:.3g} mm{where}.")
    if not np.isfinite(image).all():
        raise ValueError(f"image must be finite, got {int((~np.isfinite(image)).sum())} NaN or infinite voxels{where}.")
    if image.min() == image.max():
        raise ValueError(f"image must not be constant, got {image.min():g} everywhere{where}.")
    low, high = label.min(), label.max()
    if not (low >= 0 and high < num_classes and np.array_equal(label, np.round(label))):
        rule = f"hold whole class indices from 0 to {num_classes - 1}"
        raise ValueError(f"label must {rule}, got values from {low:g} to {high:g}{where}.")


def _check_preprocessed(
    case: Mapping[str, Any],
    preprocessing: Callable[[Any], Any],
    value_range: Sequence[float] | None,
    roi_size: Sequence[int] | None,
) -> None:
    """Check what the network will see of a case."""
    image = preprocessing(dict(case))["image"]
    where = f" for {str(case['image'])!r}"
    shape = tuple(image.shape[1:])
    if roi_size is not None and any(size < edge for size, edge in zip(shape, roi_size, strict=True)):
        raise ValueError(f"image must be at least as large as the window {tuple(roi_size)}, got {shape}{where}.")
    low, high = float(image.min()), float(image.max())
    least, most = (-math.inf, math.inf) if value_range is None else value_range
    slack = 0.0 if value_range is None else RANGE_TOLERANCE * (most - least)
    if not (-math.inf < low and least - slack <= low and high <= most + slack and high < math.inf):  # NaN fails
        rule = f"lie in value_range {(least, most)} after preprocessing"
        raise ValueError(f"image must {rule}, got {low:.4g} to {high:.4g}{where}.")

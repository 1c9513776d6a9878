"""One axial slice of one case: the image before and after an attack, its truth and the prediction."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vafa_monai.reports.result import Result

__all__ = ["AxialSlice", "load_slice", "worst_window"]

GREY_LEVELS = 255


@dataclass(frozen=True, kw_only=True)
class AxialSlice:
    """Arrays of shape ``(H, W)``: ``clean`` and ``adv`` in [0, 1], ``label`` and ``pred`` as class numbers."""

    case: str
    clean: NDArray[np.floating]
    adv: NDArray[np.floating]
    label: NDArray[np.integer]
    pred: NDArray[np.integer]

    @property
    def delta_grey(self) -> NDArray[np.floating]:
        """The perturbation ``adv - clean`` in grey levels of a 0-255 range."""
        return GREY_LEVELS * (self.adv - self.clean)


def load_slice(result: Result) -> AxialSlice | None:
    """Read the slice that a result points to, or return ``None`` if it has none.

    Raises:
        ValueError: if the file is no slice: four finite arrays of one 2D shape, with classes that the
            result names, and the name of the case.
    """
    if result.slices is None:
        return None
    name = f"{result.slices.parent.name}/{result.slices.name}"
    try:
        with np.load(result.slices, allow_pickle=False) as file:
            arrays = {key: file[key] for key in ("clean", "adv", "label", "pred")}
            case = str(file["case"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"slices must hold clean, adv, label, pred and case, got {str(error)!r} for {name}."
        ) from error
    shapes = {key: array.shape for key, array in arrays.items()}
    if len(set(shapes.values())) > 1 or len(shapes["clean"]) != 2:
        raise ValueError(f"slices must be of one 2D shape, got {shapes!r} for {name}.")
    if not all(np.isfinite(arrays[key]).all() for key in ("clean", "adv")):
        raise ValueError(f"slices must have finite intensities, got NaN or infinity for {name}.")
    highest = max(int(arrays[key].max()) for key in ("label", "pred"))
    if highest >= len(result.classes):
        raise ValueError(f"slices must have classes below {len(result.classes)}, got {highest!r} for {name}.")
    return AxialSlice(case=case, **arrays)


def worst_window(before: AxialSlice, after: AxialSlice) -> tuple[int, int, int] | None:
    """Find where an attack broke most: the square window, a quarter of the slice, with most voxels newly wrong.

    Returns:
        Its first row, first column and edge; ``None`` if nothing is newly wrong or the two slices are not the same.
    """
    if not np.array_equal(before.label, after.label):
        return None
    broken = (after.pred != after.label) & (before.pred == before.label)
    edge = max(1, min(broken.shape) // 4)
    counts = sliding_window_view(broken, (edge, edge)).sum(axis=(2, 3))
    row, column = np.unravel_index(counts.argmax(), counts.shape)
    return (int(row), int(column), edge) if counts.max() else None

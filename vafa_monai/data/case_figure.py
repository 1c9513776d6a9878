"""A picture of some cases: the axial slice in the middle of each label, with the outlines of its classes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

__all__ = ["Sample", "case_figure", "middle_slice"]

COLUMNS, CELL, HEAD, LEGEND_LINE, LEGEND_COLUMN = 3, 2.6, 0.25, 0.2, 1.9  # cases in a row; inches
DPI = 110
BLACK, WHITE = 0.5, 99.5  # percentiles

Slice = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A case to show: its title and its two files."""

    title: str
    image: Path
    label: Path


def case_figure(samples: Sequence[Sample], classes: Sequence[str], window: tuple[float, float] | None) -> bytes:
    """Draw the cases and return the picture as a PNG file, always with the same bytes.

    The patient's right is on the left and the front is up, as radiologists look at slices.

    Args:
        samples: cases with image and label in the same voxels.
        classes: names of the classes, the background first.
        window: intensities from black to white; ``None`` for the percentiles 0.5 and 99.5 of the slice.
    """
    slices = [middle_slice(sample) for sample in samples]
    columns, rows = min(COLUMNS, len(samples)), math.ceil(len(samples) / COLUMNS)
    height = HEAD + CELL * max(aspect * image.shape[0] / image.shape[1] for image, _, aspect in slices)
    per_line = max(1, int(columns * CELL / LEGEND_COLUMN))
    legend = LEGEND_LINE * math.ceil((len(classes) - 1) / per_line) + 0.2
    colors = [colormaps["tab20"](index % 20) for index in range(len(classes) - 1)]
    with rc_context({"font.family": ["DejaVu Sans"], "font.size": 8, "text.usetex": False, "text.parse_math": False}):
        figure = Figure(figsize=(columns * CELL, rows * height + legend))
        for index, (sample, one) in enumerate(zip(samples, slices, strict=True)):
            row, column = divmod(index, COLUMNS)
            low = (legend + (rows - 1 - row) * height) / (rows * height + legend)
            box = (column / columns, low, 0.98 / columns, (height - HEAD) / (rows * height + legend))
            _draw(figure.add_axes(box), sample.title, one, colors, window)
        patches = [Patch(color=color, label=name) for color, name in zip(colors, classes[1:], strict=True)]
        figure.legend(handles=patches, ncols=per_line, loc="lower center", frameon=False, fontsize=7.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def middle_slice(sample: Sample) -> Slice:
    """Return image and label of the axial slice in the middle of the label, front up and right side left.

    Returns:
        Two arrays ``(rows, columns)`` and the height of a voxel in widths.
    """
    volumes: list[Any] = [nib.as_closest_canonical(nib.load(path)) for path in (sample.image, sample.label)]
    image, label = (np.asarray(volume.dataobj) for volume in volumes)
    labeled = np.flatnonzero(label.any(axis=(0, 1)))
    middle = labeled[len(labeled) // 2] if labeled.size else label.shape[2] // 2
    width, height = nib.affines.voxel_sizes(volumes[0].affine)[:2]
    return image[::-1, ::-1, middle].T, label[::-1, ::-1, middle].T, float(height / width)


def _draw(axes: Axes, title: str, one: Slice, colors: Sequence[Any], window: tuple[float, float] | None) -> None:
    """Draw one case."""
    image, label, aspect = one
    low, high = np.percentile(image, [BLACK, WHITE]) if window is None else window
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    for index, color in enumerate(colors, start=1):
        if (label == index).any():
            axes.contour(label == index, levels=[0.5], colors=[color], linewidths=1)
    axes.set_title(title, fontsize=8, pad=3)
    axes.axis("off")

"""The picture of a report, in the manner of Fig. 2 of the paper: what attacks do to a slice and to its segmentation."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from vafa_monai.reports.chart import class_colors, house_style, save_png
from vafa_monai.results.attack_name import CLEAN, attack_title
from vafa_monai.results.result import Result
from vafa_monai.results.result_set import Comparison

__all__ = ["attack_figure"]

GRAY_LEVELS = 255


@dataclass(frozen=True, kw_only=True)
class AxialSlice:
    """Arrays of shape ``(H, W)``: ``clean`` and ``adv`` in [0, 1], ``label`` and ``pred`` as class numbers."""

    case: str
    clean: NDArray[np.floating]
    adv: NDArray[np.floating]
    label: NDArray[np.integer]
    pred: NDArray[np.integer]

    @property
    def delta_gray(self) -> NDArray[np.floating]:
        """The perturbation ``adv - clean`` in gray levels of a 0-255 range."""
        return GRAY_LEVELS * (self.adv - self.clean)


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


CELL, LABELS, HEAD, CAPTION, GAP = 1.25, 0.48, 0.3, 0.2, 0.1  # inches
ROWS = ("image", "perturbation", "prediction")
LEGEND_LINE, LEGEND_COLUMN = 0.18, 1.25
OPACITY = 0.68
MARK = "#E5002B"
SIGNED = LinearSegmentedColormap.from_list("signed", ["#2166AC", "#F7F7F7", "#B2182B"])
SMALLEST_SCALE = 0.5  # gray levels; rounding errors must not fill the colormap

Slices = Mapping[tuple[str, str], AxialSlice]


@dataclass(frozen=True)
class _Panel:
    """What all cells of the figure share."""

    slices: Slices
    models: Sequence[str]
    attacks: Sequence[str]
    scales: Mapping[str, float]
    colors: Mapping[str, str]


@dataclass(frozen=True)
class _Layout:
    """Places in inches: rows of a model close together, captions below the last two, the legend at the bottom."""

    n_models: int
    n_attacks: int
    n_classes: int
    height: float

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure."""
        legend = LEGEND_LINE * math.ceil(self.n_classes / self.legend_columns) + 0.1
        return LABELS + self.n_attacks * CELL + 0.08, HEAD + self.n_models * (self.block + GAP) + legend

    @property
    def legend_columns(self) -> int:
        """Classes that fit side by side below the cells."""
        return max(1, min(self.n_classes, int(self.n_attacks * CELL / LEGEND_COLUMN)))

    @property
    def block(self) -> float:
        """Height of the rows of one model."""
        return len(ROWS) * self.height + 2 * CAPTION

    def top(self, model: int, row: int) -> float:
        """Distance of the upper edge of a row from the top."""
        return HEAD + model * (self.block + GAP) + row * self.height + max(0, row - 1) * CAPTION

    def box(self, model: int, row: int, column: int, margin: float = 0.03) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a cell, as matplotlib wants them."""
        width, height = self.size
        left, bottom = LABELS + column * CELL + margin, height - self.top(model, row) - self.height + margin
        return left / width, bottom / height, (CELL - 2 * margin) / width, (self.height - 2 * margin) / height

    def beside(self, inches: float, middle: float) -> tuple[float, float]:
        """Return the point that far from the left and from the top."""
        width, height = self.size
        return inches / width, 1 - middle / height


def attack_figure(results: Sequence[Result], path: str | Path, *, attacks: Sequence[str] | None = None) -> Path:
    """Draw one slice under every attack and write it as a PNG file.

    A column is an attack, three rows are a model: the attacked slice, the perturbation ``adv - clean`` (red brighter,
    blue darker, its scale in gray levels below), and the predicted classes with the foreground DSC of the whole case.
    The ground truth is in the column of the clean run. A red box marks the window in which most voxels became wrong.
    The first axis of a slice points right and the second up, as in volumes that MONAI's
    ``Orientationd(axcodes="RAS")`` has turned.

    Args:
        results: what :func:`load_results` gave back; those without a slice are left out.
        path: the file to write.
        attacks: names of the columns after the clean one; the default is every result of role ``"attack"``.

    Returns:
        The path of the file.

    Raises:
        ValueError: if no result has a slice.
    """
    comparison = Comparison(results)
    wanted = [CLEAN, *(comparison.attacks("attack") if attacks is None else attacks)]
    slices = {(r.model, r.attack): one for r in results if r.attack in wanted and (one := load_slice(r))}
    if not slices:
        raise ValueError(f"results must have a slice for one of the attacks, got {wanted!r}.")
    attacks = [name for name in wanted if any(attack == name for _, attack in slices)]
    names = results[0].classes[1:]
    panel = _Panel(
        slices=slices,
        models=[model for model in comparison.models if any(name == model for name, _ in slices)],
        attacks=attacks,
        scales={name: _scale(slices, name) for name in attacks},
        colors=dict(zip(names, class_colors(len(names) + 1), strict=True)),
    )
    with house_style():
        return save_png(_draw(comparison, panel), path)


def _scale(slices: Slices, attack: str) -> float:
    """Return the gray levels at the ends of the colormap, the same for every model: the 99.5th percentile."""
    deltas = [np.percentile(np.abs(one.delta_gray), 99.5) for (_, name), one in slices.items() if name == attack]
    return max(SMALLEST_SCALE, float(max(deltas)))


def _draw(comparison: Comparison, panel: _Panel) -> Figure:
    """Draw all cells, the names of rows and columns, and the legend."""
    height, width = _upright(next(iter(panel.slices.values())).clean).shape
    layout = _Layout(len(panel.models), len(panel.attacks), len(panel.colors), CELL * height / width)
    figure = Figure(figsize=layout.size)
    for number, model in enumerate(panel.models):
        upright: dict[str, Any] = {"rotation": 90, "va": "center", "ha": "center"}
        middle = layout.top(number, 0) + layout.block / 2
        figure.text(*layout.beside(0.14, middle), model, weight="bold", fontsize=10, **upright)
        for row, name in enumerate(ROWS):
            figure.text(*layout.beside(0.36, layout.top(number, row) + layout.height / 2), name, fontsize=8, **upright)
            for column, attack in enumerate(panel.attacks):
                axes = figure.add_axes(layout.box(number, row, column))
                _draw_cell(axes, panel, comparison.get(model, attack), name, first=number == 0)
                if number == row == 0:
                    axes.set_title(attack_title(attack), fontsize=9, weight="bold", pad=5)
    patches = [Patch(color=color, label=name) for name, color in panel.colors.items()]
    compact: dict[str, Any] = {"frameon": False, "handlelength": 1, "labelspacing": 0.3, "borderaxespad": 0.2}
    figure.legend(handles=patches, loc="lower center", ncols=layout.legend_columns, **compact)
    return figure


def _draw_cell(axes: Axes, panel: _Panel, result: Result | None, row: str, *, first: bool) -> None:
    """Draw one row of one result; the perturbation of the clean run gives its place to the ground truth."""
    axes.set_xticks([])
    axes.set_yticks([])
    one = None if result is None else panel.slices.get((result.model, result.attack))
    if result is None or one is None:
        axes.set_axis_off()
        return
    if row == "image":
        _draw_gray(axes, one.adv)
    elif row == "prediction":
        _draw_classes(axes, one.adv, one.pred, list(panel.colors.values()))
        axes.set_xlabel(_dice_of_case(result, one.case), labelpad=3)
        _mark_window(axes, panel.slices.get((result.model, CLEAN)), one)
    elif result.attack != CLEAN:
        scale = panel.scales[result.attack]
        delta = _upright(one.delta_gray)
        axes.imshow(delta, cmap=SIGNED, vmin=-scale, vmax=scale, interpolation="nearest", aspect="auto")
        axes.set_xlabel(f"±{scale:.1f} gray levels", fontsize=7.5, labelpad=3)
    elif first:
        _draw_classes(axes, one.clean, one.label, list(panel.colors.values()))
        axes.set_xlabel("ground truth", fontsize=7.5, labelpad=3)
    else:
        axes.set_axis_off()


def _draw_gray(axes: Axes, image: NDArray[np.floating]) -> None:
    """Draw intensities of [0, 1] in gray."""
    axes.imshow(_upright(image), cmap="gray", vmin=0, vmax=1, interpolation="bicubic", aspect="auto")


def _draw_classes(axes: Axes, image: NDArray[np.floating], classes: NDArray[np.integer], colors: Sequence[str]) -> None:
    """Draw classes in color over an image; the background stays as it is."""
    _draw_gray(axes, image)
    palette = np.array([(0, 0, 0, 0), *(to_rgba(color, OPACITY) for color in colors)])
    axes.imshow(palette[_upright(classes)], interpolation="nearest", aspect="auto")


def _mark_window(axes: Axes, clean: AxialSlice | None, one: AxialSlice) -> None:
    """Box the part of a slice that an attack broke most."""
    window = None if clean is None else worst_window(clean, one)
    if window is not None:
        row, column, edge = window
        corner = (row - 0.5, one.pred.shape[1] - column - edge - 0.5)  # as _upright turns the slice
        axes.add_patch(Rectangle(corner, edge, edge, fill=False, edgecolor=MARK, linewidth=1.3))


def _upright(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """Turn an ``(H, W)`` slice so that H points right and W up."""
    return np.rot90(array)


def _dice_of_case(result: Result, name: str) -> str:
    """Return the foreground DSC of the case that the slice is from."""
    dice = next((case.foreground_dice for case in result.cases if case.case == name), None)
    return "" if dice is None else f"DSC {dice:.3f}"

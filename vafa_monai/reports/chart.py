"""The bar chart of a report: foreground DSC under every attack, model beside model, with a dot for every case."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vafa_monai.data.files import write_whole
from vafa_monai.reports.statistics import area_under_curve, half_loss
from vafa_monai.results.attack_name import CLEAN, attack_title
from vafa_monai.results.audit import Audit, Curve
from vafa_monai.results.result import Result
from vafa_monai.results.result_set import Comparison

__all__ = ["class_colors", "curve_chart", "curve_charts", "dice_chart", "house_style", "model_colors", "save_png"]

OKABE_ITO = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
TOL_MUTED = ("#882255", "#44AA99", "#999933", "#AA4499", "#332288", "#DDCC77", "#117733")
CLASSES = (*OKABE_ITO, *TOL_MUTED)
MODELS = ("#6B7785", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#882255", "#44AA99", "#332288")


def class_colors(n_classes: int) -> list[str]:
    """Return one color for each class but the first, the background; they repeat after 14."""
    return [CLASSES[index % len(CLASSES)] for index in range(n_classes - 1)]


def model_colors(models: list[str]) -> dict[str, str]:
    """Return one color for each model, gray for the first; they repeat after 9."""
    return {model: MODELS[index % len(MODELS)] for index, model in enumerate(models)}


INK = "#1F2933"


def house_style() -> AbstractContextManager[None]:
    """Return a context in which figures get the fonts and colors of a report, whatever the user has set."""
    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans"],
        "font.size": 8.5,
        "text.color": INK,
        "text.usetex": False,
        "text.parse_math": False,  # a "$" in a name is a "$"
        "axes.labelcolor": INK,
        "axes.edgecolor": "#B8C1CC",
        "axes.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    return rc_context(settings)


def save_png(figure: Figure, path: str | Path, *, dpi: int = 180) -> Path:
    """Write a figure as a PNG file in one step and return its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return write_whole(path, buffer.getvalue())


GAP = 0.45  # between clean, attacks and controls, in groups


def dice_chart(results: Sequence[Result], path: str | Path) -> Path:
    """Draw the foreground DSC of every model under every attack and write it as a PNG file.

    Bars are means over the cases, dots the cases, short lines the same model without attack. The axis starts at 0.

    Args:
        results: what :func:`load_results` gave back.
        path: the file to write.

    Returns:
        The path of the file.
    """
    comparison = Comparison(results)
    clean = [CLEAN] if CLEAN in comparison.attacks() else []
    groups = [group for group in (clean, comparison.attacks("attack"), comparison.attacks("control")) if group]
    positions = _positions(groups)
    with house_style():
        figure = Figure(figsize=(max(5.0, 1.4 + 0.78 * max(positions.values())), 3.5), layout="constrained")
        axes = figure.add_subplot()
        for index, model in enumerate(comparison.models):
            _draw_model(axes, comparison, model, index, positions)
        _decorate(axes, comparison, positions)
        return save_png(figure, path)


def _positions(groups: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return the place of every attack on the axis, with gaps between the groups."""
    names = [(name, number) for number, group in enumerate(groups) for name in group]
    return {name: index + GAP * number for index, (name, number) in enumerate(names)}


def _draw_model(axes: Axes, comparison: Comparison, model: str, index: int, positions: dict[str, float]) -> None:
    """Draw the bars of one model, with their values, dots and clean lines."""
    count = len(comparison.models)
    width = 0.8 / count
    color = model_colors(comparison.models)[model]
    clean = comparison.clean_dice(model)
    for attack, position in positions.items():
        result = comparison.get(model, attack)
        dice = None if result is None else result.summary["dice"]
        if result is None or dice is None:
            continue
        center = position + (index - (count - 1) / 2) * width
        axes.bar(center, dice, 0.92 * width, color=color, zorder=2)
        axes.text(center, 0.02, f"{dice:.2f}", ha="center", color="white", fontsize=7 if count < 3 else 5.5, zorder=3)
        if clean is not None and attack != CLEAN:
            axes.hlines(clean, center - 0.46 * width, center + 0.46 * width, color=INK, linewidth=1.1, zorder=3)
        dots = [case.foreground_dice for case in result.cases if case.foreground_dice is not None]
        spread = np.linspace(-0.26, 0.26, len(dots)) * width if len(dots) > 1 else np.zeros(len(dots))
        axes.scatter(center + spread, dots, s=10, facecolor="white", edgecolor=INK, linewidth=0.6, zorder=4)


def _decorate(axes: Axes, comparison: Comparison, positions: dict[str, float]) -> None:
    """Name the attacks, shade the controls, add grid and legend."""
    axes.set_xticks(list(positions.values()), [_two_lines(attack_title(name)) for name in positions], fontsize=8)
    axes.set_xlim(-0.6, max(positions.values()) + 0.6)
    axes.set_ylim(0, 1.1)
    axes.set_yticks(np.linspace(0, 1, 6))
    axes.set_ylabel("foreground DSC")
    axes.grid(axis="y", color="#E4E7EB", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    places = [positions[name] for name in comparison.attacks("control")]
    if places:
        axes.axvspan(min(places) - 0.55, max(places) + 0.6, color="#F3F5F8", zorder=0)
        axes.text(min(places) - 0.48, 1.085, "controls", va="top", fontsize=8, style="italic", color="#52606D")
    handles: list[Artist] = [Patch(color=color, label=name) for name, color in model_colors(comparison.models).items()]
    dot: dict[str, Any] = {
        "marker": "o",
        "linestyle": "",
        "markersize": 3.5,
        "markerfacecolor": "white",
        "markeredgewidth": 0.6,
    }
    handles.append(Line2D([], [], color=INK, label="one case", **dot))
    handles.append(Line2D([], [], color=INK, linewidth=1.1, label="same model, clean"))
    axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=7,
        frameon=False,
        borderaxespad=0,
        handlelength=1,
    )


def _two_lines(title: str) -> str:
    """Break a title at the space nearest to its middle."""
    spaces = [index for index, letter in enumerate(title) if letter == " "]
    if not spaces or len(title) <= 10:
        return title
    best = min(spaces, key=lambda index: abs(index - len(title) / 2))
    return f"{title[:best]}\n{title[best + 1 :]}"


BUDGET_UNITS = ("gray levels", "grey levels")  # older audits have the second; an area over steps would mean nothing
WIDTH, HEIGHT = 420, 260
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 40
NEAREST_TICKS = 26


@dataclass(frozen=True, kw_only=True)
class CurveSeries:
    """The curve of one model.

    Args:
        places: ``(x, y)`` of every known point in the picture.
        area: area under the curve as it is drawn, divided by its width; ``None`` over steps.
        half_loss: budget at which half of the clean DSC is lost; ``None`` if it is not, or over steps.
    """

    model: str
    curve: Curve
    places: tuple[tuple[float, float], ...]
    area: float | None
    half_loss: float | None


@dataclass(frozen=True, kw_only=True)
class CurveChart:
    """Curves of one kind, model beside model; ``ticks`` are places and labels on the horizontal axis."""

    name: str
    x_label: str
    x_unit: str
    series: tuple[CurveSeries, ...]
    ticks: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def levels(self) -> list[tuple[float, str]]:
        """Places and labels on the vertical axis."""
        return [(_height(level / 4), f"{level / 4:g}") for level in range(5)]


def curve_charts(audits: Mapping[str, Audit]) -> list[CurveChart]:
    """Return a chart for each kind of curve; the horizontal axis is that of ``log2(1 + x)``, the vertical 0 to 1.

    Args:
        audits: audits by model, in the order of the models.
    """
    found: dict[str, dict[str, Curve]] = {}
    for model, audit in audits.items():
        for curve in audit.curves:
            found.setdefault(curve.name, {})[model] = curve
    return [curve_chart(name, curves) for name, curves in found.items()]


def curve_chart(name: str, curves: Mapping[str, Curve]) -> CurveChart:
    """Lay out the curves of one kind, by model; see :func:`curve_charts`."""
    values = sorted({x for curve in curves.values() for x in curve.x})
    first = next(iter(curves.values()))
    return CurveChart(
        name=name,
        x_label=first.x_label,
        x_unit=first.x_unit,
        series=tuple(_series(model, curve, values[0], values[-1]) for model, curve in curves.items()),
        ticks=tuple(_ticks(values)),
    )


def _series(model: str, curve: Curve, first: float, last: float) -> CurveSeries:
    """Lay out one curve."""
    budget = curve.x_unit in BUDGET_UNITS
    known = [(x, dice) for x, dice in zip(curve.x, curve.dice, strict=True) if dice is not None]
    return CurveSeries(
        model=model,
        curve=curve,
        places=tuple((_place(x, first, last), _height(dice)) for x, dice in sorted(known)),
        area=area_under_curve([_scale(x) for x in curve.x], curve.dice) if budget else None,
        half_loss=half_loss(curve.x, curve.dice) if budget else None,
    )


def _place(x: float, first: float, last: float) -> float:
    """Return the horizontal place of a value."""
    start, end = _scale(first), _scale(last)
    share = (_scale(x) - start) / (end - start) if end > start else 0.5
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _scale(x: float) -> float:
    """Return a budget or a number of steps on the horizontal axis."""
    return math.log2(1 + max(0.0, x))


def _height(dice: float) -> float:
    """Return the vertical place of a DSC."""
    return round(TOP + (1 - dice) * (HEIGHT - TOP - BOTTOM), 1)


def _ticks(values: Sequence[float]) -> list[tuple[float, str]]:
    """Return the values that have room for a label."""
    ticks: list[tuple[float, str]] = []
    for value in values:
        place = _place(value, values[0], values[-1])
        if not ticks or place - ticks[-1][0] >= NEAREST_TICKS:
            ticks.append((place, f"{value:g}"))
    return ticks

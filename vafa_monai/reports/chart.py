"""The bar chart of a report: foreground DSC under every attack, model beside model, with a dot for every case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from vafa_monai.reports.attack_name import CLEAN, attack_title
from vafa_monai.reports.canvas import INK, house_style, save_png
from vafa_monai.reports.comparison import Comparison
from vafa_monai.reports.palette import model_colors
from vafa_monai.reports.result import Result

__all__ = ["dice_chart"]

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

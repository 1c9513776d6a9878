"""Curves of audits as places on a picture that a page draws by itself, and the figures that a curve comes down to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vafa_monai.reports.audit_document import Audit, Curve
from vafa_monai.reports.statistics import area_under_curve, half_loss

__all__ = ["BUDGET_UNIT", "CurveChart", "CurveSeries", "curve_charts"]

BUDGET_UNIT = "grey levels"  # of a budget; an area over a number of steps would mean nothing
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
    return [_chart(name, curves) for name, curves in found.items()]


def _chart(name: str, curves: Mapping[str, Curve]) -> CurveChart:
    """Lay out the curves of one kind."""
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
    budget = curve.x_unit == BUDGET_UNIT
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

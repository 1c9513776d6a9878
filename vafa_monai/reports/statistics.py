"""Statistics of a report: intervals, paired tests, areas and rates of plain numbers; ``None`` is undefined.

Every function has an answer for too little data, and it is ``None`` or "no difference", never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.integrate import trapezoid
from scipy.stats import false_discovery_control, wilcoxon

from vafa_monai.metrics.interval import Interval, mean_interval

__all__ = [
    "Interval",
    "adjusted_p_values",
    "area_under_curve",
    "half_loss",
    "mean_interval",
    "paired_test",
    "rate",
    "smallest_p_value",
    "volume_error",
]


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """A Wilcoxon signed-rank test of ``n`` pairs; the differences are second minus first."""

    n: int
    difference: Interval
    p_value: float | None


def paired_test(first: Sequence[float | None], second: Sequence[float | None], *, seed: int = 0) -> PairedTest:
    """Test whether the second of two paired measurements differs from the first: two-sided Wilcoxon signed-rank test.

    Pairs without a difference are left out of the ranks (Wilcoxon's own rule). The test is exact up to 50 pairs
    without ties.

    Args:
        first: one number a case.
        second: the same of the other, in the same order; a pair with a ``None`` is left out.
        seed: seed of the interval of the mean difference.

    Returns:
        No pair: ``p_value`` is ``None``. No pair that differs: 1, as for a single pair.

    Raises:
        ValueError: if the two are not of the same length.

    Example:
        >>> paired_test([0.1, 0.2, 0.3, 0.4], [0.2, 0.4, 0.6, 0.8]).p_value  # all four rise: 2 / 2**4
        0.125
    """
    if len(first) != len(second):
        raise ValueError(f"second must have as many values as first, got {len(second)!r} for {len(first)}.")
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    differences = [b - a for a, b in pairs]
    moved = [difference for difference in differences if difference != 0]
    p_value = float(wilcoxon(moved).pvalue) if moved else 1.0
    interval = mean_interval(differences, seed=seed)
    return PairedTest(n=len(pairs), difference=interval, p_value=p_value if pairs else None)


def smallest_p_value(n: int) -> float:
    """Return the smallest p-value that the two-sided signed-rank test of ``n`` pairs can have, ``2 / 2**n``.

    Example:
        >>> smallest_p_value(5)  # five cases can never give p < 0.05
        0.0625
    """
    return min(1.0, 2.0 ** (1 - n))


def adjusted_p_values(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjust a family of p-values for the false discovery rate (Benjamini and Hochberg, JRSS B 1995).

    Args:
        p_values: one a comparison; ``None`` is kept and does not count as a comparison.

    Example:
        >>> adjusted_p_values([0.01, None, 0.04])
        [0.02, None, 0.04]
    """
    known = [value for value in p_values if value is not None]
    if not known:
        return list(p_values)
    adjusted = iter(false_discovery_control(known).tolist())
    return [None if value is None else next(adjusted) for value in p_values]


def area_under_curve(x: Sequence[float], y: Sequence[float | None]) -> float | None:
    """Return the area under a curve by the trapezoid rule, divided by the width: the mean height, 0 to 1 for a DSC.

    ``None`` if fewer than two points are known or they have no width.

    Example:
        >>> area_under_curve([0, 2, 4], [1.0, 0.5, 0.0])
        0.5
    """
    points = _known_points(x, y)
    if len(points) < 2 or points[0][0] == points[-1][0]:
        return None
    places, heights = np.array(points).T
    return float(trapezoid(heights, places) / np.ptp(places))


def half_loss(x: Sequence[float], y: Sequence[float | None]) -> float | None:
    """Return where a curve first falls to half of its value at 0, interpolated linearly between its points.

    ``None`` if it does not fall so far, or if its first known point is not at 0.

    Example:
        >>> half_loss([0, 4, 8], [0.8, 0.6, 0.2])  # half of 0.8 lies midway between 4 and 8
        6.0
    """
    points = _known_points(x, y)
    if not points or points[0][0] != 0 or points[0][1] <= 0:
        return None
    target = points[0][1] / 2
    for (left, above), (right, below) in pairwise(points):
        if below <= target:
            return left + (right - left) * (above - target) / (above - below)
    return None


def _known_points(x: Sequence[float], y: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the points whose height is known, from left to right."""
    return sorted((float(place), float(height)) for place, height in zip(x, y, strict=True) if height is not None)


def rate(count: int, possible: int) -> float | None:
    """Return a count as a fraction of what was possible, ``None`` where nothing was.

    Example:
        >>> rate(1, 4), rate(0, 0)
        (0.25, None)
    """
    return count / possible if possible else None


def volume_error(pred: float, truth: float) -> float | None:
    """Return how far a volume is off, as a fraction of the true one; ``None`` where there is nothing to be off from.

    Example:
        >>> volume_error(80.0, 100.0), volume_error(1.0, 0.0)
        (0.2, None)
    """
    return abs(pred - truth) / truth if truth > 0 else None

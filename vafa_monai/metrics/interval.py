"""The mean of a metric over cases, and the interval in which it would lie for other cases of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import bootstrap

__all__ = ["Interval", "mean_interval"]

CONFIDENCE = 0.95
RESAMPLES = 9999
ROUNDING = 1e-12  # values no farther apart are equal: their acceleration would be a division by almost 0


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean of ``n`` values with the ends of its confidence interval; both ends are ``None`` for fewer than two."""

    mean: float | None
    low: float | None
    high: float | None
    n: int


def mean_interval(values: Sequence[float | None], *, seed: int = 0) -> Interval:
    """Return the mean of the values that are known, with its bootstrap 95 % interval.

    The interval is bias-corrected and accelerated (Efron, JASA 1987), of 9999 resamples. Cases are resampled, so it
    tells what other cases of the same kind would give; it says nothing of other seeds, scanners or populations.

    Args:
        values: one number a case; ``None`` is left out.
        seed: seed of the resampling.

    Returns:
        No value: all ``None``. One value: its mean and no interval. Equal values: an interval of that value alone.

    Example:
        >>> mean_interval([0.5, None, 0.5])
        Interval(mean=0.5, low=0.5, high=0.5, n=2)
    """
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if len(known) < 2:
        return Interval(mean=float(known[0]) if len(known) else None, low=None, high=None, n=len(known))
    mean = float(known.mean())
    if np.ptp(known) <= ROUNDING:
        return Interval(mean=float(known[0]), low=float(known[0]), high=float(known[0]), n=len(known))
    low, high = bootstrap(
        (known,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean=mean, low=float(low), high=float(high), n=len(known))

"""How long the rest will take, by how long the first took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["TimeLeft"]


class TimeLeft:
    """Estimate the time of jobs that are left, kind by kind, from their costs and what was paid so far.

    Args:
        costs: cost of every job by kind, in a unit that is the same within a kind.

    Example:
        >>> left = TimeLeft({"row": [1, 2, 5]})
        >>> left.done("row", 1, seconds=10)
        >>> str(left)
        'about 70 s left'
    """

    def __init__(self, costs: Mapping[str, Sequence[float]]) -> None:
        self.left = {kind: list(jobs) for kind, jobs in costs.items()}
        self.paid = dict.fromkeys(costs, 0.0)
        self.seconds = dict.fromkeys(costs, 0.0)

    def skip(self, kind: str, cost: float) -> None:
        """Leave out a job that need not be done."""
        self.left[kind].remove(cost)

    def done(self, kind: str, cost: float, seconds: float) -> None:
        """Count a job that was done."""
        self.skip(kind, cost)
        self.paid[kind] += cost
        self.seconds[kind] += seconds

    def __str__(self) -> str:
        """Say how long, as far as it is known."""
        known = [kind for kind, jobs in self.left.items() if jobs and self.paid[kind]]
        unknown = [kind for kind, jobs in self.left.items() if jobs and not self.paid[kind]]
        total = sum(sum(self.left[kind]) * self.seconds[kind] / self.paid[kind] for kind in known)
        parts = [f"about {_duration(total)}"] if known else []
        parts += [f"{len(self.left[kind])} {kind}{'s' * (len(self.left[kind]) != 1)}" for kind in unknown]
        return f"{' and '.join(parts)} left" if parts else "nothing left"


def _duration(seconds: float) -> str:
    """Write seconds in the unit that fits."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"

"""Checks of the cases: nobody trained on them, and there are enough of them."""

from __future__ import annotations

from itertools import combinations

from vafa_monai.audit.arsenal import headline
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditSubject
from vafa_monai.metrics.interval import mean_interval

__all__ = ["DATA_CHECKS", "check_splits", "check_statistics"]

FEW = 5  # cases; an interval of fewer tells nothing


def check_splits(subject: AuditSubject) -> Finding:
    """S20: no image is in two parts of the data."""
    if not subject.splits or len(subject.splits) < 2:
        return Finding(status=Status.SKIP, sentence="The parts of the data are not known.")
    shared = {
        f"{one} and {other}": len(set(subject.splits[one]) & set(subject.splits[other]))
        for one, other in combinations(subject.splits, 2)
    }
    worst = max(shared, key=lambda pair: shared[pair])
    parts = ", ".join(f"{name} {len(hashes)}" for name, hashes in subject.splits.items())
    return Finding(
        status=Status.FAIL if shared[worst] else Status.PASS,
        sentence=f"Images by content: {parts}; {shared[worst]} in both {worst}.",
        value=shared[worst],
        limit=0,
        unit="images",
        details=shared,
    )


def check_statistics(subject: AuditSubject) -> Finding:
    """S22: there are enough cases for an interval."""
    found = mean_interval([one.foreground for one in headline(subject)], seed=subject.settings.seed)
    bounds = "no interval" if found.low is None else f"95 % interval {found.low:.3f} to {found.high:.3f}"
    return Finding(
        status=Status.PASS if found.n >= FEW else Status.WARN,
        sentence=f"{found.n} cases leave {found.mean or 0:.4f} under attack, {bounds}.",
        value=found.n,
        limit=FEW,
        unit="cases at least",
        details={"mean": found.mean, "low": found.low, "high": found.high},
    )


DATA_CHECKS = (
    Check(
        id="S20",
        name="splits",
        title="Nobody trained on the cases",
        meaning="Images of the test are known to the model, so neither its clean nor its robust number is one.",
        run=check_splits,
    ),
    Check(
        id="S22",
        name="statistics",
        title="There are enough cases",
        meaning="Other cases of the same kind could give a very different number.",
        run=check_statistics,
    ),
)

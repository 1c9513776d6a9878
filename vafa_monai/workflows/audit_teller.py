"""What an audit tells on its way."""

from __future__ import annotations

import time
from collections.abc import Callable

from vafa_monai.audit import CHECKS, AuditSettings, Check, Finding
from vafa_monai.workflows.time_left import TimeLeft

__all__ = ["AuditTeller"]

CURVES = "curves"


class AuditTeller:
    """Tell every finding with the time that is left.

    Args:
        settings: how hard the audit tries, which decides how long each check takes.
        say: told, line by line.
    """

    def __init__(self, settings: AuditSettings, say: Callable[[str], None]) -> None:
        self.costs = _costs(settings)
        self.left = TimeLeft({"check": list(self.costs.values())})
        self.say, self.since = say, time.perf_counter()

    def __call__(self, check: Check, finding: Finding) -> None:
        """Tell one finding."""
        now = time.perf_counter()
        self.left.done("check", self.costs[check.id], now - self.since)
        self.since = now
        self.say(f"  {finding.status.value:4} {check.id:3} {check.title}: {finding.sentence} ({self.left})")


def _costs(settings: AuditSettings) -> dict[str, float]:
    """Return about how many steps of an attack every check takes, those of others that it shares left out."""
    steps, ensemble = settings.steps, 7 * settings.steps + settings.queries / 3
    return {check.id: 1.0 for check in CHECKS} | {
        "S1": 2.0 * steps,
        "S2": (len(settings.eps_curve) - 1.0) * steps,
        "S3": 3.0 * steps,
        "S4": float(sum(settings.steps_curve)),
        "S6": float(settings.restarts * steps),
        "S7": ensemble,
        "S9": float(steps),
        "S15": 3.0 * steps,
        CURVES: 3.0 * steps,
    }

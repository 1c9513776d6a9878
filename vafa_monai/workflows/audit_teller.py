"""What an audit tells on its way."""

from __future__ import annotations

import time
from collections.abc import Callable

from vafa_monai.audit import CHECKS, AuditSubject, Check, Finding
from vafa_monai.workflows.time_left import TimeLeft

__all__ = ["AuditTeller"]

CURVES = "curves"
GRADIENT = 3.0  # passes forward that a step takes: one there, and one back that is worth two
OTHER_INPUTS, TRIED_ON = 15.0, 3  # of the clean check
DOUBLE = 2.0  # float64
FILES = 3.0  # a volume that is written and read again, in passes forward


class AuditTeller:
    """Tell every finding with the time that is left.

    Args:
        subject: what is audited; settings, cases and second model decide how long each check takes.
        say: told, line by line.
    """

    def __init__(self, subject: AuditSubject, say: Callable[[str], None]) -> None:
        self.costs = _costs(subject)
        self.left = TimeLeft({"check": list(self.costs.values())})
        self.say, self.since = say, time.perf_counter()

    def __call__(self, check: Check, finding: Finding) -> None:
        """Tell one finding."""
        now = time.perf_counter()
        self.left.done("check", self.costs[check.id], now - self.since)
        self.since = now
        self.say(f"  {finding.status.value:4} {check.id:3} {check.title}: {finding.sentence} ({self.left})")


def _costs(subject: AuditSubject) -> dict[str, float]:
    """Return about how many passes forward a case takes in every check, those left out that an earlier one made."""
    settings, cases = subject.settings, len(subject.cases)
    steps, first = _attack(settings.steps), 1 / cases
    radii = [eps for eps in settings.eps_curve if eps not in (0, settings.eps)]
    lengths = [number for number in settings.steps_curve if number != settings.steps]
    ensemble = 6 * steps + settings.queries
    costs = {
        "S0": 4 * _attack(2),
        "S1": (1 + 2 / cases) * (2 * steps + 2 * _attack(2)),  # on two flat volumes, too
        "S2": len(radii) * steps,
        "S3": 2 * _attack(3 * settings.steps),
        "S4": sum(map(_attack, lengths)),
        "S5": _attack(1),
        "S6": settings.restarts * steps,
        "S7": ensemble + 3 * _attack(0),
        "S9": steps if subject.surrogate is not None else 0.0,
        "S10": DOUBLE * (8 + GRADIENT) * min(2, cases) / cases,
        "S11": 3 * first,
        "S12": first,
        "S14": DOUBLE * 2 * GRADIENT * first,
        "S15": 3 * steps,
        "S16": OTHER_INPUTS * min(TRIED_ON, cases) / cases + 1,
        "S18": 3 * (1 + FILES),
        "S21": _attack(2) * first,
        CURVES: 2 * steps,
    }
    return {check.id: 0.0 for check in CHECKS} | costs


def _attack(steps: int) -> float:
    """Return what an attack on a case costs, with a look at its best volume and a judgment of it."""
    return GRADIENT * steps + 2

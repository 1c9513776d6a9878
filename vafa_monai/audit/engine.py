"""The audit: every check asked, every curve drawn, one verdict."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from vafa_monai.audit.budget_checks import BUDGET_CHECKS
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.clean_checks import CLEAN_CHECKS
from vafa_monai.audit.control_checks import CONTROL_CHECKS
from vafa_monai.audit.curve import audit_curves
from vafa_monai.audit.data_checks import DATA_CHECKS
from vafa_monai.audit.file_checks import FILE_CHECKS
from vafa_monai.audit.gradient_checks import GRADIENT_CHECKS
from vafa_monai.audit.metric_checks import METRIC_CHECKS
from vafa_monai.audit.network_checks import NETWORK_CHECKS
from vafa_monai.audit.strength_checks import STRENGTH_CHECKS
from vafa_monai.audit.subject import AuditSubject
from vafa_monai.audit.unseen_checks import UNSEEN_CHECKS

__all__ = ["CHECKS", "AuditRun", "run_audit"]

_GROUPS = (
    NETWORK_CHECKS,
    GRADIENT_CHECKS,
    METRIC_CHECKS,
    CLEAN_CHECKS,
    DATA_CHECKS,
    BUDGET_CHECKS,
    STRENGTH_CHECKS,
    UNSEEN_CHECKS,
    CONTROL_CHECKS,
    FILE_CHECKS,
)
CHECKS: tuple[Check, ...] = tuple(
    sorted((check for group in _GROUPS for check in group), key=lambda check: int(check.id[1:]))
)
ORDER = (Status.FAIL, Status.WARN, Status.PASS)  # what decides the verdict, first to last


@dataclass(frozen=True)
class AuditRun:
    """What an audit found.

    Args:
        findings: each check with its finding, in the order of their numbers.
        curves: curves as the document has them.
        cost: windows that the audit ran through the network, ``forward`` and ``backward``.
        seconds: how long it took.
    """

    findings: tuple[tuple[Check, Finding], ...]
    curves: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def verdict(self) -> Status:
        """The worst that a check found; a check that could not be asked decides nothing."""
        found = {finding.status for _, finding in self.findings}
        return next((status for status in ORDER if status in found), Status.PASS)


def run_audit(
    subject: AuditSubject,
    checks: Sequence[Check] = CHECKS,
    *,
    curves: bool = True,
    told: Callable[[Check, Finding], None] | None = None,
) -> AuditRun:
    """Ask every check of a model; one that breaks off is a FAIL, and costs the others nothing.

    Args:
        subject: the model, its pipeline and its cases.
        checks: what to ask; all by default.
        curves: draw the curves, too.
        told: called with each check and finding as soon as it is known.

    Raises:
        ValueError: if the network has one channel, or not one for each class.

    Example:
        >>> import torch
        >>> from vafa_monai.audit import AuditCase
        >>> volume = torch.linspace(0, 1, 60).view(1, 1, 3, 4, 5)
        >>> network = torch.nn.Conv3d(1, 2, 1)
        >>> case = AuditCase(name="ramp", image=volume, label=(volume > 0.5).long())
        >>> subject = AuditSubject(network, [case], ["background", "bright"])
        >>> logits = [check for check in CHECKS if check.name == "logits"]
        >>> run_audit(subject, logits, curves=False).verdict.value
        'PASS'
    """
    start = time.perf_counter()
    subject.require_supported()
    findings = []
    for check in checks:
        finding = _ask(check, subject)
        findings.append((check, finding))
        if told is not None:
            told(check, finding)
    drawn = audit_curves(subject) if curves else []
    return AuditRun(tuple(findings), drawn, dict(subject.cost), time.perf_counter() - start)


def _ask(check: Check, subject: AuditSubject) -> Finding:
    """Return what a check finds; an error is a FAIL with its sentence."""
    try:
        return check.run(subject)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        logging.getLogger(__name__).debug("check %s broke off", check.id, exc_info=error)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Finding(status=Status.FAIL, sentence=f"The check broke off: {reason}")

"""The audit: every check asked, every curve drawn, one verdict."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vafa_monai.attacks.cpu import keep_freed_memory
from vafa_monai.audit.audit_attacks import ensemble
from vafa_monai.audit.audited_model import AuditedModel, Check, CheckResult, Status
from vafa_monai.audit.clean_checks import CLEAN_CHECKS, CONTROL_CHECKS
from vafa_monai.audit.data_checks import DATA_CHECKS, FILE_CHECKS, METRIC_CHECKS
from vafa_monai.audit.network_checks import GRADIENT_CHECKS, NETWORK_CHECKS
from vafa_monai.audit.strength_checks import BUDGET_CHECKS, STRENGTH_CHECKS
from vafa_monai.audit.unseen_checks import UNSEEN_CHECKS, audit_curves
from vafa_monai.results.audit import AUDIT_SCHEMA
from vafa_monai.results.provenance import case_input

__all__ = ["CHECKS", "AuditRun", "as_json", "audit_document", "run_audit"]

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

    findings: tuple[tuple[Check, CheckResult], ...]
    curves: list[dict[str, Any]] = field(default_factory=list)
    cost: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def verdict(self) -> Status:
        """The worst that a check found; a check that could not be asked decides nothing."""
        found = {finding.status for _, finding in self.findings}
        return next((status for status in ORDER if status in found), Status.PASS)


def run_audit(
    subject: AuditedModel,
    checks: Sequence[Check] = CHECKS,
    *,
    curves: bool = True,
    told: Callable[[Check, CheckResult], None] | None = None,
) -> AuditRun:
    """Ask every check of a model; one that breaks off is a FAIL, and does not affect the others.

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
        >>> subject = AuditedModel(network, [case], ["background", "bright"])
        >>> logits = [check for check in CHECKS if check.name == "logits"]
        >>> run_audit(subject, logits, curves=False).verdict.value
        'PASS'
    """
    start = time.perf_counter()
    subject.require_supported()
    keep_freed_memory()
    findings = []
    for check in checks:
        finding = _ask(check, subject)
        findings.append((check, finding))
        if told is not None:
            told(check, finding)
    drawn = audit_curves(subject) if curves else []
    return AuditRun(tuple(findings), drawn, dict(subject.cost), time.perf_counter() - start)


def _ask(check: Check, subject: AuditedModel) -> CheckResult:
    """Return what a check finds; an error is a FAIL with its sentence."""
    try:
        return check.run(subject)
    except (RuntimeError, ValueError, TypeError, ArithmeticError, LookupError) as error:
        logging.getLogger(__name__).debug("check %s broke off", check.id, exc_info=error)
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return CheckResult(status=Status.FAIL, sentence=f"The check broke off: {reason}")


def audit_document(
    subject: AuditedModel,
    run: AuditRun,
    *,
    versions: Mapping[str, str],
    command: str | None = None,
) -> dict[str, Any]:
    """Return what an audit found, and all that is needed to repeat it, as JSON.

    Args:
        subject: what was audited.
        run: what was found.
        versions: versions of the programs.
        command: the command line that does the same.

    Returns:
        The document. Two audits of one model with one seed differ in ``seconds`` alone.
    """
    settings = {**asdict(subject.settings), "value_range": list(subject.value_range), "attack": ensemble(subject).name}
    device = next((str(weight.device) for weight in subject.network.parameters()), "cpu")
    return {
        "schema": AUDIT_SCHEMA,
        "verdict": run.verdict.value,
        "model": subject.name,
        "checkpoint": None if subject.checkpoint is None else dict(subject.checkpoint),
        "seed": subject.settings.seed,
        "settings": as_json(settings),
        "classes": list(subject.classes),
        "cases": [case.name for case in subject.cases],
        "grid": subject.grid,
        "inputs": {case.name: case_input(case.image[0]) for case in subject.cases},
        "command": command,
        "versions": dict(versions),
        "device": device,
        "seconds": round(run.seconds, 2),
        "checks": [_entry(check, finding) for check, finding in run.findings],
        "curves": run.curves,
        "cost": run.cost,
    }


def _entry(check: Check, finding: CheckResult) -> dict[str, Any]:
    """Return one check with its finding."""
    texts = {name: getattr(check, name) for name in ("id", "name", "title", "meaning")}
    return {
        **texts,
        "status": finding.status.value,
        "value": as_json(finding.value),
        "limit": as_json(finding.limit),
        "unit": finding.unit,
        "sentence": finding.sentence,
        "details": as_json(finding.details),
    }


def as_json(value: Any) -> Any:
    """Return what JSON can hold: numbers of six digits, nothing for those that are not finite."""
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): as_json(item) for name, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, (list, tuple)) else value

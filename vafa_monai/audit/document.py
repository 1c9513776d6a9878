"""The JSON document of an audit, which a report reads: schema ``vafa_monai.audit/1``, in ``audit.schema.json``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from vafa_monai.audit.arsenal import ensemble
from vafa_monai.audit.check import Check, Finding
from vafa_monai.audit.engine import AuditRun
from vafa_monai.audit.subject import AuditCase, AuditSubject

__all__ = ["AUDIT_SCHEMA", "as_json", "audit_document"]

AUDIT_SCHEMA = "vafa_monai.audit/1"


def audit_document(
    subject: AuditSubject,
    run: AuditRun,
    *,
    model: str,
    versions: Mapping[str, str],
    checkpoint: Mapping[str, str] | None = None,
    command: str | None = None,
) -> dict[str, Any]:
    """Return what an audit found, and all that is needed to repeat it, as JSON.

    Args:
        subject: what was audited.
        run: what was found.
        model: label of the model.
        versions: versions of the programs.
        checkpoint: ``path`` and ``sha256`` of the weights.
        command: the command line that does the same.

    Returns:
        The document. Two audits of one model with one seed differ in ``seconds`` alone.
    """
    settings = {**asdict(subject.settings), "value_range": list(subject.value_range), "attack": ensemble(subject).name}
    device = next((str(weight.device) for weight in subject.network.parameters()), "cpu")
    return {
        "schema": AUDIT_SCHEMA,
        "verdict": run.verdict.value,
        "model": model,
        "checkpoint": None if checkpoint is None else dict(checkpoint),
        "seed": subject.settings.seed,
        "settings": as_json(settings),
        "classes": list(subject.classes),
        "cases": [case.name for case in subject.cases],
        "inputs": {case.name: _input(case) for case in subject.cases},
        "command": command,
        "versions": dict(versions),
        "device": device,
        "seconds": round(run.seconds, 2),
        "checks": [_entry(check, finding) for check, finding in run.findings],
        "curves": run.curves,
        "cost": run.cost,
    }


def _input(case: AuditCase) -> dict[str, Any]:
    """Return what tells apart how the image of a case was prepared, as a result has it."""
    plain = case.image[0].detach().double()
    mean, std = plain.mean().item(), plain.std(correction=0).item()
    return {"shape": list(plain.shape), "mean": round(mean, 6), "std": round(std, 6)}


def _entry(check: Check, finding: Finding) -> dict[str, Any]:
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

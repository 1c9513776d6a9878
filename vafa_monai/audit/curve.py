"""Curves of an audit: DSC over a budget or a number of steps, from the runs that the checks made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from vafa_monai.audit.arsenal import box_attack, longer_attack, voxel_attack
from vafa_monai.audit.subject import AuditSubject, Outcome, mean_dice

__all__ = ["audit_curves"]

BOX_FACTORS = (0.5, 1, 2)  # of q_max


def audit_curves(subject: AuditSubject) -> list[dict[str, Any]]:
    """Return DSC over the budget of voxels, that of coefficients, and the steps, as the document of an audit has it."""
    settings = subject.settings
    boxes = [0.0, *(factor * settings.q_max for factor in BOX_FACTORS)]
    return [
        _curve("budget_voxels", "budget of voxels", "grey levels", [255 * eps for eps in settings.eps_curve],
               [subject.outcomes(voxel_attack(subject, eps)) for eps in settings.eps_curve]),
        _curve("budget_coefficients", "width of the box of coefficients", "grey levels", boxes,
               [subject.clean, *(subject.outcomes(box_attack(subject, q_max)) for q_max in boxes[1:])]),
        _curve("steps", "steps", "", list(settings.steps_curve),
               [subject.outcomes(longer_attack(subject, steps)) for steps in settings.steps_curve]),
    ]  # fmt: skip


def _curve(
    name: str, x_label: str, x_unit: str, x: Sequence[float], found: Sequence[Sequence[Outcome]]
) -> dict[str, Any]:
    """Return one curve as JSON."""
    return {
        "name": name,
        "x_label": x_label,
        "x_unit": x_unit,
        "x": list(x),
        "dice": [_number(mean_dice(outcomes)) for outcomes in found],
        "dice_per_class": [_per_class(outcomes) for outcomes in found],
    }


def _per_class(outcomes: Sequence[Outcome]) -> list[float | None]:
    """Return the mean DSC of every class over the cases that have it."""
    columns = zip(*(outcome.dice.tolist() for outcome in outcomes), strict=True)
    known = [[value for value in column if not math.isnan(value)] for column in columns]
    return [_number(sum(column) / len(column)) if column else None for column in known]


def _number(value: float) -> float | None:
    """Return a finite number, which JSON can hold, or nothing."""
    return round(value, 6) if math.isfinite(value) else None

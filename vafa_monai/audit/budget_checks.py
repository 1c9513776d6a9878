"""Checks of what attacks promise: no budget changes nothing, and a budget is kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from vafa_monai.attacks import PGD, VAFA, Attack, FrequencyPGD, Identity, UniformQuantization
from vafa_monai.audit.arsenal import box_attack, voxel_attack
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import SLACK, AuditCase, AuditSubject, Outcome

__all__ = ["BUDGET_CHECKS", "check_budget", "check_zero_budget"]

ROUND_TRIP = 1e-5  # of the width: float32 through a block DCT and back
FEW_STEPS = 2
LEVELS = 255


def check_zero_budget(subject: AuditSubject, attacks: Mapping[str, Attack] | None = None) -> Finding:
    """S0: an attack without budget gives back the volume."""
    common: dict[str, Any] = {"value_range": subject.value_range}
    blocks = {**common, "block_size": subject.settings.block_size}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="eps is 0")  # that is the question
        attacks = attacks or {
            "identity": Identity(**common),
            "voxels, eps 0": PGD(eps=0, steps=FEW_STEPS, **common),
            "coefficients, q_max 0": FrequencyPGD(q_max=0, steps=FEW_STEPS, **blocks),
            "quantization, q 0.0001": UniformQuantization(q=1e-4, **blocks),
        }
    found = {name: max(outcome.linf for outcome in subject.outcomes(one)) for name, one in attacks.items()}
    worst = max(found, key=lambda name: found[name])
    good = found[worst] <= ROUND_TRIP
    return Finding(
        status=Status.PASS if good else Status.FAIL,
        sentence=f"Without budget {worst!r} changes a voxel by {LEVELS * found[worst]:.3g} grey levels.",
        value=LEVELS * found[worst],
        limit=LEVELS * ROUND_TRIP,
        unit="grey levels",
        details={name: LEVELS * value for name, value in found.items()},
    )


def check_budget(subject: AuditSubject, attacks: Mapping[str, Attack] | None = None) -> Finding:
    """S1: every attacked volume is finite, inside the intensities, and inside the budget of its attack."""
    settings = subject.settings
    quantization = VAFA.preset(
        "audit", q_max=settings.q_max, block_size=settings.block_size, steps=FEW_STEPS, value_range=subject.value_range
    )
    attacks = attacks or {
        "voxels": voxel_attack(subject),
        "voxels, l2": PGD(eps=settings.eps, norm="l2", steps=FEW_STEPS, value_range=subject.value_range),
        "coefficients": box_attack(subject, settings.q_max),
        "quantization": quantization,
    }
    used = {}
    for name, attack in attacks.items():
        flat = _flat_cases(subject)
        outcomes = [*subject.outcomes(attack), *subject.attacked(attack, flat)]
        pairs = zip(outcomes, [*subject.cases, *flat], strict=True)
        used[name] = max(_used(attack, outcome, case.image.shape[2:]) for outcome, case in pairs)
    worst = max(used, key=lambda name: used[name])
    return Finding(
        status=Status.PASS if used[worst] <= 1 else Status.FAIL,
        sentence=f"{worst!r} uses {used[worst]:.3f} of its budget, on the cases, a constant and an empty volume.",
        value=used[worst],
        limit=1.0,
        unit="of the budget",
        details=used,
    )


def _used(attack: Attack, outcome: Outcome, shape: Sequence[int]) -> float:
    """Return the share of its budget that an attack used; infinite if the volume is none.

    Clipping moves no volume further from the clean one, and the transform keeps lengths: half a step for every
    coefficient, those of the padding to whole blocks too, bounds the root mean square of the voxels.
    """
    if not outcome.sound:
        return math.inf
    if hasattr(attack, "eps"):
        size, allowed = (outcome.linf if getattr(attack, "norm", "linf") == "linf" else outcome.rms), attack.eps
    else:
        blocks = zip(shape, getattr(attack, "block_size", shape), strict=True)
        padding = math.prod(-(-edge // block) * block / edge for edge, block in blocks)
        size, allowed = outcome.rms, getattr(attack, "q_max", 0.0) / 2 / LEVELS * math.sqrt(padding)
    return max(size - SLACK, 0.0) / allowed if allowed else 0.0


def _flat_cases(subject: AuditSubject) -> list[AuditCase]:
    """Return a constant volume and an empty one, with the labels of the first case."""
    first, (low, high) = subject.cases[0], subject.value_range
    return [
        AuditCase(name=f"constant {value:g}", image=torch.full_like(first.image, value), label=first.label)
        for value in (low, (low + high) / 2)
    ]


BUDGET_CHECKS = (
    Check(
        id="S0",
        name="zero_budget",
        title="Without budget nothing changes",
        meaning="Something beside the attack, such as a stretch of the contrast, does harm in its name.",
        run=check_zero_budget,
    ),
    Check(
        id="S1",
        name="budget",
        title="Budgets and intensities are kept",
        meaning="The attack uses more than the budget that its number is quoted for.",
        run=check_budget,
    ),
)

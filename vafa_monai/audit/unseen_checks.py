"""The check of attacks outside the ensemble: its own, and every result that lies beside the audit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vafa_monai.attacks.apgd import APGD
from vafa_monai.attacks.attack import Attack
from vafa_monai.attacks.describe import describe
from vafa_monai.attacks.threat import Threat, threat_of
from vafa_monai.attacks.vafa import VAFA
from vafa_monai.attacks.validation import LEVELS
from vafa_monai.audit.audit_attacks import box_attack, ensemble, headline, longer_attack, voxel_attack
from vafa_monai.audit.audited_model import AttackOutcome, AuditedModel, Check, CheckResult, Measured, Status, mean_dice

__all__ = ["UNSEEN", "UNSEEN_CHECKS", "audit_curves", "unseen"]

UNSEEN = 0.05  # DSC
SMALL_EDGES = (4, 8, 16)
SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Unseen:
    """An attack outside the ensemble.

    Args:
        name: its name.
        threat: which changes it may make.
        larger: whether these are of the kinds of the ensemble with more budget, so that more harm proves nothing.
        dice: mean DSC that it leaves.
        gap: how much less than the ensemble, over the cases of both.
    """

    name: str
    threat: str
    larger: bool
    dice: float
    gap: float


def unseen(dice: Mapping[str, float], threat: Threat, others: Sequence[Measured]) -> list[Unseen]:
    """Hold attacks against the ensemble, over the cases of both; the widest gap first, larger budgets last.

    Args:
        dice: DSC under the ensemble by case.
        threat: which changes the ensemble may make.
        others: other attacks on the same weights.
    """
    found = []
    for other in others:
        pairs = [(dice[case], left) for case, left in other.dice.items() if case in dice]
        known = [pair for pair in pairs if not any(map(math.isnan, pair))]
        if not known:
            continue
        left = sum(after for _, after in known) / len(known)
        gap = sum(before - after for before, after in known) / len(known)
        larger = threat.exceeded_by(other.threat)
        found.append(Unseen(name=other.name, threat=str(other.threat), larger=larger, dice=left, gap=gap))
    return sorted(found, key=lambda one: (one.larger, -one.gap))


def check_unseen(subject: AuditedModel, attacks: Mapping[str, Attack] | None = None) -> CheckResult:
    """S15: attacks outside the ensemble, and results beside the audit, are not far worse."""
    attacks, attack = attacks or _unseen_attacks(subject), ensemble(subject)
    dice = {one.case: one.foreground for one in headline(subject)}
    threat = threat_of(describe(attack))
    own = [
        Measured(
            name=name,
            threat=threat_of(describe(one)),
            dice={outcome.case: outcome.foreground for outcome in subject.outcomes(one)},
        )
        for name, one in attacks.items()
    ]
    found = unseen(dice, threat, [*own, *subject.measured])
    judged = [one.gap for one in found if one.name in attacks or not one.larger]
    known = [value for value in dice.values() if not math.isnan(value)]
    mean = sum(known) / len(known) if known else math.nan
    gap = max(judged, default=None)
    shown = [f"{one.name!r} ({one.threat}) {one.dice:.4f}" for one in found]
    rest = f"; and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return CheckResult(
        status=Status.WARN if gap is not None and gap > UNSEEN else Status.PASS,
        sentence=(
            f"{attack.name}, {threat}, leaves {mean:.4f}; outside it leave: "
            f"{'; '.join(shown[:SHOWN]) or 'nothing was run'}{rest}."
        ),
        value=gap,
        limit=UNSEEN,
        unit="DSC",
        details={attack.name: mean, **{one.name: one.dice for one in found}},
    )


def _unseen_attacks(subject: AuditedModel) -> dict[str, Attack]:
    """Return attacks that no member of the ensemble is: the other norm, smaller blocks, the published VAFA."""
    settings, smallest = subject.settings, min(subject.settings.block_size)
    common: dict[str, Any] = {"steps": settings.steps, **subject.common}
    edges = [edge for edge in SMALL_EDGES if edge < smallest][-1:]
    vafa = VAFA.preset("paper", q_max=settings.q_max, block_size=settings.block_size, **common)
    return {
        "voxels, l2": APGD(eps=settings.eps / 2, norm="l2", **common),  # the cube reaches rms eps, most voxels do not
        **{f"coefficients, blocks of {edge}": box_attack(subject, edge=edge) for edge in edges},
        "VAFA (paper)": vafa,
    }


UNSEEN_CHECKS = (
    Check(
        id="S15",
        name="unseen",
        title="Unseen attacks are not much worse",
        meaning="The model is robust against the attacks it knows; the number holds for their changes and no others.",
        run=check_unseen,
    ),
)


BOX_FACTORS = (0.5, 1, 2)  # of q_max


def audit_curves(subject: AuditedModel) -> list[dict[str, Any]]:
    """Return DSC over the budget of voxels, that of coefficients, and the steps, as the document of an audit has it."""
    settings = subject.settings
    boxes = [0.0, *(factor * settings.q_max for factor in BOX_FACTORS)]
    return [
        _curve("budget_voxels", "budget of voxels", "gray levels", [LEVELS * eps for eps in settings.eps_curve],
               [subject.outcomes(voxel_attack(subject, eps)) for eps in settings.eps_curve]),
        _curve("budget_coefficients", "width of the box of coefficients", "gray levels", boxes,
               [subject.clean, *(subject.outcomes(box_attack(subject, q_max)) for q_max in boxes[1:])]),
        _curve("steps", "steps", "", list(settings.steps_curve),
               [subject.outcomes(longer_attack(subject, steps)) for steps in settings.steps_curve]),
    ]  # fmt: skip


def _curve(
    name: str, x_label: str, x_unit: str, x: Sequence[float], found: Sequence[Sequence[AttackOutcome]]
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


def _per_class(outcomes: Sequence[AttackOutcome]) -> list[float | None]:
    """Return the mean DSC of every class over the cases that have it."""
    columns = zip(*(outcome.dice.tolist() for outcome in outcomes), strict=True)
    known = [[value for value in column if not math.isnan(value)] for column in columns]
    return [_number(sum(column) / len(column)) if column else None for column in known]


def _number(value: float) -> float | None:
    """Return a finite number, which JSON can hold, or nothing."""
    return round(value, 6) if math.isfinite(value) else None

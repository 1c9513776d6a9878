"""Checks against attacks that must be weaker: noise, compression, a black box, another model's perturbations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from vafa_monai.attacks import (
    Attack,
    GaussianNoise,
    RandomQuantization,
    TransferPGD,
    UniformQuantization,
)
from vafa_monai.audit.arsenal import headline
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditSubject, Outcome, mean_dice
from vafa_monai.inferers import evaluating

__all__ = ["CONTROL_CHECKS", "check_black_box", "check_controls", "check_transfer"]

SLACK = 0.005  # DSC; what two runs of one strength differ by
SMALL_DROP = 0.01  # DSC; of less no share is computed
SHARE = 0.5
LOW_SHARE = 0.25
GRADIENT_MEMBERS = ("apgd_masked_ce", "apgd_js", "apgd_dice_ce", "cos_pgd")
BLACK_BOX = "square"


def check_controls(
    subject: AuditSubject, attack: Attack | None = None, controls: Mapping[str, Attack] | None = None
) -> Finding:
    """S7: most of the harm is adversarial: changes of the same size that know nothing of the model do far less."""
    found = headline(subject, attack)
    clean, attacked = mean_dice(subject.clean), mean_dice(found)
    if clean - attacked < SMALL_DROP:
        text = f"The attack takes {clean - attacked:.4f} DSC, too little to compare with."
        return Finding(status=Status.SKIP, sentence=text, value=clean - attacked, limit=SMALL_DROP, unit="DSC")
    controls = controls or _controls(subject, found)
    left = {name: mean_dice(subject.outcomes(control)) for name, control in controls.items()}
    worst = min(left, key=lambda name: left[name])
    share = (left[worst] - attacked) / (clean - attacked)
    status = Status.PASS if share >= SHARE else Status.WARN if share >= LOW_SHARE else Status.FAIL
    return Finding(
        status=status,
        sentence=f"{share:.0%} of the harm is adversarial: {attacked:.4f} is left, by {worst} {left[worst]:.4f}.",
        value=share,
        limit=SHARE,
        unit="of the harm",
        details={"clean": clean, "attack": attacked, **left},
    )


def check_black_box(subject: AuditSubject, white: Attack | None = None, black: Attack | None = None) -> Finding:
    """S8: an attack that asks for no gradient never finds more than those that do."""
    if white is None or black is None:
        gaps = [_black_gap(outcome) for outcome in headline(subject)]
    else:
        pairs = zip(subject.outcomes(white), subject.outcomes(black), strict=True)
        gaps = [(one.foreground - other.foreground, one.case) for one, other in pairs]
    known = [gap for gap in gaps if not math.isnan(gap[0])]
    if not known:
        return Finding(status=Status.SKIP, sentence="Every case was broken before the black box had its turn.")
    gap, case = max(known)
    return Finding(
        status=Status.PASS if gap <= SLACK else Status.FAIL,
        sentence=f"The black box leaves at most {gap:+.4f} DSC less than the best gradient attack, in {case}.",
        value=gap,
        limit=SLACK,
        unit="DSC",
    )


def check_transfer(subject: AuditSubject, white: Attack | None = None) -> Finding:
    """S9: what was made for another model does less harm than what was made for this one."""
    if subject.surrogate is None:
        return Finding(status=Status.SKIP, sentence="There is no second model to transfer from.")
    direct = headline(subject, white)
    transferred = _transferred(subject, subject.surrogate)
    gaps = [(one.foreground - other.foreground, one.case) for one, other in zip(direct, transferred, strict=True)]
    gap, case = max(gaps)
    return Finding(
        status=Status.PASS if gap <= SLACK else Status.FAIL,
        sentence=f"Transfer leaves {mean_dice(transferred):.4f}, at most {gap:+.4f} less than a direct one, in {case}.",
        value=gap,
        limit=SLACK,
        unit="DSC",
        details={"transfer": mean_dice(transferred), "direct": mean_dice(direct)},
    )


def _transferred(subject: AuditSubject, surrogate: nn.Module) -> list[Outcome]:
    """Attack the other model, and show the volumes to this one."""
    whole, settings = subject.pipeline(surrogate), subject.settings
    attack = TransferPGD(eps=settings.eps, steps=settings.steps, seed=settings.seed, value_range=subject.value_range)
    with evaluating(whole):
        volumes = [attack(case.image, case.label, whole) for case in subject.cases]
    return subject.judged(subject.cases, volumes)


def _controls(subject: AuditSubject, found: Sequence[Outcome]) -> dict[str, Attack]:
    """Return noise of the size of the change, and compression as coarse as the attacks may make it."""
    settings = subject.settings
    common: dict[str, Any] = {"value_range": subject.value_range}
    rms = sum(outcome.rms for outcome in found) / len(found)
    blocks = {**common, "block_size": settings.block_size}
    return {
        "noise of the same rms": GaussianNoise(std=round(rms, 6), seed=settings.seed, **common),
        "uniform quantization": UniformQuantization(q=settings.q_max, **blocks),
        "random quantization": RandomQuantization(q_max=settings.q_max, seed=settings.seed, **blocks),
    }


def _black_gap(outcome: Outcome) -> tuple[float, str]:
    """Return how much less the black box left of a case than the best gradient attack; NaN if it had no turn."""
    members = outcome.details["members"]
    white = [value for name in GRADIENT_MEMBERS if not math.isnan(value := _mean(members[name]["dice"]))]
    return (min(white) if white else math.nan) - _mean(members[BLACK_BOX]["dice"]), outcome.case


def _mean(dice: Sequence[float | None]) -> float:
    """Return the mean foreground DSC of a member, NaN if it did not run."""
    known = [value for value in dice[1:] if value is not None]
    return sum(known) / len(known) if known else math.nan


CONTROL_CHECKS = (
    Check(
        id="S7",
        name="controls",
        title="Noise and plain compression do less harm",
        meaning="The harm comes from the size of the change: the model is fragile, or the attack is none.",
        run=check_controls,
    ),
    Check(
        id="S8",
        name="black_box",
        title="The black box is weaker than the white box",
        meaning="Gradients mislead the attack, so the white-box number is too high.",
        run=check_black_box,
    ),
    Check(
        id="S9",
        name="transfer",
        title="Transfer is weaker than a direct attack",
        meaning="Another model's perturbations do more harm than the attack's own, so its gradients are of no use.",
        run=check_transfer,
    ),
)

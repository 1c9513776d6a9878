"""Checks of what attacks return and of how strong they are."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch

from vafa_monai.attacks.attack import Attack
from vafa_monai.attacks.controls import Identity, UniformQuantization
from vafa_monai.attacks.ensemble import AttackEnsemble
from vafa_monai.attacks.frequency_pgd import FrequencyPGD
from vafa_monai.attacks.pgd import PGD
from vafa_monai.attacks.vafa import VAFA
from vafa_monai.attacks.validation import LEVELS
from vafa_monai.audit.audit_attacks import box_attack, headline, longer_attack, unbounded, voxel_attack
from vafa_monai.audit.audited_model import (
    SLACK,
    AttackOutcome,
    AuditCase,
    AuditedModel,
    Check,
    CheckResult,
    Status,
    largest_gap,
    mean_dice,
    scored,
)

__all__ = ["BUDGET_CHECKS", "STRENGTH_CHECKS"]

ROUND_TRIP = 1e-5  # of the width: float32 through a block DCT and back
FEW_STEPS = 2


def check_zero_budget(subject: AuditedModel, attacks: Mapping[str, Attack] | None = None) -> CheckResult:
    """S0: an attack without budget gives back the volume."""
    common = subject.common
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
    return CheckResult(
        status=Status.PASS if good else Status.FAIL,
        sentence=f"Without budget {worst!r} changes a voxel by {LEVELS * found[worst]:.3g} gray levels.",
        value=LEVELS * found[worst],
        limit=LEVELS * ROUND_TRIP,
        unit="gray levels",
        details={name: LEVELS * value for name, value in found.items()},
    )


def check_budget(subject: AuditedModel, attacks: Mapping[str, Attack] | None = None) -> CheckResult:
    """S1: every attacked volume is finite, inside the intensities, and inside the budget of its attack."""
    settings = subject.settings
    quantization = VAFA.preset(
        "audit", q_max=settings.q_max, block_size=settings.block_size, steps=FEW_STEPS, **subject.common
    )
    attacks = attacks or {
        "voxels": voxel_attack(subject),
        "voxels, l2": PGD(eps=settings.eps, norm="l2", steps=FEW_STEPS, **subject.common),
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
    return CheckResult(
        status=Status.PASS if used[worst] <= 1 else Status.FAIL,
        sentence=f"{worst!r} uses {used[worst]:.3f} of its budget, on the cases, a constant and an empty volume.",
        value=used[worst],
        limit=1.0,
        unit="of the budget",
        details=used,
    )


def _used(attack: Attack, outcome: AttackOutcome, shape: Sequence[int]) -> float:
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


def _flat_cases(subject: AuditedModel) -> list[AuditCase]:
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


RISE = 0.005  # DSC; two attacks that find the same maximum differ by less
LARGE_RISE = 0.02
ALL_GONE = 0.02  # DSC that an attack without bound may leave
SPREAD = 0.01
LARGE_SPREAD = 0.05
LOSSES_APART = 0.05
HALF = 0.5  # of what the best of the losses takes; at large budgets all lie further apart
GAIN = 1e-3  # of the loss; an attack that raises it by less does nothing
VOXEL_MEMBERS = ("apgd_masked_ce", "apgd_js", "apgd_dice_ce")


def check_budget_curve(subject: AuditedModel, build: Callable[[float], Attack] | None = None) -> CheckResult:
    """S2: more budget never leaves more."""
    build = build or (lambda eps: voxel_attack(subject, eps))
    budgets = subject.settings.eps_curve
    curve = [mean_dice(subject.outcomes(build(eps))) for eps in budgets]
    rises = [after - min(curve[: place + 1]) for place, after in enumerate(curve[1:])]
    worst = max(range(len(rises)), key=lambda place: rises[place])
    return CheckResult(
        status=_grade(rises[worst], RISE, LARGE_RISE),
        sentence=f"The DSC rises by at most {rises[worst]:+.4f}, at a budget of {LEVELS * budgets[worst + 1]:g}/255.",
        value=rises[worst],
        limit=RISE,
        unit="DSC",
        details={"eps": list(budgets), "dice": curve},
    )


def check_unbounded(subject: AuditedModel, attack: Attack | None = None) -> CheckResult:
    """S3: attacks without bound leave nothing."""
    tried = [subject.outcomes(one) for one in ((attack,) if attack else unbounded(subject))]
    outcomes = [min(rows, key=lambda one: one.foreground) for rows in zip(*tried, strict=True)]
    left, chance = mean_dice(outcomes), _chance(subject)
    worst = max(scored(outcomes), key=lambda outcome: outcome.foreground)
    return CheckResult(
        status=_grade(left, ALL_GONE, max(ALL_GONE, chance)),
        sentence=(
            f"Without a bound a DSC of {left:.4f} is left, {worst.foreground:.4f} of {worst.case}; "
            f"organs of their size anywhere overlap by {chance:.4f}."
        ),
        value=left,
        limit=ALL_GONE,
        unit="DSC",
        details={outcome.case: outcome.foreground for outcome in outcomes},
    )


def check_steps(subject: AuditedModel, build: Callable[[int], Attack] | None = None) -> CheckResult:
    """S4: the loss rises with the steps, and twice as many of the same length find no more."""
    build = build or (lambda steps: longer_attack(subject, steps))
    numbers = subject.settings.steps_curve
    found = [subject.outcomes(build(steps)) for steps in numbers]
    losses = [_mean_loss(outcomes) for outcomes in (subject.clean, *found)]
    falls = [max(losses[: place + 1]) - after for place, after in enumerate(losses[1:])]
    curve = [mean_dice(outcomes) for outcomes in found]
    still = curve[-2] - curve[-1]
    details = {"steps": list(numbers), "loss": losses[1:], "dice": curve}
    gain = losses[-1] - losses[0]
    if gain <= GAIN or max(falls) > GAIN * max(abs(losses[0]), 1):
        text = f"{numbers[-1]} steps raise the loss by {gain:.4g}; more steps lower it by up to {max(*falls, 0):.4g}."
        return CheckResult(status=Status.FAIL, sentence=text, value=gain, limit=GAIN, unit="loss", details=details)
    return CheckResult(
        status=Status.PASS if still <= SPREAD else Status.WARN,
        sentence=f"From {numbers[-2]} to {numbers[-1]} steps the DSC falls by {still:.4f}.",
        value=still,
        limit=SPREAD,
        unit="DSC",
        details=details,
    )


def check_single_step(
    subject: AuditedModel, iterative: Attack | None = None, single: Attack | None = None
) -> CheckResult:
    """S5: many steps do at least the harm of one, case by case."""
    many = subject.outcomes(iterative or voxel_attack(subject))
    one = subject.outcomes(single or voxel_attack(subject, steps=1))
    gap, case = largest_gap(many, one)
    return CheckResult(
        status=_grade(gap, RISE, LARGE_RISE),
        sentence=f"Many steps leave at most {gap:+.4f} DSC more than a single one, in {case}.",
        value=gap,
        limit=RISE,
        unit="DSC",
    )


def check_restarts(subject: AuditedModel, build: Callable[[int], Attack] | None = None) -> CheckResult:
    """S6: other random starts find the same."""
    build = build or (lambda seed: voxel_attack(subject, seed=seed))
    first = subject.settings.seed + 1
    curve = [mean_dice(subject.outcomes(build(seed))) for seed in range(first, first + subject.settings.restarts)]
    spread = max(curve) - min(curve)
    return CheckResult(
        status=_grade(spread, SPREAD, LARGE_SPREAD),
        sentence=f"What {len(curve)} random starts leave differs by {spread:.4f} DSC.",
        value=spread,
        limit=SPREAD,
        unit="DSC",
        details={"dice": curve},
    )


def check_losses(subject: AuditedModel, attack: AttackEnsemble | None = None) -> CheckResult:
    """S13: no loss alone makes the model look robust."""
    outcomes = headline(subject, attack)
    left = {name: _member_mean(outcomes, name) for name in VOXEL_MEMBERS}
    known = {name: value for name, value in left.items() if value is not None}
    if len(known) < 2:
        return CheckResult(
            status=Status.SKIP, sentence="Every case was broken by the first loss.", details={"dice": left}
        )
    spread = max(known.values()) - min(known.values())
    limit = max(LOSSES_APART, HALF * (mean_dice(subject.clean) - min(known.values())))
    weak, strong = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
    return CheckResult(
        status=Status.PASS if spread <= limit else Status.WARN,
        sentence=f"Losses agree to {spread:.4f} DSC: {strong} leaves {known[strong]:.4f}, {weak} {known[weak]:.4f}.",
        value=spread,
        limit=limit,
        unit="DSC",
        details={"dice": left},
    )


def _chance(subject: AuditedModel) -> float:
    """Return the DSC of organs of the right size whose voxels lie anywhere: the mean share of an organ."""
    counts = [torch.bincount(case.label.flatten().long())[1:].double() / case.label.numel() for case in subject.cases]
    shares = [count[count > 0].mean().item() for count in counts if count.any()]
    return sum(shares) / len(shares) if shares else 0.0


def _grade(value: float, limit: float, bad: float) -> Status:
    """Return PASS up to the limit, FAIL beyond what is bad, WARN between."""
    return Status.PASS if value <= limit else Status.WARN if value <= bad else Status.FAIL


def _mean_loss(outcomes: Sequence[AttackOutcome]) -> float:
    """Return the mean loss over cases."""
    return sum(outcome.loss for outcome in outcomes) / len(outcomes)


def _member_mean(outcomes: Sequence[AttackOutcome], name: str) -> float | None:
    """Return the mean DSC that a member of the ensemble left of the cases that it ran on."""
    rows = [outcome.details["members"][name]["dice"][1:] for outcome in outcomes]
    known = [[value for value in row if value is not None] for row in rows]
    means = [sum(row) / len(row) for row in known if row]
    return sum(means) / len(means) if means else None


STRENGTH_CHECKS = (
    Check(
        id="S2",
        name="budget_curve",
        title="More budget does not leave more",
        meaning="The attack fails where it should find more, so its numbers at large budgets are too high.",
        run=check_budget_curve,
    ),
    Check(
        id="S3",
        name="unbounded",
        title="Without a bound nothing is left",
        meaning="Gradients are masked: the attack finds no way even where every way is open.",
        run=check_unbounded,
    ),
    Check(
        id="S4",
        name="steps",
        title="More steps raise the loss, until they find no more",
        meaning="The attack has not converged or does not climb, so more steps would leave less.",
        run=check_steps,
    ),
    Check(
        id="S5",
        name="single_step",
        title="Many steps do more harm than one",
        meaning="The landscape misleads small steps, which is a sign of masked gradients.",
        run=check_single_step,
    ),
    Check(
        id="S6",
        name="restarts",
        title="Random starts agree",
        meaning="The number depends on luck; more restarts would find a worse one.",
        run=check_restarts,
    ),
    Check(
        id="S13",
        name="losses",
        title="Losses agree",
        meaning="One loss is flat for this model, so a number from that loss alone would be too high.",
        run=check_losses,
    ),
)

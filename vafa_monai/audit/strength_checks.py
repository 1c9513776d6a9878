"""Checks that the attack is as strong as it could be: a weak attack makes every model look robust."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from vafa_monai.attacks import Attack, AttackEnsemble
from vafa_monai.audit.arsenal import headline, longer_attack, unbounded, voxel_attack
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditSubject, Outcome, mean_dice

__all__ = [
    "STRENGTH_CHECKS",
    "check_budget_curve",
    "check_losses",
    "check_restarts",
    "check_single_step",
    "check_steps",
    "check_unbounded",
]

GREY = 255
RISE = 0.005  # DSC; two attacks that find the same maximum differ by less
LARGE_RISE = 0.02
ALL_GONE = 0.02  # DSC that an attack without bound may leave
SPREAD = 0.01
LARGE_SPREAD = 0.05
LOSSES_APART = 0.05
HALF = 0.5  # of what the best of the losses takes; at large budgets all lie further apart
GAIN = 1e-3  # of the loss; an attack that raises it by less does nothing
VOXEL_MEMBERS = ("apgd_masked_ce", "apgd_js", "apgd_dice_ce")


def check_budget_curve(subject: AuditSubject, build: Callable[[float], Attack] | None = None) -> Finding:
    """S2: more budget never leaves more."""
    build = build or (lambda eps: voxel_attack(subject, eps))
    budgets = subject.settings.eps_curve
    curve = [mean_dice(subject.outcomes(build(eps))) for eps in budgets]
    rises = [after - min(curve[: place + 1]) for place, after in enumerate(curve[1:])]
    worst = max(range(len(rises)), key=lambda place: rises[place])
    return Finding(
        status=_grade(rises[worst], RISE, LARGE_RISE),
        sentence=f"The DSC rises by at most {rises[worst]:+.4f}, at a budget of {GREY * budgets[worst + 1]:g}/255.",
        value=rises[worst],
        limit=RISE,
        unit="DSC",
        details={"eps": list(budgets), "dice": curve},
    )


def check_unbounded(subject: AuditSubject, attack: Attack | None = None) -> Finding:
    """S3: attacks without bound leave nothing."""
    tried = [subject.outcomes(one) for one in ((attack,) if attack else unbounded(subject))]
    outcomes = [min(rows, key=lambda one: one.foreground) for rows in zip(*tried, strict=True)]
    left, chance = mean_dice(outcomes), _chance(subject)
    worst = max(outcomes, key=lambda outcome: outcome.foreground)
    return Finding(
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


def check_steps(subject: AuditSubject, build: Callable[[int], Attack] | None = None) -> Finding:
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
        return Finding(status=Status.FAIL, sentence=text, value=gain, limit=GAIN, unit="loss", details=details)
    return Finding(
        status=Status.PASS if still <= SPREAD else Status.WARN,
        sentence=f"From {numbers[-2]} to {numbers[-1]} steps the DSC falls by {still:.4f}.",
        value=still,
        limit=SPREAD,
        unit="DSC",
        details=details,
    )


def check_single_step(subject: AuditSubject, iterative: Attack | None = None, single: Attack | None = None) -> Finding:
    """S5: many steps do at least the harm of one, case by case."""
    many = subject.outcomes(iterative or voxel_attack(subject))
    one = subject.outcomes(single or voxel_attack(subject, steps=1))
    gap, case = _largest_gap(many, one)
    return Finding(
        status=_grade(gap, RISE, LARGE_RISE),
        sentence=f"Many steps leave at most {gap:+.4f} DSC more than a single one, in {case}.",
        value=gap,
        limit=RISE,
        unit="DSC",
    )


def check_restarts(subject: AuditSubject, build: Callable[[int], Attack] | None = None) -> Finding:
    """S6: other random starts find the same."""
    build = build or (lambda seed: voxel_attack(subject, seed=seed))
    first = subject.settings.seed + 1
    curve = [mean_dice(subject.outcomes(build(seed))) for seed in range(first, first + subject.settings.restarts)]
    spread = max(curve) - min(curve)
    return Finding(
        status=_grade(spread, SPREAD, LARGE_SPREAD),
        sentence=f"{len(curve)} random starts leave DSC that are {spread:.4f} apart.",
        value=spread,
        limit=SPREAD,
        unit="DSC",
        details={"dice": curve},
    )


def check_losses(subject: AuditSubject, attack: AttackEnsemble | None = None) -> Finding:
    """S13: no loss alone makes the model look robust."""
    outcomes = headline(subject, attack)
    left = {name: _member_mean(outcomes, name) for name in VOXEL_MEMBERS}
    known = {name: value for name, value in left.items() if value is not None}
    if len(known) < 2:
        return Finding(status=Status.SKIP, sentence="Every case was broken by the first loss.", details={"dice": left})
    spread = max(known.values()) - min(known.values())
    limit = max(LOSSES_APART, HALF * (mean_dice(subject.clean) - min(known.values())))
    weak, strong = max(known, key=lambda name: known[name]), min(known, key=lambda name: known[name])
    return Finding(
        status=Status.PASS if spread <= limit else Status.WARN,
        sentence=f"Losses agree to {spread:.4f} DSC: {strong} leaves {known[strong]:.4f}, {weak} {known[weak]:.4f}.",
        value=spread,
        limit=limit,
        unit="DSC",
        details={"dice": left},
    )


def _chance(subject: AuditSubject) -> float:
    """Return the DSC of organs of the right size whose voxels lie anywhere: the mean share of an organ."""
    counts = [torch.bincount(case.label.flatten().long())[1:].double() / case.label.numel() for case in subject.cases]
    shares = [count[count > 0].mean().item() for count in counts if count.any()]
    return sum(shares) / len(shares) if shares else 0.0


def _grade(value: float, limit: float, bad: float) -> Status:
    """Return PASS up to the limit, FAIL beyond what is bad, WARN between."""
    return Status.PASS if value <= limit else Status.WARN if value <= bad else Status.FAIL


def _largest_gap(stronger: Sequence[Outcome], weaker: Sequence[Outcome]) -> tuple[float, str]:
    """Return by how much at most the stronger attack leaves more, and in which case."""
    gaps = [(strong.foreground - weak.foreground, strong.case) for strong, weak in zip(stronger, weaker, strict=True)]
    return max(gaps)


def _mean_loss(outcomes: Sequence[Outcome]) -> float:
    """Return the mean loss over cases."""
    return sum(outcome.loss for outcome in outcomes) / len(outcomes)


def _member_mean(outcomes: Sequence[Outcome], name: str) -> float | None:
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

"""Checks of the clean prediction, and of what does not ask the network."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from vafa_monai.attacks.attack import Attack
from vafa_monai.attacks.controls import GaussianNoise, RandomQuantization, UniformQuantization
from vafa_monai.attacks.transfer_pgd import TransferPGD
from vafa_monai.audit.audit_attacks import headline
from vafa_monai.audit.audited_model import (
    AttackOutcome,
    AuditedModel,
    Check,
    CheckResult,
    Status,
    largest_gap,
    mean_dice,
    scored,
)
from vafa_monai.inferers.inferred_network import evaluating
from vafa_monai.losses.output import Output

__all__ = ["CLEAN_CHECKS", "CONTROL_CHECKS"]

LESS = 0.05  # DSC; another part of the data may make as much
FAR_LESS = 0.1
CASES = 3  # that other inputs are tried on
CLEAN_RESULT = "identity"
PLANES = ((2,), (3,), (4,), (2, 3))


def check_clean(subject: AuditedModel) -> CheckResult:
    """S16: the DSC without attack is that which is stated and measured elsewhere, and no mistake explains it."""
    clean = mean_dice(subject.clean)
    gaps = dict(_gaps(subject, clean))
    worst = max(gaps, key=lambda name: gaps[name])
    status = Status.PASS if gaps[worst] <= LESS else Status.WARN if gaps[worst] <= FAR_LESS else Status.FAIL
    stated = "" if {"stated", "measured"} & gaps.keys() else " No DSC is stated to compare with."
    found = {
        "stated": f"{subject.settings.stated_dice} is stated",
        "measured": "the clean result beside it has another",
        "constant": "one class everywhere does better",
        "classes": "the classes are swapped: another order of the channels does better",
    }
    text = found.get(worst, f"volume or label are not as the network wants them: {worst} does better")
    lowest = min(scored(subject.clean), key=lambda one: one.foreground)
    good = f"nothing explains a lower one; the lowest is {lowest.foreground:.4f}, {lowest.case}"
    why = good if status == Status.PASS else f"{text}, by {gaps[worst]:.4f}"
    return CheckResult(
        status=status,
        sentence=f"Without attack the DSC is {clean:.4f}; {why}.{stated}",
        value=gaps[worst],
        limit=LESS,
        unit="DSC",
        details={"clean": clean, **{name: gap for name, gap in gaps.items() if math.isfinite(gap)}},
    )


def _gaps(subject: AuditedModel, clean: float) -> Iterator[tuple[str, float]]:
    """Yield by how much the DSC is below what it could or should be, for each way to tell."""
    if subject.settings.stated_dice is not None:
        yield "stated", subject.settings.stated_dice - clean
    for measured in subject.measured:
        pairs = [(measured.dice[one.case], one.foreground) for one in subject.clean if one.case in measured.dice]
        known = [there - here for there, here in pairs if not math.isnan(there - here)]
        if measured.name == CLEAN_RESULT and known:
            yield "measured", abs(sum(known) / len(known))
    counts, mirrored, output = [], defaultdict(list), subject.output
    for case in subject.cases:
        logits = subject.logits(case.image)
        counts.append(Overlaps.of(*case.masks(logits, output)))
        for dims in PLANES:
            mirrored[dims].append(case.dice(logits.flip(dims), output))
    yield "classes", _best_assignment(counts, output) - clean
    yield "constant", LESS + _best_constant(counts, output) - clean
    tried = scored(subject.clean)[:CASES]
    few, before = [case for case in subject.cases if case.name in {one.case for one in tried}], mean_dice(tried)
    for name, (change, back) in _other_inputs(subject).items():
        yield name, _mean([one.dice(back(subject.logits(change(one.image))), output) for one in few]) - before
    for dims, dice in mirrored.items():
        yield f"mirroring axes {dims} of the label alone", _mean(dice) - clean


def _mean(dice: Sequence[Tensor]) -> float:
    """Return the mean over cases of the DSC of the organs, from rows ``(classes,)``."""
    return torch.stack([one[1:].nanmean() for one in dice]).nanmean().item()


@dataclass(frozen=True)
class Overlaps:
    """How many voxels of a case are in every channel of the prediction and in every class of the truth.

    Args:
        both: ``(channels, classes)``, in both.
        predicted: ``(channels,)``.
        true: ``(classes,)``.
        voxels: all voxels of the case.
    """

    both: Tensor
    predicted: Tensor
    true: Tensor
    voxels: int

    @classmethod
    def of(cls, pred: Tensor, truth: Tensor) -> Overlaps:
        """Count the voxels of masks ``(1, channels, ...)``."""
        pred, truth = (mask[0].flatten(1) > 0 for mask in (pred, truth))
        both = torch.stack([(pred & organ).sum(1) for organ in truth], dim=1).double()
        return cls(both, pred.sum(1).double(), truth.sum(1).double(), truth.shape[1])

    def dice(self) -> Tensor:
        """Return the DSC of every channel as every class, NaN for a class that is not there."""
        sizes = self.predicted[:, None] + self.true
        return (2 * self.both / sizes).masked_fill(self.true == 0, math.nan)


def _best_assignment(counts: Sequence[Overlaps], output: Output) -> float:
    """Return the DSC of the organs under the best order of all channels; an organ that no case has is left out."""
    tables = output.foreground(torch.stack([pairs.dice() for pairs in counts]))
    known = tables.nanmean(0).nan_to_num(0.0)
    rows, columns = linear_sum_assignment(-known.cpu().numpy())
    picked = tables[:, rows.tolist(), columns.tolist()]
    return picked.nanmean(1).nanmean().item()


def _best_constant(counts: Sequence[Overlaps], output: Output) -> float:
    """Return the DSC of the organs if every voxel is of the class for which that is highest, or in every region."""
    shares = output.foreground(torch.stack([pairs.true / pairs.voxels for pairs in counts]))
    dice = 2 * shares / (1 + shares)
    if output.is_sigmoid:
        return dice.masked_fill(shares == 0, math.nan).nanmean(1).nanmean().item()
    organs = (shares > 0).sum(1, keepdim=True)
    return (dice / organs).nanmean(0).max().item()  # NaN of background alone, which has no DSC


Change = Callable[[Tensor], Tensor]


def _other_inputs(subject: AuditedModel) -> Mapping[str, tuple[Change, Change]]:
    """Return other scalings and orientations of the input, each with what brings the logits back."""
    low, high = subject.value_range

    def same(volume: Tensor) -> Tensor:
        return volume

    def unit(volume: Tensor) -> Tensor:
        return (volume - low) / (high - low)

    def stretched(volume: Tensor) -> Tensor:
        lowest, highest = volume.amin((2, 3, 4), keepdim=True), volume.amax((2, 3, 4), keepdim=True)
        return low + (high - low) * (volume - lowest) / (highest - lowest).clamp_min(torch.finfo(volume.dtype).tiny)

    def standardized(volume: Tensor) -> Tensor:
        spread = volume.std((2, 3, 4), keepdim=True).clamp_min(torch.finfo(volume.dtype).tiny)
        return (volume - volume.mean((2, 3, 4), keepdim=True)) / spread

    scaled: dict[str, Change] = {
        "inverting intensities": lambda volume: low + high - volume,
        "stretching intensities": stretched,
        "standardizing intensities": standardized,
        "scaling intensities to [0, 1]": unit,
        "scaling intensities to [-1, 1]": lambda volume: 2 * unit(volume) - 1,
        "scaling intensities to [0, 255]": lambda volume: 255 * unit(volume),
        "scaling intensities from [0, 255]": lambda volume: volume / 255,
    }
    mirrored = {f"mirroring axes {dims}": _mirror(dims) for dims in PLANES}
    return {**{name: (change, same) for name, change in scaled.items()}, **{n: (m, m) for n, m in mirrored.items()}}


def _mirror(dims: tuple[int, ...]) -> Change:
    """Return what mirrors a volume, and mirrors it back."""
    return lambda volume: volume.flip(dims)


CLEAN_CHECKS = (
    Check(
        id="S16",
        name="clean",
        title="The model segments as stated before any attack",
        meaning="The network is given, or read, otherwise than it was trained, so its numbers are of another model.",
        run=check_clean,
    ),
)


SLACK = 0.005  # DSC; what two runs of one strength differ by
SMALL_DROP = 0.01  # DSC; of less no share is computed
SHARE = 0.5
LOW_SHARE = 0.25
GRADIENT_MEMBERS = ("apgd_masked_ce", "apgd_js", "apgd_dice_ce", "cos_pgd")
BLACK_BOX = "square"


def check_controls(
    subject: AuditedModel, attack: Attack | None = None, controls: Mapping[str, Attack] | None = None
) -> CheckResult:
    """S7: most of the harm is adversarial: changes of the same size that know nothing of the model do far less."""
    found = headline(subject, attack)
    clean, attacked = mean_dice(subject.clean), mean_dice(found)
    if clean - attacked < SMALL_DROP:
        text = f"The attack takes {clean - attacked:.4f} DSC, too little to compare with."
        return CheckResult(status=Status.SKIP, sentence=text, value=clean - attacked, limit=SMALL_DROP, unit="DSC")
    controls = controls or _controls(subject, found)
    left = {name: mean_dice(subject.outcomes(control)) for name, control in controls.items()}
    worst = min(left, key=lambda name: left[name])
    share = (left[worst] - attacked) / (clean - attacked)
    status = Status.PASS if share >= SHARE else Status.WARN if share >= LOW_SHARE else Status.FAIL
    return CheckResult(
        status=status,
        sentence=f"{share:.0%} of the harm is adversarial: {attacked:.4f} is left, by {worst} {left[worst]:.4f}.",
        value=share,
        limit=SHARE,
        unit="of the harm",
        details={"clean": clean, "attack": attacked, **left},
    )


def check_black_box(subject: AuditedModel, white: Attack | None = None, black: Attack | None = None) -> CheckResult:
    """S8: an attack that asks for no gradient never finds more than those that do."""
    if white is None or black is None:
        gaps = [_black_gap(outcome) for outcome in headline(subject)]
    else:
        pairs = zip(subject.outcomes(white), subject.outcomes(black), strict=True)
        gaps = [(one.foreground - other.foreground, one.case) for one, other in pairs]
    known = [gap for gap in gaps if not math.isnan(gap[0])]
    if not known:
        return CheckResult(status=Status.SKIP, sentence="Every case was broken before the black box had its turn.")
    gap, case = max(known)
    return CheckResult(
        status=Status.PASS if gap <= SLACK else Status.FAIL,
        sentence=f"The black box leaves at most {gap:+.4f} DSC less than the best gradient attack, in {case}.",
        value=gap,
        limit=SLACK,
        unit="DSC",
    )


def check_transfer(subject: AuditedModel, white: Attack | None = None) -> CheckResult:
    """S9: what was made for another model does less harm than what was made for this one."""
    if subject.surrogate is None:
        return CheckResult(status=Status.SKIP, sentence="There is no second model to transfer from.")
    direct = headline(subject, white)
    transferred = _transferred(subject, subject.surrogate)
    gap, case = largest_gap(direct, transferred)
    return CheckResult(
        status=Status.PASS if gap <= SLACK else Status.FAIL,
        sentence=f"Transfer leaves {mean_dice(transferred):.4f}, at most {gap:+.4f} less than a direct one, in {case}.",
        value=gap,
        limit=SLACK,
        unit="DSC",
        details={"transfer": mean_dice(transferred), "direct": mean_dice(direct)},
    )


def _transferred(subject: AuditedModel, surrogate: nn.Module) -> list[AttackOutcome]:
    """Attack the other model, and show the volumes to this one."""
    whole, settings = subject.pipeline(surrogate), subject.settings
    attack = TransferPGD(eps=settings.eps, steps=settings.steps, seed=settings.seed, **subject.common)
    with evaluating(whole):
        volumes = [attack(case.image, case.label, whole) for case in subject.cases]
    return subject.judged(subject.cases, volumes)


def _controls(subject: AuditedModel, found: Sequence[AttackOutcome]) -> dict[str, Attack]:
    """Return noise of the size of the change, and compression as coarse as the attacks may make it."""
    settings = subject.settings
    common = subject.common
    rms = sum(outcome.rms for outcome in found) / len(found)
    blocks = {**common, "block_size": settings.block_size}
    return {
        "noise of the same rms": GaussianNoise(std=round(rms, 6), seed=settings.seed, **common),
        "uniform quantization": UniformQuantization(q=settings.q_max, **blocks),
        "random quantization": RandomQuantization(q_max=settings.q_max, seed=settings.seed, **blocks),
    }


def _black_gap(outcome: AttackOutcome) -> tuple[float, str]:
    """Return how much less the black box left of a case than the best gradient attack; NaN if it had no turn."""
    members = outcome.details["members"]
    white = [value for name in GRADIENT_MEMBERS if not math.isnan(value := _mean_of_controls(members[name]["dice"]))]
    return (min(white) if white else math.nan) - _mean_of_controls(members[BLACK_BOX]["dice"]), outcome.case


def _mean_of_controls(dice: Sequence[float | None]) -> float:
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

"""The check before any attack: the model segments as stated, and no other reading of input or output does better."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from vafa_monai.attacks.ensemble import class_dice
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditSubject, mean_dice

__all__ = ["CLEAN_CHECKS", "check_clean"]

LESS = 0.05  # DSC; the grid of the files and another part of the data may make as much
FAR_LESS = 0.1
CASES = 3  # that other inputs are tried on
CLEAN_RESULT = "identity"
PLANES = ((2,), (3,), (4,), (2, 3))


def check_clean(subject: AuditSubject) -> Finding:
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
    lowest = min(subject.clean, key=lambda one: one.foreground)
    good = f"nothing explains a lower one; the lowest is {lowest.foreground:.4f}, {lowest.case}"
    why = good if status == Status.PASS else f"{text}, by {gaps[worst]:.4f}"
    return Finding(
        status=status,
        sentence=f"Without attack the DSC is {clean:.4f}; {why}.{stated}",
        value=gaps[worst],
        limit=LESS,
        unit="DSC",
        details={"clean": clean, **{name: gap for name, gap in gaps.items() if math.isfinite(gap)}},
    )


def _gaps(subject: AuditSubject, clean: float) -> Iterator[tuple[str, float]]:
    """Yield by how much the DSC is below what it could or should be, for each way to tell."""
    if subject.settings.stated_dice is not None:
        yield "stated", subject.settings.stated_dice - clean
    for measured in subject.measured:
        pairs = [(measured.dice[one.case], one.foreground) for one in subject.clean if one.case in measured.dice]
        known = [there - here for there, here in pairs if not math.isnan(there - here)]
        if measured.name == CLEAN_RESULT and known:
            yield "measured", abs(sum(known) / len(known))
    logits = {case.name: subject.logits(case.image) for case in subject.cases}
    labels = {case.name: case.label for case in subject.cases}
    yield "classes", _best_assignment(logits, labels) - clean
    yield "constant", LESS + _best_constant(labels, len(subject.classes)) - clean
    few, before = subject.cases[:CASES], mean_dice(subject.clean[:CASES])
    for name, (change, back) in _other_inputs(subject).items():
        yield name, _mean([class_dice(back(subject.logits(change(one.image))), one.label) for one in few]) - before
    for dims in PLANES:
        dice = [class_dice(logits[one.name].flip(dims), one.label) for one in subject.cases]
        yield f"mirroring axes {dims} of the label alone", _mean(dice) - clean


def _mean(dice: Sequence[Tensor]) -> float:
    """Return the mean over cases of the DSC of the organs, from rows ``(1, classes)``."""
    return torch.stack([one[0, 1:].nanmean() for one in dice]).nanmean().item()


def _best_assignment(logits: Mapping[str, Tensor], labels: Mapping[str, Tensor]) -> float:
    """Return the DSC of the organs under the best order of all channels; an organ that no case has is left out."""
    tables = torch.stack([_table(logits[name], label) for name, label in labels.items()])
    mean = tables.nanmean(0)
    known = mean.nan_to_num(0.0)
    rows, columns = linear_sum_assignment(-known[:, 1:].cpu().numpy())
    order = dict(zip((columns + 1).tolist(), rows.tolist(), strict=True))
    picked = torch.stack([tables[:, channel, organ] for organ, channel in order.items()], dim=1)
    return picked.nanmean(1).nanmean().item()


def _table(logits: Tensor, label: Tensor) -> Tensor:
    """Return the DSC of every channel as every class, ``(channels, classes)``, NaN for a class that is not there."""
    count = logits.shape[1]
    pred, truth = logits.argmax(1).flatten(), label.flatten().long()
    pairs = torch.bincount(pred * count + truth, minlength=count * count).view(count, count).double()
    sizes = pairs.sum(1, keepdim=True) + pairs.sum(0, keepdim=True)
    return (2 * pairs / sizes).masked_fill(pairs.sum(0, keepdim=True) == 0, math.nan)


def _best_constant(labels: Mapping[str, Tensor], classes: int) -> float:
    """Return the DSC of the organs if every voxel is of the class for which that is highest."""
    rows = []
    for label in labels.values():
        share = torch.bincount(label.flatten().long(), minlength=classes).double() / label.numel()
        organs = (share[1:] > 0).sum().clamp_min(1)
        rows.append((2 * share / (1 + share))[1:] / organs)
    return torch.stack(rows).mean(0).max().item()


Change = Callable[[Tensor], Tensor]


def _other_inputs(subject: AuditSubject) -> Mapping[str, tuple[Change, Change]]:
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

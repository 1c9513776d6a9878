"""Checks of the cases, of what is saved of them, and of how they are measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_dice
from torch import Tensor

from vafa_monai.audit.audit_attacks import headline
from vafa_monai.audit.audited_model import AttackOutcome, AuditedModel, Check, CheckResult, Status, mean_dice, scored
from vafa_monai.data.files import write_volume
from vafa_monai.metrics.interval import mean_interval
from vafa_monai.metrics.surface import compute_hausdorff_distance_95, compute_normalized_surface_dice

__all__ = ["DATA_CHECKS", "FILE_CHECKS", "METRIC_CHECKS"]

FEW = 5  # cases; an interval of fewer tells nothing


def check_splits(subject: AuditedModel) -> CheckResult:
    """S20: no image is in two parts of the data."""
    if not subject.splits or len(subject.splits) < 2:
        return CheckResult(status=Status.SKIP, sentence="The parts of the data are not known.")
    shared = {
        f"{one} and {other}": len(set(subject.splits[one]) & set(subject.splits[other]))
        for one, other in combinations(subject.splits, 2)
    }
    worst = max(shared, key=lambda pair: shared[pair])
    parts = ", ".join(f"{name} {len(hashes)}" for name, hashes in subject.splits.items())
    return CheckResult(
        status=Status.FAIL if shared[worst] else Status.PASS,
        sentence=f"Images by content: {parts}; {shared[worst]} in both {worst}.",
        value=shared[worst],
        limit=0,
        unit="images",
        details=shared,
    )


def check_statistics(subject: AuditedModel) -> CheckResult:
    """S22: there are enough cases for an interval."""
    found = mean_interval([one.foreground for one in scored(headline(subject))], seed=subject.settings.seed)
    bounds = "no interval" if found.low is None else f"95 % interval {found.low:.3f} to {found.high:.3f}"
    return CheckResult(
        status=Status.PASS if found.n >= FEW else Status.WARN,
        sentence=f"{found.n} cases leave {found.mean or 0:.4f} under attack, {bounds}.",
        value=found.n,
        limit=FEW,
        unit="cases at least",
        details={"mean": found.mean, "low": found.low, "high": found.high},
    )


DATA_CHECKS = (
    Check(
        id="S20",
        name="splits",
        title="Nobody trained on the cases",
        meaning="Images of the test are known to the model, so neither its clean nor its robust number is one.",
        run=check_splits,
    ),
    Check(
        id="S22",
        name="statistics",
        title="There are enough cases",
        meaning="Other cases of the same kind could give a very different number.",
        run=check_statistics,
    ),
)


LOSSLESS = 1e-3  # DSC
COARSE = 0.02
LEVELS = {"int16": 4095, "uint8": 255}  # steps from lowest to highest: 12 bits, as CT and MRI scanners store, and 8
Writer = Callable[[Path, np.ndarray, np.ndarray], None]


def check_survival(subject: AuditedModel, writer: Writer = write_volume) -> CheckResult:
    """S18: written as float32, int16 and uint8, and read again, the volumes do the same harm."""
    found = headline(subject)
    memory = mean_dice(found)
    gaps = {kind: mean_dice(_reloaded(subject, found, kind, writer)) - memory for kind in ("float32", *LEVELS)}
    lost, coarse = abs(gaps["float32"]), max(abs(gaps[kind]) for kind in LEVELS)
    status = Status.FAIL if lost > LOSSLESS else Status.WARN if coarse > COARSE else Status.PASS
    text = ", ".join(f"{kind} {gap:+.4f}" for kind, gap in gaps.items())
    return CheckResult(
        status=status,
        sentence=f"Read back from files the DSC differs by: {text}.",
        value=lost,
        limit=LOSSLESS,
        unit="DSC",
        details=gaps,
    )


def _reloaded(
    subject: AuditedModel, found: tuple[AttackOutcome, ...], kind: str, writer: Writer
) -> list[AttackOutcome]:
    """Write the attacked volumes, read them again, and show them to the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.nii.gz"
        volumes = [one.adv for one in found if one.adv is not None]
        return subject.judged(subject.cases, [_through_file(subject, adv, kind, path, writer) for adv in volumes])


def _through_file(subject: AuditedModel, adv: Tensor, kind: str, path: Path, writer: Writer) -> Tensor:
    """Return a volume as it comes back from a file; whole numbers are steps from the lowest intensity on."""
    low, steps = subject.value_range[0], LEVELS.get(kind)
    scale = subject.width / steps if steps else 1.0
    volume = adv[0].movedim(0, -1).cpu().numpy()
    stored = np.rint((volume - low) / scale).astype(kind) if steps else volume.astype(kind)
    writer(path, stored, np.eye(4))
    image = nib.load(path)
    back = np.asanyarray(image.dataobj).astype(np.float32)  # type: ignore[attr-defined]
    back = low + scale * back if steps else back
    return torch.from_numpy(back).movedim(-1, 0)[None].to(adv).clamp(*subject.value_range)


FILE_CHECKS = (
    Check(
        id="S18",
        name="survival",
        title="The harm survives files",
        meaning="What is handed on as an attacked volume is not what was measured.",
        run=check_survival,
    ),
)


Metric = Callable[[Tensor, Tensor, Sequence[float]], Tensor]


def _dice(y_pred: Tensor, y: Tensor, spacing: Sequence[float]) -> Tensor:
    """Return MONAI's Dice of the organs, as the results hold it."""
    return compute_dice(y_pred, y, include_background=False)


METRICS: Mapping[str, tuple[Metric, bool]] = {  # of one-hot prediction, truth and spacing; whether more is better
    "Dice": (_dice, True),
    "HD95": (compute_hausdorff_distance_95, False),
    "surface Dice": (compute_normalized_surface_dice, True),
}
PERFECT = {True: 1.0, False: 0.0}


def check_metrics(subject: AuditedModel, metrics: Mapping[str, tuple[Metric, bool]] = METRICS) -> CheckResult:
    """S19: on a phantom a perfect prediction is best, losing an organ improves nothing, and distances are in mm."""
    faults = [f"{name} {fault}" for name, pair in metrics.items() if (fault := _fault(*pair))]
    return CheckResult(
        status=Status.FAIL if faults else Status.PASS,
        sentence=f"{'; '.join(faults) or ', '.join(metrics) + ' rank predictions of a phantom rightly'}.",
        value=len(faults),
        limit=0,
        unit="faults",
    )


def _fault(metric: Metric, more_is_better: bool) -> str:
    """Say what a metric gets wrong; an empty text if nothing."""
    truth = _phantom()
    sign = 1 if more_is_better else -1
    worn = truth.clone()  # the large organ is whole, the small one lacks two of its four layers
    worn[:, 2, ..., 4:6], worn[:, 0, ..., 4:6] = 0, (truth[:, 0] + truth[:, 2])[..., 4:6]
    lost = worn.clone()
    lost[:, 0] += lost[:, 2]
    lost[:, 2] = 0

    def mean(prediction: Tensor, spacing: Sequence[float] = (1.0, 1.0, 1.0)) -> float:
        return metric(prediction, truth, spacing).nanmean().item()

    if abs(mean(truth) - PERFECT[more_is_better]) > 1e-6:
        return f"of a perfect prediction is {mean(truth):g}"
    if not sign * mean(worn) < sign * mean(truth):
        return "does not charge a worse prediction"
    if not sign * mean(lost) < sign * mean(worn):
        return "improves or stays where an organ is lost"
    if not more_is_better and abs(mean(worn, (2.0, 2.0, 2.0)) - 2 * mean(worn)) > 1e-6:
        return "does not scale with the spacing"
    return ""


def _phantom() -> Tensor:
    """Return a one-hot phantom ``(1, 3, 12, 10, 9)`` of a large and a small organ."""
    label = torch.zeros(1, 12, 10, 9, dtype=torch.long)
    label[:, 3:8, 2:7, 2:7] = 1
    label[:, 9:11, 5:9, 4:8] = 2
    return torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()


METRIC_CHECKS = (
    Check(
        id="S19",
        name="metrics",
        title="Metrics charge what is lost",
        meaning="A model that loses organs gets a better number than one that keeps them.",
        run=check_metrics,
    ),
)

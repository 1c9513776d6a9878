"""The check of the metrics: they reward what is better, and charge what is lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from monai.metrics import compute_dice
from torch import Tensor

from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditSubject
from vafa_monai.metrics import compute_hausdorff_distance_95, compute_normalized_surface_dice

__all__ = ["METRICS", "METRIC_CHECKS", "check_metrics"]

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


def check_metrics(subject: AuditSubject, metrics: Mapping[str, tuple[Metric, bool]] = METRICS) -> Finding:
    """S19: on a phantom of two organs a perfect prediction is best, a lost organ is no better, and mm are mm."""
    faults = [f"{name} {fault}" for name, pair in metrics.items() if (fault := _fault(*pair))]
    return Finding(
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

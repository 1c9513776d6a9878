"""Counting the organs that a prediction lost or invented."""

from __future__ import annotations

import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.utils import MetricReduction
from torch import Tensor

__all__ = ["OrganPresenceMetric", "compute_organ_presence"]


def compute_organ_presence(y_pred: Tensor, y: Tensor) -> Tensor:
    """Count, per sample, the classes that only the truth has (lost) and that only the prediction has (invented).

    Args:
        y_pred: one-hot prediction of shape ``(B, C, H, W, D)``, background first.
        y: one-hot truth of the same shape.

    Returns:
        Counts of shape ``(B, 2)``: lost, invented.

    Example:
        >>> truth, pred = torch.zeros(2, 1, 3, 2, 2, 2)
        >>> truth[:, 1], pred[:, 2] = 1, 1
        >>> compute_organ_presence(pred, truth).tolist()
        [[1.0, 1.0]]
    """
    predicted, true = (mask[:, 1:].flatten(2).any(-1) for mask in (y_pred, y))
    return torch.stack([(true & ~predicted).sum(1), (predicted & ~true).sum(1)], dim=1).float()


class OrganPresenceMetric(CumulativeIterationMetric):
    """Accumulate :func:`compute_organ_presence`; the aggregate is the total of ``(lost, invented)``."""

    def aggregate(self) -> Tensor:
        """Return the totals, shape ``(2,)``."""
        return do_metric_reduction(self.get_buffer(), MetricReduction.SUM_BATCH)[0]

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        if y is None:
            raise ValueError("y must be a one-hot truth, got None.")
        return compute_organ_presence(y_pred, y)

"""Organs that are lost or invented, and their volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.utils import MetricReduction
from torch import Tensor

from vafa_monai.losses.output import SEVERAL, Output

__all__ = [
    "OrganPresenceMetric",
    "compute_organ_presence",
    "compute_organ_volumes",
    "organ_channels",
    "require_masks",
    "require_one_hot",
    "require_spacing",
]


def require_masks(y_pred: Tensor, y: Tensor, output: Output | str = "softmax") -> None:
    """Refuse what is no pair of masks of classes; of a softmax they are several, and do not overlap in the truth.

    Raises:
        ValueError: if the shapes differ or are not ``(B, C, H, W, D)``, if a voxel is neither 0 nor 1 (probabilities,
            NaN), or of a softmax if there is one channel, or if classes of the truth overlap.
    """
    sigmoid = Output.of(output).is_sigmoid
    if y_pred.shape != y.shape or y.ndim != 5:
        shapes = f"{tuple(y_pred.shape)} and {tuple(y.shape)}"
        raise ValueError(f"y_pred and y must be masks of one shape (B, C, H, W, D), got {shapes}.")
    if y.shape[1] < 2 and not sigmoid:
        raise ValueError(f"y must have one channel for each class, background first, got {y.shape[1]}; {SEVERAL}.")
    for name, mask in (("y_pred", y_pred), ("y", y)):
        wrong = (mask != 0) & (mask != 1)
        if wrong.any():
            raise ValueError(f"{name} must hold masks of 0 and 1, got {mask[wrong][0].item():g}.")
    if not sigmoid and (y.sum(1, dtype=torch.int32) > 1).any():
        raise ValueError(f"y must have one class a voxel at most, got classes that overlap; {SEVERAL}.")


def require_one_hot(y_pred: Tensor, y: Tensor, output: Output | str = "softmax") -> None:
    """Refuse masks that are not one-hot under a softmax, such as regions, of which one would count as the background.

    A prediction may have voxels of no class, which a transform that removes small components leaves.

    Raises:
        ValueError: as :func:`require_masks`, or if under a softmax a voxel of the truth has no class, or one of the
            prediction several.
    """
    require_masks(y_pred, y, output)
    if Output.of(output).is_sigmoid:
        return
    if (y.sum(1, dtype=torch.int32) != 1).any():
        raise ValueError(f"y must have one class a voxel, background first, got voxels of none; {SEVERAL}.")
    if (y_pred.sum(1, dtype=torch.int32) > 1).any():
        raise ValueError(f"y_pred must have one class a voxel at most, got classes that overlap; {SEVERAL}.")


def organ_channels(channels: int, output: Output | str) -> list[int]:
    """Return the channels of masks that are organs: all but the background.

    Example:
        >>> organ_channels(3, "softmax"), organ_channels(3, "sigmoid")
        ([1, 2], [0, 1, 2])
    """
    return [index for index in range(channels) if index != Output.of(output).background]


def compute_organ_presence(y_pred: Tensor, y: Tensor, output: Output | str = "softmax") -> Tensor:
    """Count, per sample, the classes that only the truth has (lost) and that only the prediction has (invented).

    Args:
        y_pred: masks of the prediction, shape ``(B, C, H, W, D)``: one-hot, or the regions of sigmoids.
        y: masks of the truth, of the same shape.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`; its background is no organ.

    Returns:
        Counts of shape ``(B, 2)``: lost, invented.

    Raises:
        ValueError: if they are no masks of that kind, see :func:`require_masks`.

    Example:
        >>> truth, pred = torch.zeros(2, 1, 3, 2, 2, 2)
        >>> truth[:, 1], pred[:, 2] = 1, 1
        >>> compute_organ_presence(pred, truth).tolist()
        [[1.0, 1.0]]
    """
    require_masks(y_pred, y, output)
    organs = organ_channels(y.shape[1], output)
    predicted, true = (mask[:, organs].flatten(2).any(-1) for mask in (y_pred, y))
    return torch.stack([(true & ~predicted).sum(1), (predicted & ~true).sum(1)], dim=1).float()


class OrganPresenceMetric(CumulativeIterationMetric):
    """Accumulate :func:`compute_organ_presence`; the aggregate is the total of ``(lost, invented)``.

    Args:
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.
    """

    def __init__(self, output: Output | str = "softmax") -> None:
        super().__init__()
        self.output = Output.of(output)

    def aggregate(self) -> Tensor:
        """Return the totals, shape ``(2,)``."""
        return do_metric_reduction(self.get_buffer(), MetricReduction.SUM_BATCH)[0]

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        if y is None:
            raise ValueError("y must be a one-hot truth, got None.")
        return compute_organ_presence(y_pred, y, self.output)


def require_spacing(spacing: Sequence[float]) -> None:
    """Refuse edges of a voxel that are no three lengths above 0, with which every figure in mm or ml would be wrong."""
    if len(spacing) != 3 or not all(0 < edge < math.inf for edge in spacing):  # NaN fails
        raise ValueError(f"spacing must be three finite lengths above 0 mm, got {tuple(spacing)}.")


def compute_organ_volumes(mask: Tensor, spacing: Sequence[float]) -> Tensor:
    """Compute the volume of every class.

    Args:
        mask: one-hot classes of shape ``(B, C, H, W, D)``.
        spacing: voxel size in mm along each axis.

    Returns:
        Volumes of shape ``(B, C)`` in ml, in double precision.

    Raises:
        ValueError: if ``spacing`` is not three lengths above 0.

    Example:
        >>> import torch
        >>> compute_organ_volumes(torch.ones(1, 1, 10, 20, 5), (1.0, 2.0, 0.5)).item()
        1.0
    """
    require_spacing(spacing)
    return mask.flatten(2).double().sum(-1) * (math.prod(spacing) / 1000)

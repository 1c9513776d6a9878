"""Jensen-Shannon divergence of the prediction and the truth."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vafa_monai.losses.voxel_loss import VoxelLoss, voxel_cross_entropy, voxel_mean

__all__ = ["JensenShannonLoss", "jensen_shannon"]


def jensen_shannon(input: Tensor, target: Tensor, balanced: bool = False) -> Tensor:
    """Average the Jensen-Shannon divergence of softmax and one-hot truth over the voxels, one number a sample.

    It is bounded by ln 2, and its gradient vanishes where a voxel is surely wrong, so that no step is spent there
    (Croce et al., ECCV 2024, https://arxiv.org/abs/2306.12941). With p the probability of the true class it is
    ``ln 2 + (p ln p - (1 + p) ln(1 + p)) / 2``.

    Args:
        input: logits of shape ``(B, classes, H, W, D)``; one channel is the logit of class 1 against 0.
        target: class indices of shape ``(B, 1, H, W, D)``.
        balanced: average over the voxels of each class, then over the classes present.

    Returns:
        Divergence of shape ``(B,)``, in nats.

    Raises:
        ValueError: if ``target`` does not have the shape of ``input`` with one channel.

    Example:
        >>> logits = torch.tensor([99.0, 0.0]).view(1, 2, 1, 1, 1)
        >>> [round(jensen_shannon(logits, torch.full((1, 1, 1, 1, 1), label)).item(), 4) for label in (0, 1)]
        [0.0, 0.6931]
    """
    logarithm = -voxel_cross_entropy(input, target)
    right = logarithm.exp()
    divergence = math.log(2) + (right * logarithm - (1 + right) * torch.log1p(right)) / 2
    return voxel_mean(F.relu(divergence), target, balanced=balanced)  # rounding gives -1e-8 for a sure voxel


class JensenShannonLoss(VoxelLoss):
    """Jensen-Shannon divergence of prediction and truth. Face of :func:`jensen_shannon`.

    Args:
        balanced: average over the voxels of each class, then over the classes present.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
    """

    def __init__(self, balanced: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.balanced = balanced

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        return jensen_shannon(input, target, self.balanced)

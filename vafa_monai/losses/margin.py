"""Difference of logits: how far the best wrong class is above the true one."""

from __future__ import annotations

from torch import Tensor

from vafa_monai.losses.voxel_loss import VoxelLoss, class_logits, voxel_mean

__all__ = ["MarginLoss", "margin"]


def margin(input: Tensor, target: Tensor, balanced: bool = False) -> Tensor:
    """Average the margin of the best wrong class, ``max_j logit_j - logit_y`` over ``j != y``, one number a sample.

    The sign of a voxel's margin says whether it is wrong, and its gradient does not vanish where softmax is saturated
    (Carlini and Wagner, S&P 2017, https://arxiv.org/abs/1608.04644).

    Args:
        input: logits of shape ``(B, classes, H, W, D)``; one channel is the logit of class 1 against 0.
        target: class indices of shape ``(B, 1, H, W, D)``.
        balanced: average over the voxels of each class, then over the classes present.

    Returns:
        Margin of shape ``(B,)``, in the unit of the logits.

    Raises:
        ValueError: if ``target`` does not have the shape of ``input`` with one channel.

    Example:
        >>> import torch
        >>> logits = torch.tensor([1.0, 4.0, 2.0]).view(1, 3, 1, 1, 1)
        >>> [margin(logits, torch.full((1, 1, 1, 1, 1), label)).item() for label in (0, 1, 2)]
        [3.0, -2.0, 2.0]
    """
    logits, labels = class_logits(input, target)
    own = logits.gather(1, labels[:, None])[:, 0]
    other = logits.scatter(1, labels[:, None], float("-inf")).amax(1)
    return voxel_mean(other - own, target, balanced=balanced)


class MarginLoss(VoxelLoss):
    """Margin of the best wrong class. Face of :func:`margin`.

    Args:
        balanced: average over the voxels of each class, then over the classes present.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
    """

    def __init__(self, balanced: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.balanced = balanced

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        return margin(input, target, self.balanced)

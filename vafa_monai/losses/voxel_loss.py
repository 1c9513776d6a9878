"""What the losses of single voxels share: logits and labels that fit, means over voxels or classes, a common scale."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.utils import LossReduction, look_up_option
from torch import Tensor
from torch.nn.modules.loss import _Loss

__all__ = ["VoxelLoss", "class_logits", "right_voxels", "soft_error", "voxel_cross_entropy", "voxel_mean"]


def class_logits(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits ``(B, classes, H, W, D)`` of two classes at least, and labels ``(B, H, W, D)`` of whole numbers.

    A single channel is the logit of class 1 against 0, whose softmax is the sigmoid.

    Raises:
        ValueError: if ``target`` does not have the shape of ``input`` with one channel.
    """
    if target.shape != (len(input), 1, *input.shape[2:]):
        shapes = f"{tuple(target.shape)} for input of shape {tuple(input.shape)}"
        raise ValueError(f"target must have the shape of input with one channel, got {shapes}.")
    logits = torch.cat([torch.zeros_like(input), input], 1) if input.shape[1] == 1 else input
    return logits, target[:, 0].long()


def voxel_cross_entropy(input: Tensor, target: Tensor) -> Tensor:
    """Return the cross entropy of every voxel, ``(B, H, W, D)``."""
    return F.cross_entropy(*class_logits(input, target), reduction="none")


def right_voxels(input: Tensor, target: Tensor) -> Tensor:
    """Tell which voxels are classified as ``target``, ``(B, H, W, D)``."""
    logits, labels = class_logits(input, target)
    return logits.detach().argmax(1) == labels


def voxel_mean(values: Tensor, target: Tensor, *, balanced: bool = False) -> Tensor:
    """Average ``(B, H, W, D)`` over the voxels of each sample, ``(B,)``; if ``balanced``, over the classes present.

    A balanced mean is the mean of the means of the classes of ``target``, so that a small organ counts as much as the
    background.

    Example:
        >>> values, labels = torch.tensor([4.0, 1.0, 1.0, 1.0]), torch.tensor([1, 0, 0, 0])
        >>> shape = (1, 1, 2, 2)
        >>> means = [voxel_mean(values.view(shape), labels.view(1, *shape), balanced=b) for b in (False, True)]
        >>> [round(mean.item(), 3) for mean in means]
        [1.75, 2.5]
    """
    if not balanced:
        return values.flatten(1).mean(1)
    labels = target.flatten(1).long()
    counts = labels.new_zeros(len(labels), int(labels.max()) + 1).scatter_add_(1, labels, torch.ones_like(labels))
    weights = 1 / (counts * (counts > 0).sum(1, keepdim=True)).to(values.dtype)  # of a voxel; infinite if absent
    return (weights.gather(1, labels) * values.flatten(1)).sum(1)


def soft_error(input: Tensor, target: Tensor, *, balanced: bool = False) -> Tensor:
    """Return the mean probability that a voxel is not of its class, ``(B,)``, in [0, 1]."""
    logits, labels = class_logits(input, target)
    right = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return voxel_mean(1 - right, target, balanced=balanced)


class VoxelLoss(_Loss):
    """A loss of logits ``(B, classes, H, W, D)`` and class indices ``(B, 1, H, W, D)`` that is a mean over voxels.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
    """

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=look_up_option(reduction, LossReduction).value)

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        raise NotImplementedError

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``input`` for class indices ``target``."""
        loss = self.samples(input, target)
        return {"mean": loss.mean(), "sum": loss.sum(), "none": loss}[self.reduction]

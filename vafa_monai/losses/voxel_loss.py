"""Losses of single voxels: margin, masked cross entropy, Jensen-Shannon divergence, and what all of them share."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from monai.utils import LossReduction, look_up_option
from torch import Tensor
from torch.nn.modules.loss import _Loss

from vafa_monai.losses.output import Output

__all__ = [
    "JensenShannonLoss",
    "MarginLoss",
    "MaskedCrossEntropyLoss",
    "VoxelLoss",
    "class_logits",
    "jensen_shannon",
    "margin",
    "masked_cross_entropy",
    "right_voxels",
    "soft_error",
    "voxel_cross_entropy",
    "voxel_mean",
]


def class_logits(
    input: Tensor, target: Tensor, name: str = "target", output: Output | str = "softmax"
) -> tuple[Tensor, Tensor]:
    """Return logits of two classes at least along axis 1, and the index of the true one for all their other axes.

    These are ``(B, classes, H, W, D)`` and ``(B, H, W, D)`` of a softmax. Each channel of a sigmoid is a choice by
    itself: ``(B, 2, channels, H, W, D)``, of 0 and the logit, and ``(B, channels, H, W, D)``.

    Raises:
        ValueError: if ``target`` does not fit ``input``, or holds what is no label; see :meth:`Output.indices`.
    """
    output = Output.of(output)
    return output.scores(input), output.indices(input, target, name)


def voxel_cross_entropy(input: Tensor, target: Tensor, output: Output | str = "softmax") -> Tensor:
    """Return the cross entropy of every voxel, ``(B, H, W, D)``, or of every channel there, ``(B, channels, H, W, D)``.

    That of a sigmoid is the binary one, ``-ln p`` or ``-ln(1 - p)`` with p the sigmoid.
    """
    return F.cross_entropy(*class_logits(input, target, output=output), reduction="none")


def right_voxels(input: Tensor, target: Tensor, output: Output | str = "softmax") -> Tensor:
    """Tell which voxels, or channels of voxels, are classified as ``target``, in the shape of their cross entropy."""
    logits, labels = class_logits(input, target, output=output)
    return logits.detach().argmax(1) == labels


def voxel_mean(values: Tensor, target: Tensor, *, balanced: bool = False, output: Output | str = "softmax") -> Tensor:
    """Average values of voxels over each sample, ``(B,)``; if ``balanced``, over the classes present.

    A balanced mean is the mean of the means of the classes of ``target``, so that a small organ counts as much as the
    background; under a sigmoid of the two answers of each channel. Voxels that are to be ignored do not count.

    Args:
        values: one a voxel, or under a sigmoid one a channel of it, as :func:`voxel_cross_entropy` gives them.
        target: labels.
        balanced: average over the voxels of each class, then over the classes present.
        output: what the labels mean.

    Example:
        >>> values, labels = torch.tensor([4.0, 1.0, 1.0, 1.0]), torch.tensor([1, 0, 0, 0])
        >>> shape = (1, 1, 2, 2)
        >>> means = [voxel_mean(values.view(shape), labels.view(1, *shape), balanced=b) for b in (False, True)]
        >>> [round(mean.item(), 3) for mean in means]
        [1.75, 2.5]
    """
    output = Output.of(output)
    if not balanced and output.ignore is None:
        return values.flatten(1).mean(1)
    groups = output.groups(target) + 1  # 0 is to be ignored
    if not balanced:
        groups = groups.clamp_max(1)
    counts = groups.new_zeros(len(groups), int(groups.max()) + 1).scatter_add_(1, groups, torch.ones_like(groups))
    counts[:, 0] = 0
    weights = 1 / (counts * (counts > 0).sum(1, keepdim=True)).to(values.dtype)  # of a voxel; infinite if absent
    weights[:, 0] = 0
    return (weights.gather(1, groups) * values.flatten(1)).sum(1)


def soft_error(input: Tensor, target: Tensor, *, balanced: bool = False, output: Output | str = "softmax") -> Tensor:
    """Return the mean probability that a voxel, or a channel of it, is not of its class, ``(B,)``, in [0, 1]."""
    logits, labels = class_logits(input, target, output=output)
    right = logits.softmax(1).gather(1, labels[:, None])[:, 0]
    return voxel_mean(1 - right, target, balanced=balanced, output=output)


class VoxelLoss(_Loss):
    """A loss of logits ``(B, channels, H, W, D)`` and labels that is a mean over voxels.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
        output: what the channels mean, see :class:`Output`.
    """

    def __init__(self, reduction: str = "mean", output: Output | str = "softmax") -> None:
        super().__init__(reduction=look_up_option(reduction, LossReduction).value)
        self.output = Output.of(output)

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        raise NotImplementedError

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``input`` for labels ``target``."""
        loss = self.samples(input, target)
        return {"mean": loss.mean(), "sum": loss.sum(), "none": loss}[self.reduction]


def margin(input: Tensor, target: Tensor, balanced: bool = False, output: Output | str = "softmax") -> Tensor:
    """Average the margin of the best wrong class, ``max_j logit_j - logit_y`` over ``j != y``, one number a sample.

    The sign of a voxel's margin says whether it is wrong, and its gradient does not vanish where softmax is saturated
    (Carlini and Wagner, S&P 2017, https://arxiv.org/abs/1608.04644). A channel of a sigmoid has ``logit`` where the
    truth is no, and ``-logit`` where it is yes.

    Args:
        input: logits of shape ``(B, channels, H, W, D)``.
        target: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 in the shape of ``input`` for a sigmoid.
        balanced: average over the voxels of each class, then over the classes present.
        output: what the channels mean, see :class:`Output`.

    Returns:
        Margin of shape ``(B,)``, in the unit of the logits.

    Raises:
        ValueError: if ``target`` does not fit ``input``.

    Example:
        >>> import torch
        >>> logits = torch.tensor([1.0, 4.0, 2.0]).view(1, 3, 1, 1, 1)
        >>> [margin(logits, torch.full((1, 1, 1, 1, 1), label)).item() for label in (0, 1, 2)]
        [3.0, -2.0, 2.0]
    """
    logits, labels = class_logits(input, target, output=output)
    own = logits.gather(1, labels[:, None])[:, 0]
    other = logits.scatter(1, labels[:, None], float("-inf")).amax(1)
    return voxel_mean(other - own, target, balanced=balanced, output=output)


class MarginLoss(VoxelLoss):
    """Margin of the best wrong class. Face of :func:`margin`.

    Args:
        balanced: average over the voxels of each class, then over the classes present.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
        output: what the channels mean, see :class:`Output`.
    """

    def __init__(self, balanced: bool = False, reduction: str = "mean", output: Output | str = "softmax") -> None:
        super().__init__(reduction, output)
        self.balanced = balanced

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        return margin(input, target, self.balanced, self.output)


def masked_cross_entropy(
    input: Tensor,
    target: Tensor,
    balanced: bool = False,
    targeted: bool = False,
    output: Output | str = "softmax",
) -> Tensor:
    """Average the cross entropy of the voxels that are classified right, 0 for the others, one number a sample.

    A step that raises it is not spent on voxels that are wrong already, whose cross entropy has no bound. The losses
    Mask-CE and balanced Mask-CE of the segmentation ensemble attack (Croce et al., ECCV 2024,
    https://arxiv.org/abs/2306.12941). Under a sigmoid it is the binary cross entropy of the channels that are right.

    Args:
        input: logits of shape ``(B, channels, H, W, D)``.
        target: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 in the shape of ``input`` for a sigmoid.
        balanced: average over the voxels of each class, then over the classes present.
        targeted: count the voxels that are not classified as ``target`` yet: for an attack that lowers the loss.
        output: what the channels mean, see :class:`Output`.

    Returns:
        Loss of shape ``(B,)``; no gradient flows through the choice of voxels.

    Raises:
        ValueError: if ``target`` does not fit ``input``.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 9.0], [0.0, -9.0]]).view(1, 2, 1, 1, 2)  # the second voxel is wrong
        >>> round(masked_cross_entropy(logits, torch.tensor([0, 1]).view(1, 1, 1, 1, 2)).item(), 4)  # ln(2) / 2
        0.3466
    """
    counted = right_voxels(input, target, output) != targeted
    return voxel_mean(counted * voxel_cross_entropy(input, target, output), target, balanced=balanced, output=output)


class MaskedCrossEntropyLoss(VoxelLoss):
    """Cross entropy of the voxels that are still right. Face of :func:`masked_cross_entropy`.

    It falls to 0 as the last voxel turns wrong, so an attack compares its iterates by :meth:`harm` instead.

    Args:
        balanced: average over the voxels of each class, then over the classes present.
        targeted: count the voxels that are not classified as the target yet.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
        output: what the channels mean, see :class:`Output`.
    """

    def __init__(
        self,
        balanced: bool = False,
        targeted: bool = False,
        reduction: str = "mean",
        output: Output | str = "softmax",
    ) -> None:
        super().__init__(reduction, output)
        self.balanced = balanced
        self.targeted = targeted

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        return masked_cross_entropy(input, target, self.balanced, self.targeted, self.output)

    def harm(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean probability of a wrong class, ``(B,)``, balanced as the loss is."""
        return soft_error(input, target, balanced=self.balanced, output=self.output)


def jensen_shannon(input: Tensor, target: Tensor, balanced: bool = False, output: Output | str = "softmax") -> Tensor:
    """Average the Jensen-Shannon divergence of softmax and one-hot truth over the voxels, one number a sample.

    It is bounded by ln 2, and its gradient vanishes where a voxel is surely wrong, so that no step is spent there
    (Croce et al., ECCV 2024, https://arxiv.org/abs/2306.12941). With p the probability of the true class it is
    ``ln 2 + (p ln p - (1 + p) ln(1 + p)) / 2``. Under a sigmoid it is that of the two answers of each channel: p is the
    sigmoid where the truth is yes, and 1 minus it where it is no.

    Args:
        input: logits of shape ``(B, channels, H, W, D)``.
        target: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 in the shape of ``input`` for a sigmoid.
        balanced: average over the voxels of each class, then over the classes present.
        output: what the channels mean, see :class:`Output`.

    Returns:
        Divergence of shape ``(B,)``, in nats.

    Raises:
        ValueError: if ``target`` does not fit ``input``.

    Example:
        >>> logits = torch.tensor([99.0, 0.0]).view(1, 2, 1, 1, 1)
        >>> [round(jensen_shannon(logits, torch.full((1, 1, 1, 1, 1), label)).item(), 4) for label in (0, 1)]
        [0.0, 0.6931]
    """
    logarithm = -voxel_cross_entropy(input, target, output)
    right = logarithm.exp()
    divergence = math.log(2) + (right * logarithm - (1 + right) * torch.log1p(right)) / 2
    divergence = F.relu(divergence)  # rounding gives -1e-8 for a sure voxel
    return voxel_mean(divergence, target, balanced=balanced, output=output)


class JensenShannonLoss(VoxelLoss):
    """Jensen-Shannon divergence of prediction and truth. Face of :func:`jensen_shannon`.

    Args:
        balanced: average over the voxels of each class, then over the classes present.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
        output: what the channels mean, see :class:`Output`.
    """

    def __init__(self, balanced: bool = False, reduction: str = "mean", output: Output | str = "softmax") -> None:
        super().__init__(reduction, output)
        self.balanced = balanced

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        return jensen_shannon(input, target, self.balanced, self.output)

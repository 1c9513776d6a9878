"""Losses of single voxels: margin, masked cross entropy, Jensen-Shannon divergence, and what all of them share."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from monai.utils import LossReduction, look_up_option
from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

__all__ = [
    "JensenShannonLoss",
    "MarginLoss",
    "MaskedCrossEntropyLoss",
    "VoxelLoss",
    "class_indices",
    "class_logits",
    "jensen_shannon",
    "margin",
    "masked_cross_entropy",
    "refuse_void_softmax",
    "require_channels",
    "right_voxels",
    "soft_error",
    "voxel_cross_entropy",
    "voxel_mean",
]

NOT_YET = "one channel, or several classes a voxel under a sigmoid, are not supported yet"


def class_indices(target: Tensor, classes: int | None = None, name: str = "target") -> Tensor:
    """Return labels as int64; refuse what is no class index, which a cast would cut to another class.

    Nothing is rounded: 1.999999 of a scaled or resampled file may be class 2, and it may be the edge of something.

    Args:
        target: labels of any shape and real dtype.
        classes: how many classes there are; ``None`` knows no highest one.
        name: what the labels are called in the sentence.

    Raises:
        ValueError: if a label is no whole number, NaN and infinity included, is negative, or has no class.

    Example:
        >>> class_indices(torch.tensor([0.0, 2.0]), classes=3)
        tensor([0, 2])
    """
    labels = target.long()
    if target.is_floating_point() and not torch.equal(back := labels.to(target.dtype), target):
        wrong = target[back != target][0].item()
        raise ValueError(f"{name} must hold whole numbers as class indices, got {wrong:.9g}; round labels beforehand.")
    if not labels.numel():
        return labels
    low, high = (int(bound) for bound in labels.aminmax())
    if low < 0 or (classes is not None and high >= classes):
        rule = "on" if classes is None else f"to {classes - 1}"
        raise ValueError(f"{name} must hold class indices from 0 {rule}, got {low if low < 0 else high}.")
    return labels


def require_channels(channels: int, classes: int | None = None) -> None:
    """Refuse a network that does not give each voxel one of several classes, the only output that is judged yet.

    Args:
        channels: channels of its output.
        classes: how many classes there are; ``None`` is any number from two on.

    Raises:
        ValueError: if there is one channel, or another number than ``classes``.
    """
    if channels < 2 or classes not in (None, channels):
        each = "each class" if classes is None else f"each of {classes} classes"
        raise ValueError(f"network must return one channel for {each}, background first, got {channels}; {NOT_YET}.")


def refuse_void_softmax(loss_function: Callable[..., Tensor], channels: int) -> None:
    """Refuse a softmax over one channel, which is 1 whatever the network says: nothing would be learned of it.

    Args:
        loss_function: any loss; those of MONAI and torch that take a softmax are known.
        channels: channels of the logits that it is to be given.

    Raises:
        ValueError: if the loss takes a softmax of one channel.
    """
    parts = loss_function.modules() if isinstance(loss_function, nn.Module) else ()
    softmax = isinstance(loss_function, nn.CrossEntropyLoss) or any(vars(part).get("softmax") is True for part in parts)
    if channels == 1 and softmax:
        kind, remedy = type(loss_function).__name__, "take a loss with sigmoid=True, or one of vafa_monai.losses"
        raise ValueError(f"loss_function must not take the softmax of 1 channel, got {kind}; {remedy}.")


def class_logits(input: Tensor, target: Tensor, name: str = "target") -> tuple[Tensor, Tensor]:
    """Return logits ``(B, classes, H, W, D)`` of two classes at least, and labels ``(B, H, W, D)`` of whole numbers.

    A single channel is the logit of class 1 against 0, whose softmax is the sigmoid.

    Raises:
        ValueError: if ``target`` does not have the shape of ``input`` with one channel, or holds no class indices.
    """
    if target.shape != (len(input), 1, *input.shape[2:]):
        shapes = f"{tuple(target.shape)} for input of shape {tuple(input.shape)}"
        raise ValueError(f"{name} must have the shape of input with one channel, got {shapes}.")
    logits = torch.cat([torch.zeros_like(input), input], 1) if input.shape[1] == 1 else input
    return logits, class_indices(target[:, 0], logits.shape[1], name)


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


def masked_cross_entropy(input: Tensor, target: Tensor, balanced: bool = False, targeted: bool = False) -> Tensor:
    """Average the cross entropy of the voxels that are classified right, 0 for the others, one number a sample.

    A step that raises it is not spent on voxels that are wrong already, whose cross entropy has no bound. The losses
    Mask-CE and balanced Mask-CE of the segmentation ensemble attack (Croce et al., ECCV 2024,
    https://arxiv.org/abs/2306.12941).

    Args:
        input: logits of shape ``(B, classes, H, W, D)``; one channel is the logit of class 1 against 0.
        target: class indices of shape ``(B, 1, H, W, D)``.
        balanced: average over the voxels of each class, then over the classes present.
        targeted: count the voxels that are not classified as ``target`` yet: for an attack that lowers the loss.

    Returns:
        Loss of shape ``(B,)``; no gradient flows through the choice of voxels.

    Raises:
        ValueError: if ``target`` does not have the shape of ``input`` with one channel.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[0.0, 9.0], [0.0, -9.0]]).view(1, 2, 1, 1, 2)  # the second voxel is wrong
        >>> round(masked_cross_entropy(logits, torch.tensor([0, 1]).view(1, 1, 1, 1, 2)).item(), 4)  # ln(2) / 2
        0.3466
    """
    counted = right_voxels(input, target) != targeted
    return voxel_mean(counted * voxel_cross_entropy(input, target), target, balanced=balanced)


class MaskedCrossEntropyLoss(VoxelLoss):
    """Cross entropy of the voxels that are still right. Face of :func:`masked_cross_entropy`.

    It falls to 0 as the last voxel turns wrong, so an attack compares its iterates by :meth:`harm` instead.

    Args:
        balanced: average over the voxels of each class, then over the classes present.
        targeted: count the voxels that are not classified as the target yet.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
    """

    def __init__(self, balanced: bool = False, targeted: bool = False, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.balanced = balanced
        self.targeted = targeted

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        return masked_cross_entropy(input, target, self.balanced, self.targeted)

    def harm(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean probability of a wrong class, ``(B,)``, balanced as the loss is."""
        return soft_error(input, target, balanced=self.balanced)


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

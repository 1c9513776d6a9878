"""Cross entropy whose voxels have weights: SegPGD's and CosPGD's."""

from __future__ import annotations

import torch.nn.functional as F
from monai.utils import StrEnum, look_up_option
from torch import Tensor

from vafa_monai.losses.output import Output
from vafa_monai.losses.voxel_loss import (
    VoxelLoss,
    class_logits,
    right_voxels,
    soft_error,
    voxel_cross_entropy,
    voxel_mean,
)

__all__ = ["CosPGDLoss", "Likeness", "SegPGDLoss", "cospgd_weight", "segpgd_weight"]


class Likeness(StrEnum):
    """How logits are made comparable with a one-hot truth."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


def segpgd_weight(
    input: Tensor,
    target: Tensor,
    progress: float = 0.0,
    targeted: bool = False,
    output: Output | str = "softmax",
) -> Tensor:
    """Weigh right voxels by ``1 - lambda`` and wrong ones by ``lambda = progress / 2``.

    Step t of T has ``lambda = (t - 1) / 2T``: first only right voxels count, towards the end all alike (Gu et al.,
    ECCV 2022, Algorithm 1, https://arxiv.org/abs/2207.12391). Under a sigmoid each channel of a voxel is right or wrong
    by itself, and so are the weights; with one channel this is the formula of two classes.

    Args:
        input: logits of shape ``(B, channels, H, W, D)``.
        target: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 in the shape of ``input`` for a sigmoid.
        progress: share of the steps that were taken, ``(t - 1) / T``, in [0, 1].
        targeted: swap the two weights: the voxels that are not classified as ``target`` yet count first.
        output: what the channels mean, see :class:`Output`.

    Returns:
        Weights of shape ``(B, H, W, D)``, or ``(B, channels, H, W, D)`` for a sigmoid, without gradient.

    Raises:
        ValueError: if ``progress`` is outside [0, 1], or ``target`` does not fit ``input``.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 2.0], [0.0, 0.0]]).view(1, 2, 1, 1, 2)
        >>> segpgd_weight(logits, torch.tensor([0, 1]).view(1, 1, 1, 1, 2), progress=0.5).flatten().tolist()
        [0.75, 0.25]
    """
    if not 0 <= progress <= 1:
        raise ValueError(f"progress must lie in [0, 1], got {progress!r}.")
    share = progress / 2
    first = right_voxels(input, target, output) != targeted
    return share + (1 - 2 * share) * first.to(input.dtype)


def cospgd_weight(
    input: Tensor,
    target: Tensor,
    likeness: Likeness | str = Likeness.SOFTMAX,
    targeted: bool = False,
    output: Output | str = "softmax",
) -> Tensor:
    """Weigh every voxel by the cosine similarity of its prediction and its one-hot truth.

    ``p_y / |p|`` with p the softmax, or sigmoid, of the logits (Agnihotri et al., ICML 2024,
    https://arxiv.org/abs/2302.02213). The authors' code takes softmax and detaches the weight; so do we. Under an
    output of sigmoids each channel is a choice by itself, ``p`` is ``(1 - s, s)`` with s its sigmoid, and its weight is
    ``s / |p|`` where the truth is yes, ``(1 - s) / |p|`` where it is no.

    Args:
        input: logits of shape ``(B, channels, H, W, D)``.
        target: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 in the shape of ``input`` for a sigmoid.
        likeness: ``"softmax"``, or ``"sigmoid"`` of every logit by itself; of an output of sigmoids both are the same.
        targeted: one minus that: the voxels least like ``target`` count most.
        output: what the channels mean, see :class:`Output`.

    Returns:
        Weights of shape ``(B, H, W, D)``, or ``(B, channels, H, W, D)`` for a sigmoid, in [0, 1], without gradient.

    Raises:
        ValueError: if ``likeness`` is unknown, or ``target`` does not fit ``input``.

    Example:
        >>> import math, torch
        >>> logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1, 1)  # softmax (3/4, 1/4)
        >>> round(cospgd_weight(logits, torch.zeros(1, 1, 1, 1, 1)).item(), 4)  # 3 / sqrt(10)
        0.9487
    """
    logits, labels = class_logits(input.detach(), target, output=output)
    softmax = look_up_option(likeness, Likeness) == Likeness.SOFTMAX or Output.of(output).is_sigmoid
    predicted = F.normalize(logits.softmax(1) if softmax else logits.sigmoid(), dim=1)
    cosine = predicted.gather(1, labels[:, None])[:, 0]
    return 1 - cosine if targeted else cosine


class SegPGDLoss(VoxelLoss):
    """Cross entropy weighted by :func:`segpgd_weight`; an attack moves ``progress`` on by :meth:`at`.

    Args:
        progress: share of the steps that were taken, in [0, 1].
        targeted: the voxels that are not classified as the target yet count first.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
        output: what the channels mean, see :class:`Output`.
    """

    def __init__(
        self,
        progress: float = 0.0,
        targeted: bool = False,
        reduction: str = "mean",
        output: Output | str = "softmax",
    ) -> None:
        super().__init__(reduction, output)
        if not 0 <= progress <= 1:
            raise ValueError(f"progress must lie in [0, 1], got {progress!r}.")
        self.progress = progress
        self.targeted = targeted

    def at(self, progress: float) -> SegPGDLoss:
        """Return the loss of another moment of the attack."""
        return SegPGDLoss(progress, self.targeted, self.reduction, self.output)

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        weight = segpgd_weight(input, target, self.progress, self.targeted, self.output)
        return voxel_mean(weight * voxel_cross_entropy(input, target, self.output), target, output=self.output)

    def harm(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean probability of a wrong class, ``(B,)``: the loss itself changes from step to step."""
        return soft_error(input, target, output=self.output)


class CosPGDLoss(VoxelLoss):
    """Cross entropy weighted by :func:`cospgd_weight`.

    Args:
        likeness: ``"softmax"`` or ``"sigmoid"``.
        targeted: the voxels least like the target count most.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
        output: what the channels mean, see :class:`Output`.
    """

    def __init__(
        self,
        likeness: Likeness | str = Likeness.SOFTMAX,
        targeted: bool = False,
        reduction: str = "mean",
        output: Output | str = "softmax",
    ) -> None:
        super().__init__(reduction, output)
        self.likeness = look_up_option(likeness, Likeness)
        self.targeted = targeted

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        weight = cospgd_weight(input, target, self.likeness, self.targeted, self.output)
        return voxel_mean(weight * voxel_cross_entropy(input, target, self.output), target, output=self.output)

    def harm(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean probability of a wrong class, ``(B,)``: the loss itself falls where a voxel is wrong."""
        return soft_error(input, target, output=self.output)

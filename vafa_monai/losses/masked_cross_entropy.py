"""Cross entropy of the voxels that are still right."""

from __future__ import annotations

from torch import Tensor

from vafa_monai.losses.voxel_loss import VoxelLoss, right_voxels, soft_error, voxel_cross_entropy, voxel_mean

__all__ = ["MaskedCrossEntropyLoss", "masked_cross_entropy"]


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

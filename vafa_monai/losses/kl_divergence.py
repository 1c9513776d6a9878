"""Kullback-Leibler divergence of two predictions of one volume."""

from __future__ import annotations

from torch import Tensor

from vafa_monai.losses.output import Output, require_channels
from vafa_monai.losses.voxel_loss import VoxelLoss

__all__ = ["KLDivergenceLoss", "kl_divergence"]


def kl_divergence(input: Tensor, target: Tensor, output: Output | str = "softmax") -> Tensor:
    """Average the divergence of two predictions over the voxels, one number a sample.

    It is ``sum p ln(p / q)`` with p the softmax of ``target`` and q that of ``input``: what is lost by taking q for p.
    TRADES weighs it against the clean loss, and its attack climbs it (Zhang et al., ICML 2019, Eq. 5,
    https://arxiv.org/abs/1901.08573). At equal logits its gradient is 0, so such an attack needs a random start. It is
    the divergence of the two answers of each channel under a sigmoid, averaged over channels, too.

    Args:
        input: logits of shape ``(B, classes, H, W, D)``, of the attacked volume.
        target: logits of the same shape, of the clean volume.
        output: what the channels mean, see :class:`Output`.

    Returns:
        Divergence of shape ``(B,)``, in nats.

    Raises:
        ValueError: if the shapes differ, or there is one channel under a softmax.

    Example:
        >>> import torch
        >>> sure, unsure = torch.tensor([99.0, 0.0]).view(1, 2, 1, 1, 1), torch.zeros(1, 2, 1, 1, 1)
        >>> [round(kl_divergence(logits, sure).item(), 4) for logits in (sure, unsure)]
        [0.0, 0.6931]
    """
    if input.shape != target.shape:
        raise ValueError(f"target must have the shape of input {tuple(input.shape)}, got {tuple(target.shape)}.")
    output = Output.of(output)
    require_channels(input.shape[1], output=output)
    wanted, found = (output.scores(logits).log_softmax(1) for logits in (target, input))
    return (wanted.exp() * (wanted - found)).sum(1).flatten(1).mean(1)


class KLDivergenceLoss(VoxelLoss):
    """Divergence of the prediction of an attacked volume from that of the clean one. Face of :func:`kl_divergence`.

    Args:
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
        output: what the channels mean, see :class:`Output`.
    """

    of_predictions = True

    def samples(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of every sample, ``(B,)``."""
        return kl_divergence(input, target, self.output)

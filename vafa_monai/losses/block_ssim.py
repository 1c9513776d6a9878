"""Structural similarity of the blocks of two volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from monai.utils import LossReduction, look_up_option
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.modules.loss import _Loss

from vafa_monai.frequency.block_dct import block_matrices, contract, merge_blocks, pad_to_blocks, split_blocks

__all__ = ["BlockSSIMLoss", "block_ssim", "block_statistics", "ssim_to_blocks"]

WINDOW_EDGE = 3
WINDOW_SIGMA = 1.5
STABILITY = (0.01**2, 0.03**2)  # (K1 L)^2 and (K2 L)^2 of the SSIM paper for a data range L of 1


class BlockStatistics(NamedTuple):
    """What SSIM needs to know of one of its two volumes: local means of it and of its square, with its constants."""

    volume: Tensor
    block_size: tuple[int, ...]
    double_mean: Tensor
    luminance: Tensor
    energy: Tensor


def block_ssim(input: Tensor, target: Tensor, block_size: Sequence[int] = (8, 8, 8)) -> Tensor:
    """Measure the mean structural similarity of the blocks of two volumes, one number a sample.

    SSIM (Wang et al., IEEE TIP 2004, https://doi.org/10.1109/TIP.2003.819861) inside every block: a Gaussian
    window of 3 voxels and sigma 1.5 along each axis (1 voxel where the block is thinner), no padding, K = (0.01, 0.03),
    data range 1. The map is averaged over its block, negative blocks count 0, then blocks are averaged. This is the
    similarity of the paper (Hanif et al., MICCAI 2023, Eq. 2) as the authors' code computes it.

    Args:
        input: volume of shape ``(B, C, H, W, D)``, in [0, 1].
        target: volume of the same shape; a constant, no gradient flows to it.
        block_size: block edges ``(h, w, d)`` in voxels; volumes are padded to whole blocks by their last voxels.

    Returns:
        Similarity of shape ``(B,)``, in [0, 1]; 1 for equal volumes, constant ones included.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> volume = torch.linspace(0, 1, 512).view(1, 1, 8, 8, 8)
        >>> [round(block_ssim(volume, other).item(), 3) for other in (volume, 1 - volume)]
        [1.0, 0.0]
    """
    if input.shape != target.shape:
        raise ValueError(f"target must have the shape of input {tuple(input.shape)}, got {tuple(target.shape)}.")
    return ssim_to_blocks(input, block_statistics(target, block_size))


def block_statistics(volume: Tensor, block_size: Sequence[int]) -> BlockStatistics:
    """Compute the local mean and variance of ``volume`` in its blocks, to be compared with many other volumes."""
    volume = pad_to_blocks(volume, block_size)
    split_blocks(volume, block_size)  # refuses what does not fit
    windows = block_matrices(_window, block_size, volume)
    mean, square = (contract(part, windows) for part in (volume, volume * volume))
    first, second = STABILITY
    return BlockStatistics(volume, tuple(block_size), 2 * mean, mean * mean + first, square + (first + second))


def ssim_to_blocks(input: Tensor, target: BlockStatistics) -> Tensor:
    """Compare ``input`` ``(B, C, H, W, D)`` with a volume whose statistics are known; see :func:`block_ssim`."""
    return _BlockSimilarity.apply(pad_to_blocks(input, target.block_size), *target).relu().flatten(1).mean(1)


class _BlockSimilarity(torch.autograd.Function):
    """Mean SSIM of every block, with its derivative written out: autograd would keep and fill many more volumes.

    ``SSIM = (2 m1 m2 + c1) (2 cov + c2) / ((m1^2 + m2^2 + c1) (var1 + var2 + c2))``, every term from local means of x,
    x^2 and xy.
    """

    @staticmethod
    def forward(ctx: Any, volume: Tensor, other: Tensor, block_size: tuple[int, ...], *target: Tensor) -> Tensor:
        double_mean, luminance, energy = target
        windows = block_matrices(_window, block_size, volume)
        mean, square, product = (contract(part, windows) for part in (volume, volume * volume, volume * other))
        first, second = STABILITY
        cross = (mean * double_mean).add_(first)
        bright = torch.addcmul(luminance, mean, mean)
        structure = product.mul_(2).sub_(cross).add_(first + second)
        spread = square.add_(energy).sub_(bright)
        inverse = (bright * spread).reciprocal_()
        similarity = (cross * structure).mul_(inverse)
        ctx.block_size = block_size
        ctx.save_for_backward(volume, other, double_mean, mean, cross, structure, bright, spread, inverse, similarity)
        return split_blocks(similarity, [len(window) for window in windows]).mean(dim=(-3, -2, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        volume, other, double_mean, mean, cross, structure, bright, spread, inverse, similarity = ctx.saved_tensors
        windows = block_matrices(_window, ctx.block_size, volume)
        share = _spread_over_blocks(gradient, [len(window) for window in windows])
        by_square = (similarity / spread).neg_()
        by_mean = (structure - cross).mul_(inverse).mul_(double_mean)
        by_mean.addcmul_(mean, (similarity / bright).add_(by_square), value=-2)
        parts = (by_mean, by_square, (cross * inverse).mul_(2))
        transposed = [window.mT for window in windows]
        by_mean, by_square, by_product = (contract(part.mul_(share), transposed) for part in parts)
        by_mean.addcmul_(volume, by_square, value=2).addcmul_(other, by_product)
        return by_mean, *[None] * 5


def _spread_over_blocks(values: Tensor, edges: Sequence[int]) -> Tensor:
    """Share the value ``(B, C, gh, gw, gd)`` of every block among its voxels ``(B, C, gh h, gw w, gd d)``."""
    blocks = values[..., None, None, None].div(math.prod(edges)).expand(*values.shape, *edges)
    return merge_blocks(blocks)


def _window(edge: int) -> Tensor:
    """Return the banded ``(edge - 2, edge)`` matrix of the Gaussian window; the identity for thinner blocks."""
    if edge < WINDOW_EDGE:
        return torch.eye(edge, dtype=torch.float64)
    offsets = torch.arange(WINDOW_EDGE, dtype=torch.float64) - WINDOW_EDGE // 2
    weights = torch.softmax(-(offsets**2) / (2 * WINDOW_SIGMA**2), dim=0)
    row = torch.cat([weights, weights.new_zeros(edge - WINDOW_EDGE)])
    return torch.stack([row.roll(shift) for shift in range(edge - WINDOW_EDGE + 1)])


class BlockSSIMLoss(_Loss):
    """``1 - SSIM``, averaged over the blocks of a volume. Face of :func:`block_ssim`.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels.
        reduction: ``"mean"``, ``"sum"`` or ``"none"`` over the batch.
    """

    def __init__(self, block_size: Sequence[int] = (8, 8, 8), reduction: str = "mean") -> None:
        super().__init__(reduction=look_up_option(reduction, LossReduction).value)
        self.block_size = tuple(block_size)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the dissimilarity of two volumes of shape ``(B, C, H, W, D)`` in [0, 1]."""
        loss = 1 - block_ssim(input, target, self.block_size)
        return {"mean": loss.mean(), "sum": loss.sum(), "none": loss}[self.reduction]

"""Orthonormal DCT-II of the blocks of a volume; exact inverse, no padding, any device and dtype."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["block_dct", "block_idct", "block_matrices", "contract", "merge_blocks", "pad_to_blocks", "split_blocks"]

MOST_GROWTH, MOST_VOXELS = 64, 2**26


def split_blocks(volume: Tensor, block_size: Sequence[int]) -> Tensor:
    """Cut ``volume`` into blocks that do not overlap.

    Args:
        volume: tensor of shape ``(B, C, H, W, D)``.
        block_size: block edges ``(h, w, d)`` in voxels; each must divide its spatial size.

    Returns:
        Blocks of shape ``(B, C, H/h, W/w, D/d, h, w, d)``, a view: first the grid of blocks, then the voxels.

    Raises:
        ValueError: if ``volume`` is not 5D or a block edge does not divide its spatial size.

    Example:
        >>> split_blocks(torch.zeros(1, 1, 4, 6, 8), (2, 3, 8)).shape
        torch.Size([1, 1, 2, 2, 1, 2, 3, 8])
    """
    shape = tuple(volume.shape)
    fits = len(shape) == 5 and len(block_size) == 3 and all(edge >= 1 for edge in block_size)
    if not fits or any(size % edge for size, edge in zip(shape[2:], block_size, strict=True)):
        raise ValueError(f"block_size must divide the (H, W, D) of a 5D volume, got {tuple(block_size)} for {shape}.")
    for axis, edge in zip((2, 4, 6), block_size, strict=True):
        volume = volume.unflatten(axis, (-1, edge))  # -> (B, C, H/h, h, W/w, w, D/d, d)
    return volume.permute(0, 1, 2, 4, 6, 3, 5, 7)


def merge_blocks(blocks: Tensor) -> Tensor:
    """Invert :func:`split_blocks`: ``(B, C, H/h, W/w, D/d, h, w, d)`` to ``(B, C, H, W, D)``."""
    return blocks.permute(0, 1, 2, 5, 3, 6, 4, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)


def pad_to_blocks(volume: Tensor, block_size: Sequence[int]) -> Tensor:
    """Repeat the last voxels of ``(B, C, H, W, D)`` at the far end of each axis until the blocks divide it.

    The first ``(H, W, D)`` voxels stay where they are, so a crop undoes the padding. A volume that needs none comes
    back as it is.

    Raises:
        ValueError: if blocks are so much larger than the volume that the padding would fill the memory.

    Example:
        >>> pad_to_blocks(torch.zeros(1, 1, 5, 8, 3), (4, 4, 4)).shape
        torch.Size([1, 1, 8, 8, 4])
    """
    missing = [-size % edge for size, edge in zip(volume.shape[2:], block_size, strict=True)]
    if not any(missing):
        return volume
    padded = math.prod(volume.shape[:2]) * math.prod(map(sum, zip(volume.shape[2:], missing, strict=True)))
    if padded > max(MOST_GROWTH * volume.numel(), MOST_VOXELS):
        rule = f"pad a volume to {MOST_GROWTH} times its voxels at most, or to {MOST_VOXELS}"
        raise ValueError(f"block_size must {rule}, got {tuple(block_size)} for {tuple(volume.shape)}.")
    return F.pad(volume, [0, missing[2], 0, missing[1], 0, missing[0]], mode="replicate")


def contract(volume: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply one matrix along each of the last three axes, block by block, in the precision of ``volume``.

    No block is copied out: an axis is cut where it lies. Autocast to bfloat16 would err by more than an attack step of
    2/255, so it is switched off here.

    Args:
        volume: tensor of shape ``(..., H, W, D)``; half precision is computed in float32 and cast back.
        matrices: three matrices of shapes ``(i, h)``, ``(j, w)``, ``(k, d)``, whose columns divide the axes.

    Returns:
        Tensor of shape ``(..., i H/h, j W/w, k D/d)``, contiguous.

    Example:
        >>> pairs = [torch.ones(1, 2)] * 3  # sums the eight voxels of every block
        >>> contract(torch.ones(4, 4, 2), pairs).flatten().tolist()
        [8.0, 8.0, 8.0, 8.0]
    """
    dtype = torch.promote_types(volume.dtype, torch.float32)
    first, second, third = (matrix.to(volume.device, dtype) for matrix in matrices)
    with torch.autocast(volume.device.type, enabled=False):
        out = (volume.to(dtype).unflatten(-1, (-1, third.shape[1])) @ third.mT).flatten(-2)
        out = (second @ out.unflatten(-2, (-1, second.shape[1]))).flatten(-3, -2)
        rows = out.flatten(-2).unflatten(-2, (-1, first.shape[1]))  # -> (..., H/h, h, jk WD/wd)
        out = (first @ rows).flatten(-3, -2).unflatten(-1, out.shape[-2:])
    return out.to(volume.dtype)


def block_matrices(build: Callable[[int], Tensor], edges: Sequence[int], volume: Tensor) -> list[Tensor]:
    """Return ``build(edge)`` for every edge, where and as precisely as :func:`contract` needs it; built once each."""
    dtype = torch.promote_types(volume.dtype, torch.float32)
    return [_built(build, edge, dtype, volume.device) for edge in edges]


@lru_cache(maxsize=256)
def _built(build: Callable[[int], Tensor], edge: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Build a matrix that autograd may keep, even if the first call is in inference mode."""
    with torch.inference_mode(mode=False):
        return build(edge).to(device, dtype)


def block_dct(volume: Tensor, block_size: Sequence[int] = (8, 8, 8)) -> Tensor:
    """Transform every block of ``volume`` to its DCT coefficients (as ``scipy.fft.dctn(block, norm="ortho")``).

    A 2D transform of every (H, W) slice is ``block_size=(8, 8, 1)``: a DCT of length one is the identity.

    Args:
        volume: real tensor of shape ``(B, C, H, W, D)``, in any intensity unit.
        block_size: block edges ``(h, w, d)`` in voxels; each must divide its spatial size.

    Returns:
        Coefficients of shape ``(B, C, H/h, W/w, D/d, h, w, d)``: first the grid of blocks, then the frequencies. In
        memory they lie where the voxels of their block lay, so :func:`block_idct` copies nothing.

    Raises:
        ValueError: if ``volume`` is not 5D or a block edge does not divide its spatial size.
        TypeError: if ``volume`` is not a floating-point tensor.

    Example:
        >>> round(block_dct(torch.ones(1, 1, 8, 8, 8))[..., 0, 0, 0].item(), 3)  # the DC term: mean * sqrt(512)
        22.627
    """
    if not volume.is_floating_point():
        raise TypeError(f"volume must be a floating-point tensor, got {volume.dtype}.")
    split_blocks(volume, block_size)  # refuses what does not fit
    return split_blocks(contract(volume, block_matrices(_basis, block_size, volume)), block_size)


def block_idct(coefficients: Tensor) -> Tensor:
    """Invert :func:`block_dct`; the block size is read from the last three axes, so it cannot disagree.

    Args:
        coefficients: tensor of shape ``(B, C, H/h, W/w, D/d, h, w, d)``.

    Returns:
        Volume of shape ``(B, C, H, W, D)``.

    Raises:
        ValueError: if ``coefficients`` is not 8D.
    """
    if coefficients.ndim != 8:
        shape = tuple(coefficients.shape)
        raise ValueError(f"coefficients must have shape (B, C, H/h, W/w, D/d, h, w, d), got {shape}.")
    bases = block_matrices(_basis, coefficients.shape[-3:], coefficients)
    return contract(merge_blocks(coefficients), [basis.mT for basis in bases])


def _basis(size: int) -> Tensor:
    """Return the ``(size, size)`` DCT-II matrix with orthonormal rows, in float64 on the CPU."""
    frequency = torch.arange(size, dtype=torch.float64)[:, None]
    position = torch.arange(size, dtype=torch.float64) + 0.5
    basis = torch.cos(torch.pi / size * frequency * position) * math.sqrt(2 / size)
    basis[0] = math.sqrt(1 / size)
    return basis

"""Cutting a volume into blocks, putting it together again, and matrices along the three axes of every block."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["contract", "merge_blocks", "pad_to_blocks", "split_blocks"]


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

    Example:
        >>> pad_to_blocks(torch.zeros(1, 1, 5, 8, 3), (4, 4, 4)).shape
        torch.Size([1, 1, 8, 8, 4])
    """
    missing = [-size % edge for size, edge in zip(volume.shape[2:], block_size, strict=True)]
    if not any(missing):
        return volume
    return F.pad(volume, [0, missing[2], 0, missing[1], 0, missing[0]], mode="replicate")


def contract(blocks: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Apply one matrix along each of the last three axes, in the precision of ``blocks`` even inside autocast.

    Autocast to bfloat16 would err by more than an attack step of 2/255, so it is switched off here.

    Args:
        blocks: tensor of shape ``(..., h, w, d)``; half precision is computed in float32 and cast back.
        matrices: three matrices of shapes ``(i, h)``, ``(j, w)``, ``(k, d)``.

    Returns:
        Tensor of shape ``(..., i, j, k)``.
    """
    dtype = torch.promote_types(blocks.dtype, torch.float32)
    first, second, third = (matrix.to(blocks.device, dtype) for matrix in matrices)
    with torch.autocast(blocks.device.type, enabled=False):
        out = torch.einsum("...hwd,ih,jw,kd->...ijk", blocks.to(dtype), first, second, third)
    return out.to(blocks.dtype)

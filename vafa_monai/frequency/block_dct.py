"""Orthonormal DCT-II of the blocks of a volume; exact inverse, no padding, any device and dtype."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vafa_monai.frequency.blocks import block_matrices, contract, merge_blocks, split_blocks

__all__ = ["block_dct", "block_idct"]


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

"""The perturbation of FrequencyPGD: every DCT coefficient may move by half a quantization step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vafa_monai.attacks.grey_level import LEVELS
from vafa_monai.attacks.noise import uniform_like
from vafa_monai.frequency import block_idct, split_blocks

__all__ = ["CoefficientBox", "band_mask", "block_rms"]


def band_mask(block_size: Sequence[int], band: Sequence[float]) -> Tensor:
    """Tell which coefficients of a block belong to a band of frequencies; bool of shape ``(h, w, d)``.

    The frequency of coefficient (i, j, k) is ``max(i/h, j/w, k/d)``, a share of the highest that a voxel grid can hold.
    A band holds its lower end and not its upper one, so ``(0, c)`` and ``(c, 1)`` are complements.

    Example:
        >>> band_mask((4, 1, 2), (0.25, 1.0))[:, 0].int().tolist()
        [[0, 1], [1, 1], [1, 1], [1, 1]]
    """
    shares = [torch.arange(edge, dtype=torch.float64) / edge for edge in block_size]
    height, width, depth = torch.meshgrid(*shares, indexing="ij")
    frequency = torch.maximum(torch.maximum(height, width), depth)
    return (band[0] <= frequency) & (frequency < band[1])


def block_rms(change: Tensor, block_size: Sequence[int]) -> Tensor:
    """Return the root mean square of the block that changed most, ``(B,)``; 0 beyond the far ends of the volume.

    By Parseval it is that of the coefficients of the block, whatever was clipped and cropped away since.

    Args:
        change: of volumes ``(B, C, H, W, D)``.
        block_size: block edges ``(h, w, d)`` in voxels.
    """
    lacks = [-size % edge for size, edge in zip(change.shape[2:], block_size, strict=True)]
    padded = F.pad(change, [part for lack in reversed(lacks) for part in (0, lack)])
    return split_blocks(padded, block_size).square().mean((-3, -2, -1)).flatten(1).amax(1).sqrt()


@dataclass(frozen=True)
class CoefficientBox:
    """Volumes whose block DCT differs from the clean one by at most ``radius``; the variable is the difference.

    Args:
        clean: volumes of shape ``(B, C, H, W, D)``.
        value_range: lowest and highest intensity.
        block_size: block edges ``(h, w, d)`` in voxels; blocks reach over the far ends of the volume.
        radius: largest change of a coefficient, in grey levels.
        band: lowest and highest frequency that may change; see :func:`band_mask`.
        start_seed: start at a random point of the box, drawn by this seed and the same for every sample, instead of at
            no difference.
    """

    clean: Tensor
    value_range: tuple[float, float]
    block_size: Sequence[int]
    radius: float
    band: Sequence[float] = (0.0, 1.0)
    start_seed: int | None = None

    def start(self) -> Tensor:
        """Return the first difference, of shape ``(B, C, blocks along H, W and D, h, w, d)``, in float32 or better."""
        padded = [size + -size % edge for size, edge in zip(self.clean.shape[2:], self.block_size, strict=True)]
        dtype = torch.promote_types(self.clean.dtype, torch.float32)
        nothing = split_blocks(self.clean.new_zeros((*self.clean.shape[:2], *padded), dtype=dtype), self.block_size)
        if self.start_seed is None:
            return nothing
        return self.project(self.radius * uniform_like(nothing, self.start_seed))

    def apply(self, variable: Tensor, step: int) -> Tensor:
        """Return the attacked volume, clipped to ``value_range``."""
        height, width, depth = self.clean.shape[2:]
        change = block_idct(variable)[:, :, :height, :width, :depth] / LEVELS
        low, high = self.value_range
        return torch.add(self.clean, change, alpha=high - low).clamp(low, high).to(self.clean.dtype)

    def excess(self, adv: Tensor) -> Tensor:
        """Return by how much the root mean square of any block of each volume is outside the box, ``(B,)``."""
        low, high = self.value_range
        share = band_mask(self.block_size, self.band).double().mean().sqrt().item()
        return block_rms(adv - self.clean, self.block_size) - share * self.radius / LEVELS * (high - low)

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest difference inside the box and the band."""
        inside = variable.clamp(-self.radius, self.radius)
        return inside if tuple(self.band) == (0.0, 1.0) else inside * band_mask(self.block_size, self.band).to(variable)

"""Variables of frequency attacks: a box of DCT coefficients, and a quantization table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from monai.utils import StrEnum
from torch import Tensor

from vafa_monai.attacks.intensity import GrayScale, OutputNorm, constant_slices, stretch_slices
from vafa_monai.attacks.norm import uniform_like
from vafa_monai.attacks.validation import LEVELS
from vafa_monai.frequency.block_dct import block_dct, block_idct, pad_to_blocks, split_blocks
from vafa_monai.frequency.quantization import quantize

__all__ = ["CoefficientBox", "QuantizationTable", "Rounding"]


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
        radius: largest change of a coefficient, in gray levels.
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


FIRST_ALPHA = 0.1  # softness of the first step; it falls by 0.1 / steps a step (the authors' code)


class Rounding(StrEnum):
    """How quotients are rounded in the image that the network sees."""

    SOFT = "soft"
    STRAIGHT_THROUGH = "straight_through"


@dataclass(frozen=True)
class QuantizationTable:
    """Volumes whose block DCT is quantized by a table; the variable is the table, in gray levels.

    Args:
        clean: volumes of shape ``(B, C, H, W, D)``; padded to whole blocks, and cropped again.
        value_range: lowest and highest intensity.
        block_size: block edges ``(h, w, d)`` in voxels.
        q_min: smallest step, > 0.
        q_max: largest step.
        q_init: step at the start, everywhere.
        steps: number of steps of the ascent, over which the soft rounding hardens.
        rounding: soft, or true rounding with the soft one's derivative.
        output_norm: how the image is brought back into ``value_range``.
        shared: one table for all blocks of a volume, instead of one for each.
        start_seed: start at a random table, drawn by this seed and the same for every sample, instead of ``q_init``.
    """

    clean: Tensor
    value_range: tuple[float, float]
    block_size: Sequence[int]
    q_min: float
    q_max: float
    q_init: float
    steps: int
    rounding: Rounding
    output_norm: OutputNorm
    shared: bool = False
    start_seed: int | None = None

    @property
    def scale(self) -> GrayScale:
        """The gray levels of ``value_range``."""
        return GrayScale(self.value_range)

    @cached_property
    def coefficients(self) -> Tensor:
        """The clean spectrum, computed once, in float32 or better."""
        volume = self.clean.to(torch.promote_types(self.clean.dtype, torch.float32))
        return block_dct(pad_to_blocks(self.scale.to_levels(volume), self.block_size), self.block_size)

    @cached_property
    def flat(self) -> Tensor:
        """The (H, W) slices that hold one value only."""
        return constant_slices(self.scale.to_unit(self.clean))

    def start(self) -> Tensor:
        """Return a table of shape ``(B, C, H/h, W/w, D/d, h, w, d)``, or ``(B, C, 1, 1, 1, h, w, d)`` if shared."""
        like = self.coefficients[:, :, :1, :1, :1] if self.shared else self.coefficients
        if self.start_seed is None:
            return torch.full_like(like, self.q_init)
        middle, reach = (self.q_max + self.q_min) / 2, (self.q_max - self.q_min) / 2
        return self.project(middle + reach * uniform_like(like, self.start_seed))

    def alpha(self, step: int) -> float:
        """Return the softness at ``step``: the same for every step after the last."""
        steps = max(self.steps, 1)
        return FIRST_ALPHA * (1 - min(step, steps - 1) / steps)

    def unit_image(self, variable: Tensor, step: int) -> Tensor:
        """Return the attacked volume in [0, 1]."""
        hard = self.rounding == Rounding.STRAIGHT_THROUGH
        quantized = quantize(self.coefficients, variable, self.alpha(step), straight_through=hard)
        height, width, depth = self.clean.shape[2:]
        unit = self.scale.levels_to_unit(block_idct(quantized)[:, :, :height, :width, :depth])
        return stretch_slices(unit, self.flat) if self.output_norm == OutputNorm.SLICE_MINMAX else unit.clamp(0, 1)

    def apply(self, variable: Tensor, step: int) -> Tensor:
        """Return the attacked volume in ``value_range``."""
        return self.scale.from_unit(self.unit_image(variable, step)).to(self.clean.dtype)

    def excess(self, adv: Tensor) -> Tensor:
        """Return by how much any block of each volume moved further than half of the largest step, ``(B,)``.

        A stretch of slices has no bound but the intensities.
        """
        if self.output_norm == OutputNorm.SLICE_MINMAX:
            return adv.new_zeros(len(adv))
        low, high = self.value_range
        return block_rms(adv - self.clean, self.block_size) - self.q_max / 2 / LEVELS * (high - low)

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest table between ``q_min`` and ``q_max``."""
        return variable.clamp(self.q_min, self.q_max)

"""The perturbation of VAFA: a table of quantization steps, one for every DCT coefficient of every block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from monai.utils import StrEnum
from torch import Tensor

from vafa_monai.attacks.coefficient_box import block_rms
from vafa_monai.attacks.grey_level import LEVELS, GreyScale, OutputNorm, constant_slices, stretch_slices
from vafa_monai.attacks.noise import uniform_like
from vafa_monai.frequency import block_dct, block_idct, pad_to_blocks, quantize

__all__ = ["QuantizationTable", "Rounding"]

FIRST_ALPHA = 0.1  # softness of the first step; it falls by 0.1 / steps a step (the authors' code)


class Rounding(StrEnum):
    """How quotients are rounded in the image that the network sees."""

    SOFT = "soft"
    STRAIGHT_THROUGH = "straight_through"


@dataclass(frozen=True)
class QuantizationTable:
    """Volumes whose block DCT is quantized by a table; the variable is the table, in grey levels.

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
    def scale(self) -> GreyScale:
        """The grey levels of ``value_range``."""
        return GreyScale(self.value_range)

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

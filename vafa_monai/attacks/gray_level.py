"""Gray levels: the 0-255 scale that quantization steps are measured in, whatever range a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import StrEnum
from torch import Tensor
from torch.autograd.function import once_differentiable

from vafa_monai.attacks.validation import LEVELS

__all__ = ["GrayScale", "OutputNorm", "constant_slices", "stretch_slices"]

FLATNESS = 16  # a slice whose values differ by this many roundings is constant
CENTER = 128.0  # the level that a coefficient of 0 stands for, as in JPEG


class OutputNorm(StrEnum):
    """How an attacked volume is brought back into the allowed intensities."""

    CLIP = "clip"
    SLICE_MINMAX = "slice_minmax"


@dataclass(frozen=True)
class GrayScale:
    """Map intensities of ``value_range`` to centered gray levels, -128 to 127, and back.

    Example:
        >>> scale = GrayScale((-1.0, 1.0))
        >>> scale.to_levels(torch.tensor([-1.0, 1.0])).tolist()
        [-128.0, 127.0]
    """

    value_range: tuple[float, float]

    def to_unit(self, volume: Tensor) -> Tensor:
        """Map ``value_range`` to [0, 1]."""
        low, high = self.value_range
        return volume if (low, high) == (0.0, 1.0) else (volume - low) / (high - low)

    def from_unit(self, volume: Tensor) -> Tensor:
        """Map [0, 1] to ``value_range``."""
        low, high = self.value_range
        return volume if (low, high) == (0.0, 1.0) else volume * (high - low) + low

    def to_levels(self, volume: Tensor) -> Tensor:
        """Map ``value_range`` to -128 to 127."""
        return self.to_unit(volume) * LEVELS - CENTER

    @staticmethod
    def levels_to_unit(levels: Tensor) -> Tensor:
        """Map -128 to 127 to [0, 1]."""
        return torch.add(levels.new_tensor(CENTER / LEVELS), levels, alpha=1 / LEVELS)


def constant_slices(volume: Tensor) -> Tensor:
    """Tell which (H, W) slices of ``(B, C, H, W, D)`` hold one value only; shape ``(B, C, 1, 1, D)``."""
    span = volume.amax((2, 3), keepdim=True) - volume.amin((2, 3), keepdim=True)
    return span <= FLATNESS * torch.finfo(volume.dtype).eps


def stretch_slices(volume: Tensor, keep: Tensor | None = None) -> Tensor:
    """Stretch every (H, W) slice of ``(B, C, H, W, D)`` so that its extremes are 0 and 1.

    The authors' code does this after every inverse DCT; it is not in the paper. It is an unbounded change of contrast
    that no gradient chose. A slice of one value, where that code divides 0 by 0, is only clipped to [0, 1].

    Args:
        volume: volumes near [0, 1].
        keep: slices to be clipped only, of shape ``(B, C, 1, 1, D)``: those of air, say, whose faint ripples would be
            stretched to full contrast.

    Example:
        >>> stretch_slices(torch.tensor([0.2, 0.4]).view(1, 1, 2, 1, 1)).flatten().tolist()
        [0.0, 1.0]
    """
    return _SliceStretch.apply(volume, keep)


class _SliceStretch(torch.autograd.Function):
    """``(x - min) / (max - min)`` of every slice, with its derivative written out; equal extremes share theirs."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor, keep: Tensor | None) -> Tensor:
        low = volume.amin((2, 3), keepdim=True)
        span = volume.amax((2, 3), keepdim=True) - low
        flat = span <= FLATNESS * torch.finfo(volume.dtype).eps
        flat = flat if keep is None else flat | keep
        span = span.masked_fill(flat, 1.0)
        stretched = torch.sub(volume, low.masked_fill(flat, 0.0)).div_(span)
        if flat.any():
            inside = ((stretched >= 0) & (stretched <= 1)) | ~flat
            ctx.save_for_backward(stretched.clamp_(0, 1), span, flat, inside)
        else:  # its extremes are 0 and 1, but for rounding
            ctx.save_for_backward(stretched.clamp_(0, 1), span)
        return stretched

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        stretched, span, *rest = ctx.saved_tensors
        gradient = gradient / span
        by_high = (gradient * stretched).sum((2, 3), keepdim=True)
        by_low = gradient.sum((2, 3), keepdim=True) - by_high
        if rest:
            flat, inside = rest
            by_high, by_low = by_high.masked_fill(flat, 0.0), by_low.masked_fill(flat, 0.0)
            gradient = gradient * inside
        for extreme, share in ((1.0, by_high), (0.0, by_low)):
            found = (stretched == extreme).to(gradient.dtype)
            count = found.sum((2, 3), keepdim=True).clamp_min_(1)
            gradient.sub_(found.mul_(share / count))
        return gradient, None

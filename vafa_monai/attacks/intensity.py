"""What intensities mean: the range of each channel, channels that may change, and gray levels in any range."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from monai.utils import StrEnum
from torch import Tensor
from torch.autograd.function import once_differentiable

from vafa_monai.attacks.validation import LEVELS, as_python, require_count, require_in_range, require_range

__all__ = [
    "ChannelUnits",
    "GrayScale",
    "OutputNorm",
    "ValueRange",
    "channel_limits",
    "constant_slices",
    "is_one_range",
    "require_channel_ranges",
    "require_chosen",
    "require_ranges",
    "stretch_slices",
]

Pair: TypeAlias = tuple[float, float]
ValueRange: TypeAlias = Pair | tuple[Pair, ...]
UNIT: Pair = (0.0, 1.0)
FLATNESS = 16  # a slice whose values differ by this many roundings is constant
CENTER = 128.0  # the level that a coefficient of 0 stands for, as in JPEG


def is_one_range(value_range: ValueRange) -> bool:
    """Tell whether a range is one of all channels."""
    return not isinstance(value_range[0], tuple)


def require_ranges(name: str, value: Any) -> ValueRange:
    """Return two finite numbers, the lower first, or such a pair for each channel; refuse anything else.

    Example:
        >>> require_ranges("value_range", [0, 1]), require_ranges("value_range", [[0, 1], [-3, 3]])
        ((0.0, 1.0), ((0.0, 1.0), (-3.0, 3.0)))
    """
    plain = as_python(value)
    nested = isinstance(plain, (list, tuple)) and plain and all(isinstance(one, (list, tuple)) for one in plain)
    return tuple(require_range(name, one) for one in plain) if nested else require_range(name, plain)


def require_chosen(channels: Any) -> tuple[int, ...] | None:
    """Return the numbers of channels, each once; ``None`` is all."""
    if channels is None:
        return None
    plain = as_python(channels)
    chosen = tuple(plain) if isinstance(plain, (list, tuple)) else (plain,)
    for channel in chosen:
        require_count("channels", channel)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"channels must be different numbers of channels, or None, got {channels!r}.")
    return chosen


def require_channel_ranges(
    name: str, volume: Tensor, value_range: ValueRange, channels: Sequence[int] | None = None
) -> None:
    """Refuse a volume whose channels are not finite or lie outside their intensities; those not chosen may be any.

    Args:
        name: what the volume is called in the sentence.
        volume: shape ``(B, C, H, W, D)``.
        value_range: one pair, or a pair for each channel.
        channels: the channels that are chosen; ``None`` is all.

    Raises:
        ValueError: if a voxel is NaN, infinite, or outside by more than 1e-4 of the width, or the channels are not
            those of ``value_range`` and ``channels``.
    """
    count = volume.shape[1]
    if not is_one_range(value_range) and len(value_range) != count:
        raise ValueError(f"value_range must have a pair for each of {count} channels, got {len(value_range)} pairs.")
    if channels is not None and max(channels) >= count:
        raise ValueError(f"channels must be from 0 to {count - 1}, those of {name}, got {max(channels)}.")
    if is_one_range(value_range) and channels is None:
        require_in_range(name, volume, value_range)  # type: ignore[arg-type]
        return
    for channel in range(count):
        own: Any = value_range if is_one_range(value_range) else value_range[channel]
        if channels is None or channel in channels:
            require_in_range(f"channel {channel} of {name}", volume[:, channel], own)
        elif not volume[:, channel].isfinite().all():
            raise ValueError(f"channel {channel} of {name} must be finite, got NaN or infinity.")


def channel_limits(clean: Tensor, value_range: ValueRange, channels: Sequence[int] | None) -> tuple[Tensor, Tensor]:
    """Return lowest and highest intensity allowed, each ``(B, C, 1, 1, 1)``; a channel not chosen keeps its own."""
    pairs = clean.new_tensor([value_range] * clean.shape[1] if is_one_range(value_range) else value_range)
    low, high = (pairs[:, end].view(1, -1, 1, 1, 1).expand(len(clean), -1, -1, -1, -1) for end in (0, 1))
    if channels is None:
        return low, high
    chosen = torch.tensor([channel in channels for channel in range(clean.shape[1])], device=clean.device)
    chosen = chosen.view(1, -1, 1, 1, 1)
    least, most = (part(dim=(2, 3, 4), keepdim=True) for part in (clean.amin, clean.amax))
    return torch.where(chosen, low, least), torch.where(chosen, high, most)


@dataclass(frozen=True)
class ChannelUnits:
    """The attacked channels of volumes as an attack of one range sees them, and the volumes that it makes of them.

    Channels of different ranges are seen as fractions of their own width, so that every strength is one of each.

    Args:
        clean: volumes of shape ``(B, C, H, W, D)``.
        value_range: one pair, or a pair for each channel.
        channels: the channels that may change; ``None`` is all.
    """

    clean: Tensor
    value_range: ValueRange
    channels: tuple[int, ...] | None

    @property
    def chosen(self) -> list[int]:
        """The channels that may change."""
        return list(range(self.clean.shape[1])) if self.channels is None else list(self.channels)

    @property
    def pairs(self) -> list[Pair]:
        """The ranges of the channels that may change."""
        one = is_one_range(self.value_range)
        return [self.value_range if one else self.value_range[index] for index in self.chosen]  # type: ignore[misc]

    @property
    def inner_range(self) -> Pair:
        """The range that the attack sees: that of all channels, or fractions."""
        return self.pairs[0] if len(set(self.pairs)) == 1 else UNIT

    @property
    def rounding(self) -> float:
        """What the precision of the intensities is worth in the units of the attack."""
        reach = max(max(abs(low), abs(high)) / (high - low) for low, high in self.pairs)
        return 4 * torch.finfo(self.clean.dtype).eps * reach * (self.inner_range[1] - self.inner_range[0])

    @property
    def width(self) -> float:
        """The largest width of a channel, relative to that of the attack."""
        return max(high - low for low, high in self.pairs) / (self.inner_range[1] - self.inner_range[0])

    def inner(self, volume: Tensor) -> Tensor:
        """Return the attacked channels in the units of the attack."""
        part = volume[:, self.chosen]
        if self.inner_range == self.pairs[0]:
            return part
        low, width = self._scale(volume)
        return (part - low) / width

    def outer(self, candidate: Tensor) -> Tensor:
        """Return the volumes that the attacked channels make, in the intensities of the network."""
        if self.inner_range != self.pairs[0]:
            low, width = self._scale(candidate)
            candidate = low + width * candidate
        if self.channels is None:
            return candidate
        places = torch.tensor(self.chosen, device=candidate.device)
        return self.clean.index_copy(1, places, candidate.to(self.clean.dtype))

    def result(self, candidate: Tensor) -> Tensor:
        """Return the attacked volumes, inside their ranges; what is not changed stays to the bit."""
        low, high = (part[:, self.chosen] for part in channel_limits(self.clean, self.value_range, self.channels))
        before = self.inner(self.clean)
        cut = self.outer(candidate)[:, self.chosen].clamp(low, high)
        kept = torch.where(candidate == before, self.clean[:, self.chosen], cut)
        return self.clean.index_copy(1, torch.tensor(self.chosen, device=kept.device), kept.to(self.clean.dtype))

    def _scale(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return lowest intensity and width of the attacked channels, each ``(1, chosen, 1, 1, 1)``."""
        low, high = like.new_tensor(self.pairs).view(1, -1, 2, 1, 1, 1).unbind(2)
        return low, high - low


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

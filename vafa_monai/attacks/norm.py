"""Norms of a change of voxels: their noise, their balls, and the moves that a gradient gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from monai.utils import StrEnum
from torch import Tensor

__all__ = [
    "MomentumMove",
    "Move",
    "Norm",
    "Projection",
    "SteepestMove",
    "VoxelBall",
    "gaussian_like",
    "rms",
    "steepest",
    "uniform_like",
]


class Norm(StrEnum):
    """What the size of a change is measured by: its largest voxel, or the root mean square of all."""

    LINF = "linf"
    L2 = "l2"


def rms(volume: Tensor) -> Tensor:
    """Return the root mean square of every sample, of shape ``(B, 1, ..., 1)``."""
    return volume.square().flatten(1).mean(1).sqrt().view(-1, *[1] * (volume.ndim - 1))


def steepest(gradient: Tensor, norm: Norm | str = Norm.LINF) -> Tensor:
    """Return the direction of size 1 along which a sample's objective rises fastest; 0 where the gradient is 0.

    Example:
        >>> gradient = torch.tensor([[3.0, -4.0, 0.0, 0.0]])
        >>> steepest(gradient).tolist()[0], [round(value, 3) for value in steepest(gradient, "l2").tolist()[0]]
        ([1.0, -1.0, 0.0, 0.0], [1.2, -1.6, 0.0, 0.0])
    """
    if norm == Norm.LINF:
        return gradient.sign()
    tiny = torch.finfo(gradient.dtype).tiny
    largest = gradient.abs().flatten(1).amax(1).clamp_min(tiny).view(-1, *[1] * (gradient.ndim - 1))
    scaled = gradient / largest  # or the squares of a small gradient would all be 0
    return scaled / rms(scaled).clamp_min(tiny)


def gaussian_like(volume: Tensor, seed: int) -> Tensor:
    """Draw standard normal noise for ``(B, C, H, W, D)``, the same for every sample: batching changes nothing."""
    generator = torch.Generator().manual_seed(seed)  # on the CPU: every device gets the same numbers
    return torch.randn(volume.shape[1:], generator=generator).to(volume).expand_as(volume)


def uniform_like(volume: Tensor, seed: int) -> Tensor:
    """Draw noise of [-1, 1) for ``(B, C, H, W, D)``, the same for every sample: batching changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(volume.shape[1:], generator=generator) - 1).to(volume).expand_as(volume)


@dataclass(frozen=True)
class VoxelBall:
    """The ball of radius ``radius`` around ``clean``, cut by the allowed intensities; the variable is the image.

    Args:
        clean: volumes of shape ``(B, C, H, W, D)``.
        radius: largest change of a voxel, or with ``"l2"`` largest root mean square of the change, in intensities of
            ``clean``.
        value_range: lowest and highest intensity.
        offset: where the ascent starts, relative to ``clean`` and in units of ``radius``; ``None`` starts at ``clean``.
        norm: ``"linf"`` or ``"l2"``.
    """

    clean: Tensor
    radius: float
    value_range: tuple[float, float]
    offset: Tensor | None = None
    norm: Norm | str = Norm.LINF

    def start(self) -> Tensor:
        """Return the clean volume, or a point of the ball."""
        return self.clean.clone() if self.offset is None else self.project(self.clean + self.radius * self.offset)

    def apply(self, variable: Tensor, step: int) -> Tensor:
        """Return the variable, which is the image."""
        return variable

    def excess(self, adv: Tensor) -> Tensor:
        """Return by how much each volume is outside the ball, ``(B,)``."""
        change = adv - self.clean
        size = rms(change).flatten() if self.norm == Norm.L2 else change.abs().flatten(1).amax(1)
        return size - self.radius

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest volume of the ball; with ``"l2"`` a near one: shortened first, then cut."""
        low, high = self.value_range
        if self.norm == Norm.L2:
            change = variable - self.clean
            share = self.radius / rms(change).clamp_min(torch.finfo(change.dtype).tiny)
            return change.mul_(share.clamp_max_(1)).add_(self.clean).clamp_(low, high)
        floor, ceiling = (self.clean - self.radius).clamp_min(low), (self.clean + self.radius).clamp_max(high)
        return torch.minimum(torch.maximum(variable, floor), ceiling)


class Projection(Protocol):
    """The part of a perturbation that a move needs."""

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest value that is allowed."""


class Move(Protocol):
    """A rule of one ascent; it may remember what it has met, so every ascent gets its own."""

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next allowed value, from the last one, its gradient, empty if none is wanted, and its score."""


class SteepestMove:
    """A step of fixed length along the steepest ascent: the sign of the gradient, or the gradient of length 1.

    Args:
        perturbation: what may change.
        step_size: length of a step in the unit of the variable; with ``"l2"`` its root mean square.
        norm: ``"linf"`` or ``"l2"``.
    """

    def __init__(self, perturbation: Projection, step_size: float, norm: Norm | str = Norm.LINF) -> None:
        self.project = perturbation.project
        self.step_size = step_size
        self.norm = norm

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next value."""
        return self.project(variable.add(steepest(gradient, self.norm), alpha=self.step_size))


class MomentumMove(SteepestMove):
    """A step along the sum of all gradients so far, older ones decayed (Dong et al., CVPR 2018, Algorithm 1).

    https://arxiv.org/abs/1710.06081. A gradient is added in units of the mean of its absolute values.

    Args:
        perturbation: what may change.
        step_size: length of a step in the unit of the variable.
        norm: ``"linf"`` or ``"l2"``.
        decay: what is left of the sum at the next step, in [0, 1]; 0 is no momentum.
    """

    def __init__(
        self, perturbation: Projection, step_size: float, norm: Norm | str = Norm.LINF, *, decay: float = 1.0
    ) -> None:
        super().__init__(perturbation, step_size, norm)
        self.decay = decay
        self.sum: Tensor | None = None

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next value."""
        size = gradient.abs().flatten(1).mean(1).view(-1, *[1] * (gradient.ndim - 1))
        new = gradient / size.masked_fill(size == 0, 1)
        self.sum = new if self.sum is None else new.add(self.sum, alpha=self.decay)
        return super().__call__(variable, self.sum, score)

"""The perturbation of the voxel attacks: every voxel may move by at most eps."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["VoxelBall"]


@dataclass(frozen=True)
class VoxelBall:
    """The L-inf ball of radius ``radius`` around ``clean``, cut by the allowed intensities; the variable is the image.

    Args:
        clean: volumes of shape ``(B, C, H, W, D)``.
        radius: largest change of a voxel, in intensities of ``clean``.
        value_range: lowest and highest intensity.
        offset: where the ascent starts, relative to ``clean`` and in units of ``radius``; ``None`` starts at ``clean``.
    """

    clean: Tensor
    radius: float
    value_range: tuple[float, float]
    offset: Tensor | None = None

    def start(self) -> Tensor:
        """Return the clean volume, or a point of the ball."""
        return self.clean.clone() if self.offset is None else self.project(self.clean + self.radius * self.offset)

    def apply(self, variable: Tensor, step: int) -> Tensor:
        """Return the variable, which is the image."""
        return variable

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest volume of the ball."""
        low, high = self.value_range
        floor, ceiling = (self.clean - self.radius).clamp_min(low), (self.clean + self.radius).clamp_max(high)
        return torch.minimum(torch.maximum(variable, floor), ceiling)

"""The perturbation of the voxel attacks: a volume may move by at most eps, voxel by voxel or in the mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vafa_monai.attacks.norm import Norm, rms

__all__ = ["VoxelBall"]


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

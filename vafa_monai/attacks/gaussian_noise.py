"""Gaussian noise: the control of the voxel attacks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Attack, Network
from vafa_monai.attacks.noise import gaussian_like
from vafa_monai.attacks.setting import require_strength

__all__ = ["GaussianNoise"]


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Attack):
    """Add Gaussian noise and clip; the network is not asked.

    Args:
        std: standard deviation, as a fraction of the width of ``value_range``, or as text in grey levels, such as
            ``"4 grey"``; clipping makes the change of dark and bright voxels smaller.
        seed: seed of the noise; every sample of every call gets the same noise.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``std`` is negative.

    Example:
        >>> import torch
        >>> volume = torch.full((1, 1, 20, 20, 20), 0.5)
        >>> round((GaussianNoise(std=0.02)(volume, volume * 0, network=None) - volume).std().item(), 3)
        0.02
    """

    std: float = 4 / 255
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "std", require_strength("std", self.std))

    @property
    def asks_network(self) -> bool:
        """No."""
        return False

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        return Ascent(self.clip(inputs + self.std * self.width * gaussian_like(inputs, self.seed)))

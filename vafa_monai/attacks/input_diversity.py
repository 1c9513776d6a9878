"""A network that sees its input shrunk and shifted, and answers in the input's own geometry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vafa_monai.attacks.isolation import require_tensor
from vafa_monai.attacks.objective import LossObjective
from vafa_monai.frequency import contract

__all__ = ["DiverseObjective", "seen_differently"]

LARGE_PRIME = 1_000_003  # so that the draws of one seed are not those of the next, one step later


def seen_differently(
    network: Callable[[Tensor], Tensor], volume: Tensor, share: float, place: float, fill: float
) -> Tensor:
    """Shrink ``volume``, surround it by ``fill``, ask ``network``, and bring the logits back to their voxels.

    Every step is linear interpolation along an axis, as in ``torch.nn.functional.interpolate`` without
    ``align_corners``.

    Args:
        network: maps volumes to logits ``(B, classes, H, W, D)``.
        volume: volumes of shape ``(B, C, H, W, D)``.
        share: size of the shrunk volume along every axis, rounded up, as a share of the full one; in (0, 1].
        place: where it lies in the room that is left: 0 at the near end of every axis, 1 at the far end.
        fill: intensity around it.

    Example:
        >>> volume = torch.arange(4.0).view(1, 1, 1, 1, 4)
        >>> seen_differently(lambda inputs: inputs, volume, 0.5, 1.0, fill=9.0).flatten().tolist()
        [0.5, 1.0, 2.0, 2.5]
    """
    smaller, back = zip(*(_matrices(size, share, place) for size in volume.shape[2:]), strict=True)
    logits = require_tensor(network(contract(volume - fill, smaller) + fill))
    return contract(logits, back)


def _matrices(size: int, share: float, place: float) -> tuple[Tensor, Tensor]:
    """Return the matrix ``(size, size)`` that shrinks and shifts an axis, and the one that takes it back."""
    inside = math.ceil(share * size)
    first = round(place * (size - inside))
    smaller, back = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    smaller[first : first + inside] = _interpolation(size, inside)
    back[:, first : first + inside] = _interpolation(inside, size)
    return smaller, back


def _interpolation(old: int, new: int) -> Tensor:
    """Return the matrix ``(new, old)`` of linear interpolation."""
    return F.interpolate(torch.eye(old, dtype=torch.float64)[:, None], size=new, mode="linear")[:, 0].mT


@dataclass(frozen=True)
class DiverseObjective(LossObjective):
    """The loss of a network that sees some steps' volumes shrunk and shifted (Xie et al., CVPR 2019).

    https://arxiv.org/abs/1803.06978. The logits are brought back, so that every voxel keeps its own label.

    Args:
        probability: chance of a step to be seen so.
        least_share: smallest size, as a share of the full one.
        fill: intensity around the shrunk volume.
        seed: seed of the draws, one a step, the same for every sample.
    """

    probability: float = 0.5
    least_share: float = 0.9
    fill: float = 0.0
    seed: int = 0

    def predict(self, adv: Tensor, step: int) -> Tensor:
        """Return the logits of an attacked volume, as seen at ``step``."""
        generator = torch.Generator().manual_seed(LARGE_PRIME * self.seed + step)
        chance, share, place = torch.rand(3, generator=generator).tolist()
        if chance >= self.probability:
            return self.network(adv)
        share = self.least_share + (1 - self.least_share) * share
        return seen_differently(self.network, adv, share, place, self.fill)

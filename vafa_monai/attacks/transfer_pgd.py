"""PGD whose perturbations are made to fool other networks, too."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from vafa_monai.attacks.ascent import Iterate, LossObjective, require_tensor
from vafa_monai.attacks.attack import Network
from vafa_monai.attacks.norm import MomentumMove, Move, VoxelBall
from vafa_monai.attacks.pgd import PGD
from vafa_monai.attacks.validation import require_at_least
from vafa_monai.frequency.block_dct import contract

__all__ = ["TransferPGD"]

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


@dataclass(frozen=True, kw_only=True)
class TransferPGD(PGD):
    """:class:`PGD` with momentum (MI-FGSM) and input diversity (DI-FGSM), to be tested on another network.

    Momentum: Dong et al., CVPR 2018, https://arxiv.org/abs/1710.06081. Diversity: Xie et al., CVPR 2019,
    https://arxiv.org/abs/1803.06978; in some steps the network sees the volume a little smaller, at another place, and
    its logits are brought back. The last iterate is returned: what the surrogate finds best is not what transfers best.

    Args:
        momentum: what is left of the sum of gradients at the next step, in [0, 1]; 0 is none.
        diversity: chance of a step to see the volume shrunk, in [0, 1]; 0 is none.
        least_share: smallest size of the shrunk volume along every axis, as a share of the full one, in (0, 1].
        seed: seed of the random start and of the diversity.

    Raises:
        ValueError: if a setting is outside its range, or ``iterate`` is ``"best"``.

    Example:
        >>> TransferPGD(eps=0.1, diversity=0.7).momentum
        1.0
    """

    momentum: float = 1.0
    diversity: float = 0.5
    least_share: float = 0.9

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        for name in ("momentum", "diversity", "least_share"):
            require_at_least(name, getattr(self, name), 0)
            if getattr(self, name) > 1:
                raise ValueError(f"{name} must be at most 1, got {getattr(self, name)!r}.")
        if self.least_share == 0:
            raise ValueError(f"least_share must be positive, got {self.least_share!r}.")
        if self.iterate == Iterate.BEST:
            raise ValueError('iterate must not be "best" for TransferPGD: steps see the volume differently; use PGD.')

    def _move(self, ball: VoxelBall) -> Move:
        return MomentumMove(ball, self._absolute_step_size, self.norm, decay=self.momentum)

    def objective(self, targets: Tensor, network: Network) -> LossObjective:
        """Return what is raised."""
        plain = super().objective(targets, network)
        settings = {item.name: getattr(plain, item.name) for item in fields(plain)}
        return DiverseObjective(
            **settings,
            probability=self.diversity,
            least_share=self.least_share,
            fill=self.one_range[0],
            seed=self.seed,
        )

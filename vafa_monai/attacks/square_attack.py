"""Square Attack in 3D: a black-box attack by random search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, Iterate, climb
from vafa_monai.attacks.attack import LossAttack, Network
from vafa_monai.attacks.setting import require_at_least, require_count, require_strength, warn
from vafa_monai.attacks.square_move import SquareMove, stripes
from vafa_monai.attacks.voxel_ball import VoxelBall

__all__ = ["SquareAttack"]


@dataclass(frozen=True, kw_only=True)
class SquareAttack(LossAttack):
    """Try random boxes of voxels at the edge of the L-inf ball and keep those that raise the loss; no gradient is used.

    Square Attack (Andriushchenko et al., ECCV 2020, https://arxiv.org/abs/1912.00049) with boxes instead of squares,
    accepted sample by sample. It starts at stripes of ``eps`` and ``-eps`` along the first spatial axis. An attack that
    knows the gradient and does less harm points at a network that hides it.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in grey levels, such as ``"4 grey"``.
        queries: how often the network is asked.
        first_share: share of the voxels that the first box changes, in (0, 1]; it halves nine times on the way.
        seed: seed of the boxes; the same for every sample.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``eps`` or ``queries`` is negative, or ``first_share`` is outside (0, 1].

    Example:
        >>> volume, label = torch.full((1, 1, 4, 5, 6), 0.5), torch.zeros(1, 1, 4, 5, 6)
        >>> adv = SquareAttack(eps=0.1, queries=5)(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).abs().min().item(), 4)  # every voxel is at the edge
        0.1
    """

    eps: float = 4 / 255
    queries: int = 1000
    first_share: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "eps", require_strength("eps", self.eps))
        require_count("queries", self.queries)
        require_at_least("first_share", self.first_share, 0)
        if not 0 < self.first_share <= 1:
            raise ValueError(f"first_share must be positive and at most 1, got {self.first_share!r}.")
        if self.eps == 0:
            warn("eps is 0, so SquareAttack changes nothing.")

    def _excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        return VoxelBall(clean, self.eps * self.width, self.value_range).excess(adv)

    @property
    def _steps(self) -> int:
        return self.queries

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        if self.queries == 0:
            return Ascent(self.clip(inputs))
        generator = torch.Generator().manual_seed(self.seed)
        start = stripes(inputs.shape[1:], generator).to(inputs)
        ball = VoxelBall(inputs, self.eps * self.width, self.value_range, start)
        boxes = self.queries - 1  # the start is a query, too
        return climb(
            ball,
            self._objective(targets, network),
            SquareMove(ball, boxes, self.first_share, generator),
            steps=boxes,
            iterate=Iterate.BEST,
            with_gradient=False,
        )

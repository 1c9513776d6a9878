"""Projected gradient descent in a ball of voxels."""

from __future__ import annotations

from dataclasses import dataclass

from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, Iterate, climb
from vafa_monai.attacks.attack import Network
from vafa_monai.attacks.move import Move, SteepestMove
from vafa_monai.attacks.setting import strength, warn_of_step
from vafa_monai.attacks.voxel_attack import VoxelAttack
from vafa_monai.attacks.voxel_ball import VoxelBall

__all__ = ["PGD"]

STEP_SHARE = 2.5  # step_size = 2.5 eps / steps: any point of the ball can be reached, and left again


@dataclass(frozen=True, kw_only=True)
class PGD(VoxelAttack):
    """Climb the loss by gradient steps of one length, inside a ball of radius ``eps`` (Madry et al., ICLR 2018).

    https://arxiv.org/abs/1706.06083. The experiments of the VAFA paper use ``step_size=0.01`` and no random start.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in grey levels, such as ``"4 grey"``.
        norm: ``"linf"``: no voxel moves further than ``eps``; ``"l2"``: nor does the root mean square of the change.
        step_size: length of a step in the same unit and norm; ``None`` is ``2.5 * eps / steps``.
        steps: number of steps.
        random_start: start at a random point of the ball instead of the clean volume.
        seed: seed of that point.
        iterate: ``"last"`` (as published) or ``"best"``, sample by sample.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``eps``, ``step_size`` or ``steps`` is negative.

    Example:
        >>> import torch
        >>> volume, label = torch.full((1, 1, 4, 5, 6), 0.5), torch.zeros(1, 1, 4, 5, 6)
        >>> adv = PGD(eps=0.1, steps=5)(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).abs().max().item(), 4)
        0.1
    """

    step_size: float | None = None
    iterate: Iterate | str = Iterate.LAST

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if self.step_size is not None:
            object.__setattr__(self, "step_size", strength(self.step_size, name="step_size"))
            warn_of_step(self.step_size, 2 * self.eps, "2 * eps")
        object.__setattr__(self, "iterate", look_up_option(self.iterate, Iterate))

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        ball = self._ball(inputs)
        return climb(ball, self._objective(targets, network), self._move(ball), steps=self.steps, iterate=self.iterate)

    def _move(self, ball: VoxelBall) -> Move:
        """Return how to step."""
        return SteepestMove(ball, self._absolute_step_size, self.norm)

    @property
    def _absolute_step_size(self) -> float:
        """The length of a step, in intensities."""
        share = STEP_SHARE * self.eps / max(self.steps, 1) if self.step_size is None else self.step_size
        return share * self.width

"""Auto-PGD: projected gradient descent that chooses its own step sizes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, climb
from vafa_monai.attacks.attack import Network
from vafa_monai.attacks.auto_move import AutoMove
from vafa_monai.attacks.restart import best_run, require_restarts
from vafa_monai.attacks.setting import require_at_least
from vafa_monai.attacks.voxel_attack import VoxelAttack

__all__ = ["APGD"]


@dataclass(frozen=True, kw_only=True)
class APGD(VoxelAttack):
    """Climb the loss with momentum, each sample with a step size that halves where it makes no progress.

    Auto-PGD (Croce and Hein, ICML 2020, https://arxiv.org/abs/2003.01690); see
    :class:`vafa_monai.attacks.auto_move.AutoMove`. The best iterate of all runs is returned, sample by sample. With a
    masked loss it is the attack of the segmentation ensemble attack (Croce et al., ECCV 2024).

    Args:
        eps: radius, as a fraction of the width of ``value_range``; 4/255 is 4 grey levels.
        norm: ``"linf"``: no voxel moves further than ``eps``; ``"l2"``: nor does the root mean square of the change.
        steps: number of steps of a run.
        restarts: number of runs; each but the first starts at a random point of the ball.
        rho: share of the steps of a period that must raise the loss, or the step size is halved; in [0, 1].
        random_start: start the first run at a random point, too, as published.
        seed: seed of the random points.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``eps`` or ``steps`` is negative, ``restarts`` is 0, or ``rho`` is outside [0, 1].

    Example:
        >>> import torch
        >>> volume, label = torch.full((1, 1, 4, 5, 6), 0.5), torch.zeros(1, 1, 4, 5, 6)
        >>> adv = APGD(eps=0.1, norm="l2", steps=5)(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).square().mean().sqrt().item(), 4)
        0.1
    """

    restarts: int = 1
    rho: float = 0.75

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        require_restarts(self.restarts)
        require_at_least("rho", self.rho, 0)
        if self.rho > 1:
            raise ValueError(f"rho must be at most 1, got {self.rho!r}.")

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        objective = self._objective(targets, network)

        def run(number: int) -> Ascent:
            ball = self._ball(inputs, number)
            move = AutoMove(ball, ball.radius, steps=self.steps, norm=self.norm, rho=self.rho)
            return climb(ball, objective, move, steps=self.steps)

        return best_run(run, self.restarts)

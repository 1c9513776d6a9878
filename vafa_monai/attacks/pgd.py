"""Projected gradient descent in an L-inf ball of voxels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, Iterate, ascend
from vafa_monai.attacks.attack import GradientAttack, Network
from vafa_monai.attacks.noise import uniform_like
from vafa_monai.attacks.setting import require_at_least, require_count
from vafa_monai.attacks.voxel_ball import VoxelBall

__all__ = ["PGD"]

STEP_SHARE = 2.5  # step_size = 2.5 eps / steps: any point of the ball can be reached, and left again


@dataclass(frozen=True, kw_only=True)
class PGD(GradientAttack):
    """Climb the loss by signed gradient steps, no voxel further than ``eps`` (Madry et al., ICLR 2018).

    https://arxiv.org/abs/1706.06083. The experiments of the VAFA paper use ``step_size=0.01`` and no random start.

    Args:
        eps: radius, as a fraction of the width of ``value_range``; 4/255 is 4 grey levels.
        step_size: length of a step in the same unit; ``None`` is ``2.5 * eps / steps``.
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

    eps: float = 4 / 255
    step_size: float | None = None
    steps: int = 20
    random_start: bool = False
    seed: int = 0
    iterate: Iterate | str = Iterate.LAST

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        require_at_least("eps", self.eps, 0)
        require_count("steps", self.steps)
        if self.step_size is not None:
            require_at_least("step_size", self.step_size, 0)
        object.__setattr__(self, "iterate", look_up_option(self.iterate, Iterate))
        if self.eps == 0:
            level = 3 if type(self).__post_init__ is PGD.__post_init__ else 4  # a subclass calls from its own
            warnings.warn(f"eps is 0, so {type(self).__name__} changes nothing.", stacklevel=level)

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        offset = uniform_like(inputs, self.seed) if self.random_start else None
        step_size = STEP_SHARE * self.eps / max(self.steps, 1) if self.step_size is None else self.step_size
        return ascend(
            VoxelBall(inputs, self.eps * self.width, self.value_range, offset),
            self._objective(targets, network),
            steps=self.steps,
            step_size=step_size * self.width,
            iterate=self.iterate,
        )

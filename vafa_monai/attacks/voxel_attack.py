"""What the gradient attacks on voxels have in common: their ball, its norm, and where they start."""

from __future__ import annotations

from dataclasses import dataclass

from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.attack import GradientAttack
from vafa_monai.attacks.noise import gaussian_like, uniform_like
from vafa_monai.attacks.norm import Norm, rms
from vafa_monai.attacks.setting import require_count, require_strength, warn
from vafa_monai.attacks.voxel_ball import VoxelBall

__all__ = ["VoxelAttack"]


@dataclass(frozen=True, kw_only=True)
class VoxelAttack(GradientAttack):
    """A gradient attack that may move every voxel.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in grey levels, such as ``"4 grey"``.
        norm: ``"linf"``: no voxel moves further than ``eps``. ``"l2"``: the root mean square of the change is at most
            ``eps``, which is the L2 ball of radius ``eps * sqrt(number of voxels)``; a volume of any size is changed by
            as many grey levels in the mean, and the ball contains the one of ``"linf"``.
        steps: number of steps.
        random_start: start at a random point of the ball instead of the clean volume: uniform in the cube of
            ``"linf"``, on the surface of the ball of ``"l2"``.
        seed: seed of that point; the same for every sample.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.
    """

    eps: float = 4 / 255
    norm: Norm | str = Norm.LINF
    steps: int = 20
    random_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "eps", require_strength("eps", self.eps))
        require_count("steps", self.steps)
        object.__setattr__(self, "norm", look_up_option(self.norm, Norm))
        if self.eps == 0:
            warn(f"eps is 0, so {type(self).__name__} changes nothing.")

    def _ball(self, inputs: Tensor, run: int = 0) -> VoxelBall:
        """Return what may change; every run but the first starts at a random point."""
        offset = self._offset(inputs, self.seed + run) if self.random_start or run else None
        return VoxelBall(inputs, self.eps * self.width, self.value_range, offset, self.norm)

    def _excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        return VoxelBall(clean, self.eps * self.width, self.value_range, norm=self.norm).excess(adv)

    def _offset(self, inputs: Tensor, seed: int) -> Tensor:
        """Return a random point of the ball of radius 1."""
        if self.norm == Norm.LINF:
            return uniform_like(inputs, seed)
        noise = gaussian_like(inputs, seed)
        return noise / rms(noise)

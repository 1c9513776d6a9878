"""The fast gradient sign method from a noise that is larger than its step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vafa_monai.attacks.norm import VoxelBall
from vafa_monai.attacks.pgd import PGD
from vafa_monai.attacks.validation import require_at_least

__all__ = ["NFGSM"]

STEP_SHARE = 1.25  # of eps


@dataclass(frozen=True, kw_only=True)
class NFGSM(PGD):
    """One step from a random start outside the ball, which nothing projects back (de Jorge et al., NeurIPS 2022).

    https://arxiv.org/abs/2202.01181. The start is uniform within ``noise * eps`` of the clean volume, and the step is
    added to it, so that a voxel moves by ``noise * eps + step_size`` at most. It is made for training: a step alone
    from inside the ball teaches a network to hide its gradient, this one does not.

    Args:
        eps: what ``noise`` and the default step are multiples of, as a fraction of the width of ``value_range``, or as
            text in gray levels, such as ``"4 gray"``.
        noise: reach of the random start, in units of ``eps``.
        step_size: length of the step, in the unit of ``eps``; ``None`` is ``1.25 * eps``.
        seed: seed of the start; the same for every sample.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if a setting is impossible, or what makes another attack.

    Example:
        >>> attack = NFGSM(eps=0.1)
        >>> attack.step_size, round(attack.reach, 4)
        (0.125, 0.325)
    """

    steps: int = 1
    random_start: bool = True
    noise: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what is no single step from a random start."""
        super().__post_init__()
        if self.steps != 1 or not self.random_start:
            found = f"{self.steps!r} and {self.random_start!r}"
            raise ValueError(f"steps must be 1 and random_start True for NFGSM, got {found}; use PGD.")
        require_at_least("noise", self.noise, 0)
        if self.step_size is None:
            object.__setattr__(self, "step_size", STEP_SHARE * self.eps)

    @property
    def reach(self) -> float:
        """How far a voxel may move, as a fraction of the width of ``value_range``."""
        return self.noise * self.eps + (self.step_size or 0.0)

    def _ball(self, inputs: Tensor, run: int = 0) -> VoxelBall:
        """Return a ball that holds noise and step, so that nothing but the intensities cuts them."""
        share = self.noise * self.eps / self.reach if self.reach else 0.0
        offset = share * self._offset(inputs, self.seed + run)
        return VoxelBall(inputs, self.reach * self.width, self.one_range, offset, self.norm)

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        return VoxelBall(clean, self.reach * self.width, self.one_range, norm=self.norm).excess(adv)

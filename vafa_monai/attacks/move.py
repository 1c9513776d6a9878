"""How to step: rules that lead from a gradient to the next value of the variable."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from vafa_monai.attacks.norm import Norm, steepest

__all__ = ["MomentumMove", "Move", "Projection", "SteepestMove"]


class Projection(Protocol):
    """The part of a perturbation that a move needs."""

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest value that is allowed."""


class Move(Protocol):
    """A rule of one ascent; it may remember what it has met, so every ascent gets its own."""

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next allowed value, from the last one, its gradient, empty if none is wanted, and its score."""


class SteepestMove:
    """A step of fixed length along the steepest ascent: the sign of the gradient, or the gradient of length 1.

    Args:
        perturbation: what may change.
        step_size: length of a step in the unit of the variable; with ``"l2"`` its root mean square.
        norm: ``"linf"`` or ``"l2"``.
    """

    def __init__(self, perturbation: Projection, step_size: float, norm: Norm | str = Norm.LINF) -> None:
        self.project = perturbation.project
        self.step_size = step_size
        self.norm = norm

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next value."""
        return self.project(variable.add(steepest(gradient, self.norm), alpha=self.step_size))


class MomentumMove(SteepestMove):
    """A step along the sum of all gradients so far, older ones decayed (Dong et al., CVPR 2018, Algorithm 1).

    https://arxiv.org/abs/1710.06081. A gradient is added in units of the mean of its absolute values.

    Args:
        perturbation: what may change.
        step_size: length of a step in the unit of the variable.
        norm: ``"linf"`` or ``"l2"``.
        decay: what is left of the sum at the next step, in [0, 1]; 0 is no momentum.
    """

    def __init__(
        self, perturbation: Projection, step_size: float, norm: Norm | str = Norm.LINF, *, decay: float = 1.0
    ) -> None:
        super().__init__(perturbation, step_size, norm)
        self.decay = decay
        self.sum: Tensor | None = None

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next value."""
        size = gradient.abs().flatten(1).mean(1).view(-1, *[1] * (gradient.ndim - 1))
        new = gradient / size.masked_fill(size == 0, 1)
        self.sum = new if self.sum is None else new.add(self.sum, alpha=self.decay)
        return super().__call__(variable, self.sum, score)

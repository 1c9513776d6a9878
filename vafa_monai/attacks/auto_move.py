"""The step rule of APGD: a step size of its own for every sample, halved where progress stalls."""

from __future__ import annotations

import torch
from torch import Tensor

from vafa_monai.attacks.move import Projection
from vafa_monai.attacks.norm import Norm, steepest

__all__ = ["AutoMove", "checkpoints"]

INERTIA = 0.25  # share of the last move in the next one: 1 - alpha of the paper


def checkpoints(steps: int) -> list[int]:
    """Return after how many of ``steps`` steps APGD considers halving its step size (Algorithm 1 and Section 3.2).

    ``ceil(p_j steps)`` with ``p_1 = 0.22`` and ``p_j+1 = p_j + max(p_j - p_j-1 - 0.03, 0.06)``; in hundredths here,
    since 0.57 * 100 is more than 57 in floating point. The authors' code rounds the periods instead, which gives the
    same for whole hundreds of steps.

    Example:
        >>> checkpoints(100), checkpoints(20)
        ([22, 41, 57, 70, 80, 87, 93, 99], [5, 9, 12, 14, 16, 18, 19, 20])
    """
    share, period, found = 22, 22, []
    while share <= 100:
        found.append(-(-share * steps // 100))
        period = max(period - 3, 6)
        share += period
    return sorted(set(found))


class AutoMove:
    """Steps with momentum whose size is halved, and restarted at the best point, where a sample makes no progress.

    Auto-PGD (Croce and Hein, ICML 2020, Algorithm 1, https://arxiv.org/abs/2003.01690). The size starts at
    ``2 * radius`` and is halved at a checkpoint if fewer than ``rho`` of the steps since the last one raised the score,
    or if it was not halved there and the best score has not changed since. As in the authors' code a share of exactly
    ``rho`` counts as too few.

    Args:
        perturbation: what may change.
        radius: size of what may change, in the unit of the variable; with ``"l2"`` its root mean square.
        steps: number of steps of the ascent.
        norm: ``"linf"`` or ``"l2"``.
        rho: share of the steps that must raise the score, in [0, 1].
    """

    size: Tensor  # (B,)
    best: Tensor
    best_gradient: Tensor
    previous: Tensor

    def __init__(
        self,
        perturbation: Projection,
        radius: float,
        *,
        steps: int,
        norm: Norm | str = Norm.LINF,
        rho: float = 0.75,
    ) -> None:
        self.project = perturbation.project
        self.radius = radius
        self.norm = norm
        self.rho = rho
        self.checkpoints = checkpoints(steps)
        self.taken = 0

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next value; every sample is judged by its own score."""
        if self.taken == 0:
            self._begin(variable, gradient, score)
        else:
            self._note(variable, gradient, score)
        if self.taken in self.checkpoints:
            stalled = self._stalled(score)
            self.size = torch.where(stalled, self.size / 2, self.size)
            variable = torch.where(self._like(stalled, variable), self.best, variable)
            gradient = torch.where(self._like(stalled, variable), self.best_gradient, gradient)
        moved = self.project(variable + self._like(self.size, variable) * steepest(gradient, self.norm))
        if self.taken:
            moved = self.project(torch.lerp(moved, variable, INERTIA).add(variable - self.previous, alpha=INERTIA))
        self.previous = variable
        self.taken += 1
        return moved

    def _begin(self, variable: Tensor, gradient: Tensor, score: Tensor) -> None:
        """Start at the first value, which is the best so far."""
        self.size = variable.new_full((len(variable),), 2 * self.radius)
        self.best, self.best_gradient, self.best_score = variable, gradient, score
        self.last_score, self.last_best_score = score, score
        self.rises = torch.zeros_like(score)
        self.period_start = 0
        self.halved = torch.ones_like(score, dtype=torch.bool)  # no verdict on the first period by its best score

    def _note(self, variable: Tensor, gradient: Tensor, score: Tensor) -> None:
        """Count the samples whose score rose, and keep the best of each."""
        self.rises += score > self.last_score
        self.last_score = score
        better = score > self.best_score
        self.best = torch.where(self._like(better, variable), variable, self.best)
        self.best_gradient = torch.where(self._like(better, gradient), gradient, self.best_gradient)
        self.best_score = torch.where(better, score, self.best_score)

    def _stalled(self, score: Tensor) -> Tensor:
        """Tell which samples stall, ``(B,)``, and begin the next period."""
        few = self.rises <= self.rho * (self.taken - self.period_start)
        stalled = few | (~self.halved & (self.best_score <= self.last_best_score))
        self.rises = torch.zeros_like(score)
        self.period_start, self.halved, self.last_best_score = self.taken, stalled, self.best_score
        return stalled

    @staticmethod
    def _like(values: Tensor, variable: Tensor) -> Tensor:
        """Return ``(B,)`` in a shape that broadcasts with the variable."""
        return values.view(-1, *[1] * (variable.ndim - 1))

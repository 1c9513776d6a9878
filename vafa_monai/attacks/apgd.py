"""Auto-PGD: projected gradient descent that chooses its own step sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, best_run, climb, require_restarts
from vafa_monai.attacks.attack import Network
from vafa_monai.attacks.norm import Norm, Projection, VoxelBall, steepest
from vafa_monai.attacks.pgd import VoxelAttack
from vafa_monai.attacks.validation import require_at_least

__all__ = ["APGD"]

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


@dataclass(frozen=True, kw_only=True)
class APGD(VoxelAttack):
    """Climb the loss with momentum, each sample with a step size that halves where it makes no progress.

    Auto-PGD (Croce and Hein, ICML 2020, https://arxiv.org/abs/2003.01690); see
    :class:`vafa_monai.attacks.apgd.AutoMove`. The best iterate of all runs is returned, sample by sample. With a
    masked loss and a schedule of radii it is the attack of the segmentation ensemble attack (Croce et al., ECCV 2024,
    https://arxiv.org/abs/2306.12941): it starts in a larger ball, is projected into a smaller one, and ends in its own.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in gray levels, such as ``"4 gray"``.
        norm: ``"linf"``: no voxel moves further than ``eps``; ``"l2"``: nor does the root mean square of the change.
        steps: number of steps of a run.
        restarts: number of runs; each but the first starts at a random point of the ball.
        rho: share of the steps of a period that must raise the loss, or the step size is halved; in [0, 1].
        schedule: pairs of a factor of ``eps`` and a share of the steps, in their order. Factors fall to 1, shares add
            up to 1; only volumes of the last pair are returned. Published are ``[[2, 0.3], [1.5, 0.3], [1, 0.4]]``.
        random_start: start the first run at a random point, too, as published.
        seed: seed of the random points.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``eps`` or ``steps`` is negative, ``restarts`` is 0, ``rho`` is outside [0, 1], or
            ``schedule`` is impossible.

    Example:
        >>> import torch
        >>> volume, label = torch.full((1, 1, 4, 5, 6), 0.5), torch.zeros(1, 1, 4, 5, 6)
        >>> adv = APGD(eps=0.1, norm="l2", steps=5)(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).square().mean().sqrt().item(), 4)
        0.1
    """

    restarts: int = 1
    rho: float = 0.75
    schedule: Sequence[Sequence[float]] = ((1.0, 1.0),)

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        require_restarts(self.restarts)
        require_at_least("rho", self.rho, 0)
        if self.rho > 1:
            raise ValueError(f"rho must be at most 1, got {self.rho!r}.")

        object.__setattr__(self, "schedule", _require_schedule(self.schedule))

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        objective = self.objective(targets, network)

        def run_stage(ball: VoxelBall, factor: float, steps: int, start: Tensor | None = None) -> Ascent:
            stage = replace(ball, radius=factor * ball.radius)
            if start is not None and stage.radius > 0:
                stage = replace(stage, offset=(start - inputs) / stage.radius)
            move = AutoMove(stage, stage.radius, steps=steps, norm=self.norm, rho=self.rho)
            return climb(stage, objective, move, steps=steps)

        def run(number: int) -> Ascent:
            ball = self._ball(inputs, number)
            first, *others = self._stages()
            found = run_stage(ball, *first)
            for stage in others:
                found = run_stage(ball, *stage, start=found.adv)
            return found

        return best_run(run, self.restarts)

    def _stages(self) -> Iterator[tuple[float, int]]:
        """Yield factors of ``eps`` and numbers of steps, which add up to ``steps``."""
        first, share = 0, 0.0
        for factor, part in self.schedule:
            share += part
            last = round(share * self.steps)
            yield factor, last - first
            first = last


def _require_schedule(schedule: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    """Return pairs of numbers; refuse factors that do not fall to 1, and shares that do not add up to 1."""
    pairs = tuple(tuple(float(number) for number in pair) for pair in schedule)
    good = bool(pairs) and all(len(pair) == 2 for pair in pairs)
    factors, shares = zip(*pairs, strict=True) if good else ((), ())
    good = good and factors[-1] == 1 and list(factors) == sorted(factors, reverse=True)
    if not good or min(shares) <= 0 or not math.isclose(sum(shares), 1, rel_tol=1e-6):
        raise ValueError(f"schedule must be factors that fall to 1 and shares that add up to 1, got {schedule!r}.")
    return tuple(zip(factors, shares, strict=True))

"""Auto-PGD: projected gradient descent that chooses its own step sizes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, climb
from vafa_monai.attacks.attack import Network
from vafa_monai.attacks.auto_move import AutoMove
from vafa_monai.attacks.restart import best_run, require_restarts
from vafa_monai.attacks.setting import require_at_least
from vafa_monai.attacks.voxel_attack import VoxelAttack
from vafa_monai.attacks.voxel_ball import VoxelBall

__all__ = ["APGD"]


@dataclass(frozen=True, kw_only=True)
class APGD(VoxelAttack):
    """Climb the loss with momentum, each sample with a step size that halves where it makes no progress.

    Auto-PGD (Croce and Hein, ICML 2020, https://arxiv.org/abs/2003.01690); see
    :class:`vafa_monai.attacks.auto_move.AutoMove`. The best iterate of all runs is returned, sample by sample. With a
    masked loss and a schedule of radii it is the attack of the segmentation ensemble attack (Croce et al., ECCV 2024,
    https://arxiv.org/abs/2306.12941): it starts in a larger ball, is projected into a smaller one, and ends in its own.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in grey levels, such as ``"4 grey"``.
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

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        objective = self._objective(targets, network)

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

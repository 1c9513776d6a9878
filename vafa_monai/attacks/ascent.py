"""The one loop of every iterative attack: what may change, what to maximize, how far to step, which image to return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from monai.utils import StrEnum
from torch import Tensor

from vafa_monai.attacks.isolation import NetworkError, ours
from vafa_monai.attacks.move import Move, SteepestMove
from vafa_monai.attacks.objective import judge

__all__ = ["Ascent", "Iterate", "Perturbation", "ascend", "better", "climb"]


class Iterate(StrEnum):
    """Which image of the ascent is returned."""

    LAST = "last"
    LAST_EVALUATED = "last_evaluated"
    BEST = "best"


class Perturbation(Protocol):
    """What an attack may change: a variable, the image that it makes, and the set that it must stay in."""

    def start(self) -> Tensor:
        """Return the first value of the variable; its first axis is the batch."""

    def apply(self, variable: Tensor, step: int) -> Tensor:
        """Return the attacked volume ``(B, C, H, W, D)`` of ``variable``, inside the allowed intensities."""

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest value that is allowed."""


@dataclass(frozen=True)
class Ascent:
    """What an attack found: volumes ``(B, C, H, W, D)``, the variable that made them, its objective ``(B,)``.

    The objective is the number that iterates are compared by.
    """

    adv: Tensor
    variable: Tensor | None = None
    objective: Tensor | None = None

    def details(self) -> list[dict[str, Any]]:
        """Return what more there is to say of each sample, as JSON; nothing of a single attack."""
        return [{} for _ in self.adv]


def ascend(
    perturbation: Perturbation,
    objective: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
    iterate: Iterate | str = Iterate.LAST,
) -> Ascent:
    """Raise ``objective`` by ``steps`` signed gradient steps on the variable of ``perturbation``.

    Args:
        perturbation: what may change.
        objective: maps an attacked volume ``(B, C, H, W, D)`` to one number a sample, ``(B,)``, to be raised.
        steps: number of gradient steps, >= 0; 0 returns the starting image.
        step_size: length of a step along every coordinate, in the unit of the variable.
        iterate: ``"last"`` is the image after the last step; ``"last_evaluated"`` the one that the last gradient was
            taken at (Algorithm 1 of the paper returns it); ``"best"`` the best of all, sample by sample, which costs
            one forward pass more.

    Returns:
        The chosen iterate, detached.
    """
    return climb(perturbation, objective, SteepestMove(perturbation, step_size), steps=steps, iterate=iterate)


def climb(
    perturbation: Perturbation,
    objective: Callable[[Tensor], Tensor],
    move: Move,
    *,
    steps: int,
    iterate: Iterate | str = Iterate.BEST,
    with_gradient: bool = True,
) -> Ascent:
    """Raise ``objective`` by ``steps`` moves: the loop of :func:`ascend` for any rule.

    Args:
        perturbation: what may change.
        objective: maps an attacked volume to one number a sample; or an object with
            ``judge(adv, step) -> Judgement``, which knows the step and may compare iterates by another number.
        move: how to step, a rule made for this ascent.
        steps: number of moves, >= 0.
        iterate: which image is returned.
        with_gradient: whether ``move`` wants the gradient; without, the network is asked for its output only.

    Returns:
        The chosen iterate, detached.
    """
    variable = perturbation.start()
    found: Ascent | None = None
    for step in range(steps):
        variable = variable.detach().requires_grad_(with_gradient)
        with torch.set_grad_enabled(with_gradient):
            adv = perturbation.apply(variable, step)
            value, score = judge(objective, adv, step)
        gradient = _gradient(value, variable) if with_gradient else variable.new_empty(0)
        variable, score = variable.detach(), score.detach()
        current = Ascent(adv.detach(), variable, score)
        found = better(found, current) if iterate == Iterate.BEST else current
        variable = move(variable, gradient, score)
    if found is not None and iterate == Iterate.LAST_EVALUATED:
        return found
    with torch.no_grad():
        adv = perturbation.apply(variable, steps)
        last = Ascent(adv, variable, judge(objective, adv, steps).score if iterate == Iterate.BEST else None)
    return better(found, last) if iterate == Iterate.BEST else last


def better(found: Ascent | None, current: Ascent) -> Ascent:
    """Choose, sample by sample, the iterate of the higher objective; the earlier one where they are equal."""
    if found is None:
        return current
    new, old = (
        [part for part in (ascent.adv, ascent.variable, ascent.objective) if part is not None]
        for ascent in (current, found)
    )
    wins = new[-1] > old[-1]  # (B,)
    return Ascent(*(torch.where(wins.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True)))


def _gradient(value: Tensor, variable: Tensor) -> Tensor:
    """Return the gradient of every sample's own value; refuse one that is not finite."""
    try:
        (gradient,) = torch.autograd.grad(value.sum(), variable, allow_unused=True)
    except RuntimeError as error:
        raise ours(error, "network and loss must be differentiable") from error
    if gradient is None:
        raise NetworkError("network must give a gradient to its inputs, got logits that do not depend on them.")
    if not torch.stack(gradient.aminmax()).isfinite().all():  # the sign of NaN is 0: the attack would stand still
        raise RuntimeError("network must have finite gradients, got NaN or infinite ones; check the network.")
    return gradient

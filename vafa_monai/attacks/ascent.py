"""The one loop of every iterative attack: what may change, what to maximize, how far to step, which image to return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from monai.utils import StrEnum
from torch import Tensor

__all__ = ["Ascent", "Iterate", "Perturbation", "ascend"]


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
    """What an attack found: volumes ``(B, C, H, W, D)``, the variable that made them, its objective ``(B,)``."""

    adv: Tensor
    variable: Tensor | None = None
    objective: Tensor | None = None


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
    variable = perturbation.start()
    found: Ascent | None = None
    for step in range(steps):
        variable = variable.detach().requires_grad_()
        adv = perturbation.apply(variable, step)
        value = objective(adv)
        (gradient,) = torch.autograd.grad(value.sum(), variable)
        if not torch.stack(gradient.aminmax()).isfinite().all():  # the sign of NaN is 0: the attack would stand still
            raise RuntimeError("network must have finite gradients, got NaN or infinite ones; check the network.")
        variable = variable.detach()
        current = Ascent(adv.detach(), variable, value.detach())
        found = _better(found, current) if iterate == Iterate.BEST else current
        variable = perturbation.project(torch.add(variable, gradient.sign(), alpha=step_size))
    if found is not None and iterate == Iterate.LAST_EVALUATED:
        return found
    with torch.no_grad():
        adv = perturbation.apply(variable, steps)
        last = Ascent(adv, variable, objective(adv) if iterate == Iterate.BEST else None)
    return _better(found, last) if iterate == Iterate.BEST else last


def _better(found: Ascent | None, current: Ascent) -> Ascent:
    """Choose, sample by sample, the iterate of the higher objective; the earlier one where they are equal."""
    if found is None:
        return current
    new, old = (
        [part for part in (ascent.adv, ascent.variable, ascent.objective) if part is not None]
        for ascent in (current, found)
    )
    wins = new[-1] > old[-1]  # (B,)
    return Ascent(*(torch.where(wins.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True)))

"""What an attack maximizes: the loss of a network, as one number a sample to climb and one to compare iterates by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from vafa_monai.attacks.isolation import require_tensor
from vafa_monai.losses.voxel_loss import refuse_void_softmax

__all__ = ["Judgement", "LossObjective", "PenalizedObjective", "judge"]


class Judgement(NamedTuple):
    """One number a sample each: what is climbed, and what iterates are compared by."""

    value: Tensor
    score: Tensor


def judge(objective: Callable[[Tensor], Tensor], adv: Tensor, step: int) -> Judgement:
    """Ask an objective that knows the step, or one that is a plain function of the volume."""
    asked = getattr(objective, "judge", None)
    if asked is not None:
        return asked(adv, step)
    value = objective(adv)
    return Judgement(value, value)


@dataclass(frozen=True)
class LossObjective:
    """The loss of ``network`` against ``targets``, sample by sample.

    Most losses are climbed and compared by alike. A loss whose value falls where an attack has won (masked or weighted
    cross entropy) has a method ``harm(logits, targets)`` of one number a sample, and iterates are compared by that. A
    loss that changes in the course of an attack has a method ``at(progress)``.

    Args:
        loss_function: loss of ``(logits, targets)``, called for one sample at a time.
        targets: class indices of shape ``(B, 1, H, W, D)``.
        network: maps volumes to logits.
        sign: 1 to raise the loss, -1 to lower it.
        steps: number of steps of the attack.
    """

    loss_function: Callable[[Tensor, Tensor], Tensor]
    targets: Tensor
    network: Callable[[Tensor], Tensor]
    sign: float = 1.0
    steps: int = 1

    @cached_property
    def highest_label(self) -> float:
        """The highest class index; 0 where ``targets`` are not class indices."""
        return self.targets.max().item() if self.targets.shape[1] == 1 else 0

    def __call__(self, adv: Tensor) -> Tensor:
        """Return what is climbed at the first step, ``(B,)``."""
        return self.judge(adv, 0).value

    def predict(self, adv: Tensor, step: int) -> Tensor:
        """Return the logits of an attacked volume."""
        return self.network(adv)

    def judge(self, adv: Tensor, step: int) -> Judgement:
        """Return what is climbed at ``step``, and what iterates are compared by."""
        logits = _checked(self.predict(adv, step), self.highest_label)
        refuse_void_softmax(self.loss_function, logits.shape[1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss_function, harm = self.loss_function, getattr(self.loss_function, "harm", None)
        if hasattr(loss_function, "at"):
            loss_function = loss_function.at(min(step / max(self.steps, 1), 1.0))
        value = self._of_samples(loss_function, logits)
        if harm is None:
            return Judgement(value, value)
        with torch.no_grad():
            return Judgement(value, self._of_samples(harm, logits))

    def _of_samples(self, loss_function: Callable[[Tensor, Tensor], Tensor], logits: Tensor) -> Tensor:
        """Return the signed loss of every sample, ``(B,)``."""
        targets = self.targets
        if logits.shape[1] == targets.shape[1]:  # a loss of every channel by itself takes no integers
            targets = targets.to(logits.dtype)
        one = len(logits) == 1
        samples = [(logits, targets)] if one else zip(logits.split(1), targets.split(1), strict=True)
        loss = torch.stack([loss_function(*sample).squeeze() for sample in samples])
        if not torch.isfinite(loss).all():  # the sign of NaN is 0: the attack would stand still, and look harmless
            raise RuntimeError(f"loss_function must give finite losses, got {loss.tolist()}; check the network.")
        return self.sign * loss


@dataclass(frozen=True)
class PenalizedObjective:
    """An objective minus a penalty of the volume, one number a sample."""

    objective: Callable[[Tensor], Tensor]
    penalty: Callable[[Tensor], Tensor]

    def __call__(self, adv: Tensor) -> Tensor:
        """Return what is climbed at the first step, ``(B,)``."""
        return self.judge(adv, 0).value

    def judge(self, adv: Tensor, step: int) -> Judgement:
        """Return what is climbed at ``step``, and what iterates are compared by."""
        judgement = judge(self.objective, adv, step)
        penalty = self.penalty(adv)
        return Judgement(*(part - penalty for part in judgement))


def _checked(logits: Tensor, highest_label: float) -> Tensor:
    """Refuse an output that is no tensor or has no channel for the highest label."""
    classes = max(require_tensor(logits).shape[1], 2)
    if highest_label >= classes:
        raise ValueError(f"targets must hold class indices from 0 to {classes - 1}, got {highest_label:g}.")
    return logits

"""Adversarial training with MONAI's own trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.distributed as dist
from ignite.engine import Events
from monai.utils import CommonKeys, look_up_option
from torch import Tensor

from vafa_monai.attacks import Curriculum
from vafa_monai.handlers.batch import AttackTarget, append_to_batch, attack_batch

__all__ = ["AdversarialTrainingHandler"]


class AdversarialTrainingHandler:
    """Turn every batch into ``[clean; adversarial]`` before MONAI's ``SupervisedTrainer`` sees it.

    The attack meets the current network in eval mode, through the trainer's inferer, and leaves it as it was
    (Hanif et al., MICCAI 2023, Algorithm 2, line 6). :class:`vafa_monai.losses.AdversarialConsistencyLoss` weighs the
    two halves. On a ``SupervisedEvaluator`` the same doubling makes a validation metric the mean over clean and
    attacked cases, which selects a model by both.

    Args:
        attack: attack of :mod:`vafa_monai.attacks`, the same for all batches, or a
            :class:`vafa_monai.attacks.Curriculum`, which knows the number of the batch.
        image_key: key of the images in the batch.
        target: what the attack leads away from: ``"label"``, or ``"prediction"``, the logits of the clean volumes,
            which the attack's loss is given as targets; :class:`vafa_monai.losses.KLDivergenceLoss` takes them.

    Raises:
        ValueError: if ``target`` is unknown.

    Example:
        >>> from vafa_monai.attacks import PGD
        >>> handler = AdversarialTrainingHandler(attack=PGD(steps=3))
    """

    def __init__(
        self,
        attack: Callable[..., Tensor] | Curriculum,
        image_key: str = CommonKeys.IMAGE,
        target: AttackTarget | str = AttackTarget.LABEL,
    ) -> None:
        self.attack = attack
        self.image_key = image_key
        self.target = look_up_option(target, AttackTarget)

    def attach(self, engine: Any) -> None:
        """Attach to a trainer or an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Double the batch."""
        found = attack_batch(engine, self._attack(engine), target=self.target)
        engine.state.batch = append_to_batch(engine.state.batch, self.image_key, found.adv)

    def _attack(self, engine: Any) -> Callable[..., Tensor]:
        """Return the attack of this batch."""
        if not isinstance(self.attack, Curriculum):
            return self.attack
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        return self.attack.at(engine.state.iteration - 1, rank)

"""Adversarial training with MONAI's own trainer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Events
from monai.utils import CommonKeys
from torch import Tensor

from vafa_monai.handlers.batch import append_to_batch, attack_batch

__all__ = ["AdversarialTrainingHandler"]


class AdversarialTrainingHandler:
    """Turn every batch into ``[clean; adversarial]`` before MONAI's ``SupervisedTrainer`` sees it.

    The attack meets the current network in eval mode, through the trainer's inferer, and leaves it as it was
    (Hanif et al., MICCAI 2023, Algorithm 2, line 6). :class:`vafa_monai.losses.AdversarialConsistencyLoss` weighs the
    two halves. On a ``SupervisedEvaluator`` the same doubling makes a validation metric the mean over clean and
    attacked cases, which selects a model by both.

    Args:
        attack: attack of :mod:`vafa_monai.attacks`.
        image_key: key of the images in the batch.

    Example:
        >>> from vafa_monai.attacks import PGD
        >>> handler = AdversarialTrainingHandler(attack=PGD(steps=3))
    """

    def __init__(self, attack: Callable[..., Tensor], image_key: str = CommonKeys.IMAGE) -> None:
        self.attack = attack
        self.image_key = image_key

    def attach(self, engine: Any) -> None:
        """Attach to a trainer or an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Double the batch."""
        found = attack_batch(engine, self.attack)
        engine.state.batch = append_to_batch(engine.state.batch, self.image_key, found.adv)

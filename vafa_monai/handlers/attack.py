"""Adversarial evaluation with MONAI's own evaluator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys
from torch import Tensor

from vafa_monai.handlers.batch import AdversarialKeys, attack_batch

__all__ = ["AttackHandler"]


class AttackHandler:
    """Replace the images of every batch by their attacked version before MONAI's ``SupervisedEvaluator`` sees them.

    The attack meets the evaluator's own pipeline, its inferer and network, in eval mode. The clean images stay in the
    batch and in the output under ``"clean_image"``, for image-quality metrics. What an attack tells of its samples, as
    :class:`vafa_monai.attacks.AttackEnsemble` does, is in ``engine.state.attack_details``, and the windows that it ran
    through the network in ``engine.state.attack_cost``. All else is stock.

    Before the first attack what is attacked is compared with what is evaluated, by their logits of the first volume: a
    wrapper, mode or inferer that only one of them goes through is refused.

    Args:
        attack: attack of :mod:`vafa_monai.attacks`; :class:`vafa_monai.attacks.Identity` is a clean evaluation.
        image_key: key of the images in the batch.
        windows_per_gradient: for a cheap run, how many windows of the sliding window each gradient is computed of, see
            :class:`vafa_monai.inferers.SlidingWindowNetwork`; ``None`` takes all, which is the exact gradient.
        compiled: attack the network through :func:`torch.compile`. It takes a minute or two before the first step, and
            gains where a long attack on a large network follows, see ``docs/benchmarks.md``; the volumes that come out
            differ in their last digits. The evaluation itself runs the network as it is.
    """

    def __init__(
        self,
        attack: Callable[..., Tensor],
        image_key: str = CommonKeys.IMAGE,
        windows_per_gradient: int | None = None,
        compiled: bool = False,
    ) -> None:
        self.attack = attack
        self.image_key = image_key
        self.windows_per_gradient = windows_per_gradient
        self.compiled = compiled

    def attach(self, engine: Any) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.keep_clean)

    def __call__(self, engine: Any) -> None:
        """Attack the batch."""
        found = attack_batch(engine, self.attack, self.windows_per_gradient, self.compiled)
        images = {self.image_key: found.adv, AdversarialKeys.CLEAN_IMAGE.value: found.clean}
        engine.state.batch = {**engine.state.batch, **images}
        engine.state.attack_details, engine.state.attack_cost = found.details, found.cost
        engine.state.windows_per_gradient, engine.state.compiled = self.windows_per_gradient, self.compiled

    @staticmethod
    def keep_clean(engine: Any) -> None:
        """Hand the clean images on to the metrics."""
        key = AdversarialKeys.CLEAN_IMAGE.value
        engine.state.output[key] = engine.state.batch[key]

"""Handlers that attack the batch: before an evaluation, and before a training step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.distributed as dist
from ignite.engine import Events
from monai.engines import IterationEvents
from monai.utils import CommonKeys, look_up_option
from torch import Tensor

from vafa_monai.attacks.cpu import keep_freed_memory
from vafa_monai.attacks.curriculum import Curriculum
from vafa_monai.attacks.validation import require_count
from vafa_monai.handlers.batch import (
    AdversarialKeys,
    AttackTarget,
    attack_batch,
    attack_record,
    joined_batch,
    part_of_batch,
)
from vafa_monai.inferers.two_pass import TwoPassInferer
from vafa_monai.losses.consistency import AdversarialConsistencyLoss

__all__ = ["AdversarialTrainingHandler", "AttackHandler"]


class AttackHandler:
    """Replace the images of every batch by their attacked version before MONAI's ``SupervisedEvaluator`` sees them.

    The attack meets the evaluator's own pipeline, its inferer and network, in eval mode. The clean images stay in the
    batch and in the output under ``"clean_image"``, for image-quality metrics. What an attack tells of its samples, as
    :class:`vafa_monai.attacks.AttackEnsemble` does, and the windows that it ran through the network are in
    ``engine.state.attack_record``. All else is stock.

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
        keep_freed_memory()
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.keep_clean)

    def __call__(self, engine: Any) -> None:
        """Attack the batch."""
        found = attack_batch(engine, self.attack, self.windows_per_gradient, self.compiled)
        images = {self.image_key: found.adv, AdversarialKeys.CLEAN_IMAGE.value: found.clean}
        engine.state.batch = {**engine.state.batch, **images}
        record = attack_record(engine)
        record.details, record.cost = found.details, found.cost
        record.windows_per_gradient, record.compiled = self.windows_per_gradient, self.compiled

    @staticmethod
    def keep_clean(engine: Any) -> None:
        """Hand the clean images on to the metrics."""
        key = AdversarialKeys.CLEAN_IMAGE.value
        engine.state.output[key] = engine.state.batch[key]


class AdversarialTrainingHandler:
    """Turn every batch into ``[clean; adversarial]`` before MONAI's ``SupervisedTrainer`` sees it.

    The attack meets the current network in eval mode, through the trainer's inferer, and leaves it as it was
    (Hanif et al., MICCAI 2023, Algorithm 2, line 6). :class:`vafa_monai.losses.AdversarialConsistencyLoss` weighs the
    two halves. On a ``SupervisedEvaluator`` the same doubling gives every case twice, clean and attacked.

    Fewer windows cost less. ``clean_windows`` and ``attacked_windows`` take the last and the first of a batch, so that
    a window is there twice only where their sum is larger than the batch; the loss and a
    :class:`vafa_monai.inferers.TwoPassInferer` of the trainer are told how many are clean.

    Args:
        attack: attack of :mod:`vafa_monai.attacks`, the same for all batches, or a
            :class:`vafa_monai.attacks.Curriculum`, which knows the number of the batch.
        image_key: key of the images in the batch.
        target: what the attack leads away from: ``"label"``, or ``"prediction"``, the logits of the clean volumes,
            which the attack's loss is given as targets; :class:`vafa_monai.losses.KLDivergenceLoss` takes them.
        clean_windows: how many windows of a batch stay in it as they are; ``None`` is all, 0 is adversarial-only.
        attacked_windows: how many windows of a batch are attacked; ``None`` is all.
        every: attack the first of every so many batches; the others stay as they are.

    Raises:
        ValueError: if ``target`` is unknown, a number is impossible, or, as soon as it runs, if the trainer has another
            loss and not every window is there twice.

    Example:
        >>> from vafa_monai.attacks import PGD
        >>> handler = AdversarialTrainingHandler(attack=PGD(steps=3))
    """

    def __init__(
        self,
        attack: Callable[..., Tensor] | Curriculum,
        image_key: str = CommonKeys.IMAGE,
        target: AttackTarget | str = AttackTarget.LABEL,
        clean_windows: int | None = None,
        attacked_windows: int | None = None,
        every: int = 1,
    ) -> None:
        self.attack = attack
        self.image_key = image_key
        self.target = look_up_option(target, AttackTarget)
        for name, value, least in (("clean_windows", clean_windows, 0), ("attacked_windows", attacked_windows, 1)):
            if value is not None and require_count(name, value) < least:
                raise ValueError(f"{name} must be at least {least}, got {value!r}.")
        if require_count("every", every) < 1:
            raise ValueError(f"every must be at least 1, got {every!r}.")
        self.clean_windows, self.attacked_windows, self.every = clean_windows, attacked_windows, every
        self._own: tuple[Any, Any] = (None, None)

    @property
    def doubles(self) -> bool:
        """Whether every window of every batch is there twice."""
        return self.clean_windows is None and self.attacked_windows is None and self.every == 1

    def attach(self, engine: Any) -> None:
        """Attach to a trainer or an evaluator."""
        engine.add_event_handler(Events.STARTED, self.begin)
        engine.add_event_handler(Events.ITERATION_STARTED, self)
        engine.add_event_handler(Events.COMPLETED, self.end)

    def begin(self, engine: Any) -> None:
        """Note loss and inferer, which are told what a batch is made of."""
        self._own = (getattr(engine, "loss_function", None), engine.inferer)
        if not self.doubles and not isinstance(self._own[0], AdversarialConsistencyLoss):
            found = type(self._own[0]).__name__
            rule = "be an AdversarialConsistencyLoss of a trainer where not every window is there twice"
            raise ValueError(f"loss_function must {rule}, got {found}.")

    def end(self, engine: Any) -> None:
        """Put them back."""
        if not self.doubles:
            engine.loss_function, engine.inferer = self._own

    def __call__(self, engine: Any) -> None:
        """Attack the batch."""
        if not self.doubles:
            engine.inferer = self._own[1]
        batch, number = engine.state.batch, engine.state.iteration - 1
        size = len(batch[self.image_key])
        if number % self.every:
            self._tell(engine, size, 0)
            return
        attacked = min(self.attacked_windows or size, size)
        clean = size if self.clean_windows is None else min(self.clean_windows, size)
        engine.state.batch = part_of_batch(batch, 0, attacked)
        found = attack_batch(engine, self._attack(number), target=self.target)
        kept = part_of_batch(batch, size - clean, size)
        engine.state.batch = joined_batch(kept, engine.state.batch, self.image_key, found.adv)
        if not self.doubles:
            self._tell(engine, clean, max(clean + attacked - size, 0))

    def _attack(self, number: int) -> Callable[..., Tensor]:
        """Return the attack of this batch."""
        if not isinstance(self.attack, Curriculum):
            return self.attack
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        return self.attack.at(number, rank)

    def _tell(self, engine: Any, clean: int, pairs: int) -> None:
        """Tell loss and inferer what the batch is made of."""
        loss, inferer = self._own
        engine.loss_function = partial(loss, clean=clean, pairs=pairs)
        if isinstance(inferer, TwoPassInferer):
            engine.inferer = TwoPassInferer(inferer.inferer, first=clean)

"""What a hardened model is selected by: DSC of clean and of attacked validation cases, in one number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ignite.engine import Events
from ignite.exceptions import NotComputableError
from ignite.metrics import Metric
from monai.handlers import MeanDice, from_engine
from monai.utils import CommonKeys

from vafa_monai.attacks.validation import require_at_least

__all__ = ["RobustScore"]

PREDICTION = from_engine((CommonKeys.PRED, CommonKeys.LABEL))
CLEAN, ATTACKED = "val_mean_dice", "val_mean_dice_adv"


class RobustScore(Metric):
    """Weigh the mean foreground DSC of the clean and of the attacked half of every batch.

    The score is ``clean_weight * clean + (1 - clean_weight) * attacked``; both are metrics of the engine by their own,
    ``val_mean_dice`` and ``val_mean_dice_adv``. The evaluator doubles its batches by
    :class:`vafa_monai.handlers.AdversarialTrainingHandler` and gives predictions and labels one-hot.

    Args:
        clean_weight: weight of the clean cases, in [0, 1].
        include_background: whether the first channel counts.

    Raises:
        ValueError: if ``clean_weight`` is no such number.
    """

    def __init__(self, clean_weight: float = 0.5, include_background: bool = False) -> None:
        if require_at_least("clean_weight", clean_weight, 0) > 1:
            raise ValueError(f"clean_weight must be at most 1, got {clean_weight!r}.")
        self.clean_weight = clean_weight
        self.parts = {
            CLEAN: MeanDice(include_background=include_background, output_transform=_half(0)),
            ATTACKED: MeanDice(include_background=include_background, output_transform=_half(1)),
        }
        super().__init__()

    def attach(self, engine: Any, name: str) -> None:  # type: ignore[override]
        """Attach both parts, and the score behind them."""
        for part, metric in self.parts.items():
            metric.attach(engine, part)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.completed, name)

    def completed(self, engine: Any, name: str) -> None:  # type: ignore[override]
        """Write the score, after both parts."""
        clean, attacked = (float(engine.state.metrics[part]) for part in self.parts)
        engine.state.metrics[name] = self.clean_weight * clean + (1 - self.clean_weight) * attacked

    def reset(self) -> None:
        """Hold nothing."""

    def update(self, output: Any) -> None:
        """Hold nothing."""

    def compute(self) -> float:
        """Refuse to be asked without an engine, whose metrics the parts are."""
        raise NotComputableError("RobustScore must be attached to an engine, which has its value.")


def _half(number: int) -> Callable[[Sequence[Any]], Any]:
    """Return what takes predictions and labels of the first or of the second half of an engine's output."""

    def take(output: Sequence[Any]) -> Any:
        if len(output) % 2:
            raise ValueError(f"batch must hold a clean and an attacked half of equal size, got {len(output)} samples.")
        middle = len(output) // 2
        return PREDICTION(output[middle:] if number else output[:middle])

    return take

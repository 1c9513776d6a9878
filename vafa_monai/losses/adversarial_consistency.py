"""The training loss of VAFT: clean, adversarial and consistency terms over one doubled batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.losses import DiceCELoss, GeneralizedDiceLoss
from torch import Tensor
from torch.nn.modules.loss import _Loss

from vafa_monai.losses.frequency_consistency import FrequencyConsistencyLoss
from vafa_monai.losses.voxel_loss import class_indices, refuse_void_softmax

__all__ = ["AdversarialConsistencyLoss", "dice_ce", "generalized_dice"]


def dice_ce() -> DiceCELoss:
    """Return the loss of the published experiments: soft Dice of one-hot labels plus cross entropy."""
    return DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)


def generalized_dice() -> GeneralizedDiceLoss:
    """Return the soft Dice whose classes weigh as the inverse square of their size (Sudre et al., DLMIA 2017).

    https://arxiv.org/abs/1707.03237. The paper of VAFA names it as its loss, the published code has :func:`dice_ce`.
    """
    return GeneralizedDiceLoss(to_onehot_y=True, softmax=True)


class AdversarialConsistencyLoss(_Loss):
    """Weigh the segmentation loss of both halves of a doubled batch and their consistency.

    ``clean_weight * L(clean) + adversarial_weight * L(adversarial) + consistency_weight * L_fr`` is Eq. 3 of the paper
    (Hanif et al., MICCAI 2023) with every weight 1. The weights are independent: the published model "without
    frequency consistency" is adversarial only, ``clean_weight=0, consistency_weight=0``.
    :class:`vafa_monai.handlers.AdversarialTrainingHandler` makes the batch.

    Args:
        loss_function: segmentation loss of ``(logits, labels)``; ``None`` is soft Dice plus cross entropy.
        consistency: loss of ``(adversarial logits, clean logits)``; ``None`` is :class:`FrequencyConsistencyLoss`.
        clean_weight: weight of the loss of the clean half, >= 0.
        adversarial_weight: weight of the loss of the adversarial half, >= 0.
        consistency_weight: weight of the consistency of both, >= 0.

    Raises:
        ValueError: if a weight is negative or not finite, if all are 0, if the batch of the prediction is not even, if
            labels are no class indices, or if ``loss_function`` takes the softmax of one channel.

    Example:
        >>> loss = AdversarialConsistencyLoss(clean_weight=0.0, adversarial_weight=0.0)
        >>> loss(torch.ones(2, 2, 4, 4, 4), torch.zeros(2, 1, 4, 4, 4)).item()  # equal halves are consistent
        0.0
    """

    def __init__(
        self,
        loss_function: Callable[[Tensor, Tensor], Tensor] | None = None,
        consistency: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        clean_weight: float = 1.0,
        adversarial_weight: float = 1.0,
        consistency_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = {"clean": clean_weight, "adversarial": adversarial_weight, "consistency": consistency_weight}
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:  # NaN fails
                rule = "at least 0" if weight < 0 else "finite"
                raise ValueError(f"{name}_weight must be {rule}, got {weight!r}.")
        if not any(weights.values()):
            raise ValueError("clean_weight, adversarial_weight or consistency_weight must be positive, got 0 for all.")
        self.loss_function = dice_ce() if loss_function is None else loss_function
        self.consistency = FrequencyConsistencyLoss() if consistency is None else consistency
        self.weights = weights

    def forward(
        self,
        input: Tensor | Sequence[Tensor],
        target: Tensor | Sequence[Tensor],
        clean: int | None = None,
        pairs: int | None = None,
    ) -> Tensor:
        """Return the weighted sum for predictions and labels of a batch ``[clean; adversarial]``.

        Args:
            input: logits of shape ``(N, C, H, W, D)``, or the list of them of deep supervision, finest first.
            target: labels of shape ``(N, 1, H, W, D)``, or a list of them like ``input``.
            clean: how many samples in front are clean; ``None`` is half of them. All of them are worth the segmentation
                loss alone, whatever the weights.
            pairs: how many volumes are there twice: the first of the clean and the last of the attacked samples;
                ``None`` is all of two equal parts.

        Returns:
            Loss of no dimension.
        """
        logits, labels = _finest(input), _finest(target)
        refuse_void_softmax(self.loss_function, logits.shape[1])
        if labels.shape[1] == 1:
            class_indices(labels, max(logits.shape[1], 2))
        clean = min(_half(len(logits)), _half(len(labels))) if clean is None else clean
        attacked = len(logits) - clean
        if not attacked:
            return self.loss_function(_part(input, 0, clean), _part(target, 0, clean))
        pairs = (clean if clean == attacked else 0) if pairs is None else pairs
        self._require_samples(clean, pairs)
        terms = {
            "clean": lambda: self.loss_function(_part(input, 0, clean), _part(target, 0, clean)),
            "adversarial": lambda: self.loss_function(_part(input, clean, None), _part(target, clean, None)),
            "consistency": lambda: self.consistency(logits[len(logits) - pairs :], logits[:pairs]),
        }
        return torch.stack([self.weights[name] * term() for name, term in terms.items() if self.weights[name]]).sum()

    def _require_samples(self, clean: int, pairs: int) -> None:
        """Refuse a term of no samples."""
        for name, count, words in (("clean", clean, "stays clean"), ("consistency", pairs, "is there twice")):
            if self.weights[name] and not count:
                raise ValueError(f"{name}_weight must be 0 where no volume {words}, got {self.weights[name]!r}.")


def _half(count: int) -> int:
    if count % 2:
        raise ValueError(f"batch must hold a clean and an adversarial half of equal size, got {count} samples.")
    return count // 2


def _part(batch: Tensor | Sequence[Tensor], first: int, last: int | None) -> Any:
    """Return samples of a batch, or of every tensor of a list of them."""
    return batch[first:last] if isinstance(batch, Tensor) else [one[first:last] for one in batch]


def _finest(parts: Tensor | Sequence[Tensor]) -> Tensor:
    """Return the logits or labels of full resolution."""
    return parts if isinstance(parts, Tensor) else parts[0]

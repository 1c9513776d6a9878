"""Losses of hardening: frequency consistency (Eq. 4), and the sum of clean, adversarial and consistency (Eq. 3)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss, DiceLoss, GeneralizedDiceLoss
from monai.utils import StrEnum, look_up_option
from torch import Tensor
from torch.nn.modules.loss import _Loss

from vafa_monai.frequency.block_dct import block_dct, pad_to_blocks
from vafa_monai.losses.output import Output, class_indices, refuse_unfit_loss, require_channels, yes_or_no

__all__ = [
    "AdversarialConsistencyLoss",
    "DiceBCELoss",
    "FrequencyConsistencyLoss",
    "dice_ce",
    "frequency_consistency",
    "generalized_dice",
]


class Normalization(StrEnum):
    """What the sum of absolute differences is divided by."""

    RELATIVE = "relative"
    AUTHORS = "authors"
    MEAN = "mean"
    SUM = "sum"


def frequency_consistency(
    input: Tensor,
    target: Tensor,
    normalization: Normalization | str = Normalization.RELATIVE,
    block_size: Sequence[int] | None = None,
    softmax: bool = False,
) -> Tensor:
    """Measure the L1 distance of two volumes of logits after a 3D DCT (Hanif et al., MICCAI 2023, Eq. 4).

    As printed the loss is a sum over every class and voxel, many orders larger than a Dice loss (``"sum"``). The
    authors' code divides it by the L1 norm of the clean spectrum (``"authors"``), which a network can lower by
    inflating its clean logits; ``"relative"`` is the same value with that divisor detached.

    Args:
        input: logits of the adversarial half, of shape ``(B, C, H, W, D)``.
        target: logits of the clean half, of the same shape.
        normalization: ``"relative"``, ``"authors"``, ``"mean"`` (over all coefficients) or ``"sum"``.
        block_size: block edges of the DCT in voxels; ``None`` transforms the whole volume at once, as the authors do.
        softmax: compare probabilities, whose size a network cannot change, instead of logits.

    Returns:
        Loss of no dimension, in float32 or better. Two spectra of zeros have distance 0.

    Raises:
        ValueError: if the shapes differ, the normalization is unknown, or there are probabilities of one channel only.

    Example:
        >>> ones = torch.ones(1, 1, 4, 4, 4)  # its only coefficient is 8, the DC term
        >>> [round(frequency_consistency(1.5 * ones, ones, name).item(), 4) for name in ("sum", "mean", "relative")]
        [4.0, 0.0625, 0.5]
    """
    normalization = look_up_option(normalization, Normalization)
    if input.shape != target.shape:
        raise ValueError(f"target must have the shape of input {tuple(input.shape)}, got {tuple(target.shape)}.")
    if softmax:
        require_channels(input.shape[1])
    edges = tuple(block_size or input.shape[2:])
    dtype = torch.promote_types(input.dtype, torch.float32)
    volumes = [logits.to(dtype).softmax(1) if softmax else logits.to(dtype) for logits in (input, target)]
    spectra = [block_dct(pad_to_blocks(volume, edges), edges) for volume in volumes]
    difference = (spectra[0] - spectra[1]).abs()
    if normalization == Normalization.SUM:
        return difference.sum()
    if normalization == Normalization.MEAN:
        return difference.mean()
    scale = spectra[1].abs().sum().clamp_min(torch.finfo(dtype).tiny)
    return difference.sum() / (scale.detach() if normalization == Normalization.RELATIVE else scale)


class FrequencyConsistencyLoss(_Loss):
    """Keep clean and adversarial logits close in frequency. Face of :func:`frequency_consistency`.

    Args:
        normalization: ``"relative"``, ``"authors"``, ``"mean"`` or ``"sum"`` (Eq. 4 as printed).
        block_size: block edges of the DCT in voxels; ``None`` transforms the whole volume at once.
        softmax: compare probabilities instead of logits.

    Example:
        >>> FrequencyConsistencyLoss()(torch.ones(1, 2, 4, 4, 4), torch.ones(1, 2, 4, 4, 4)).item()
        0.0
    """

    def __init__(
        self,
        normalization: Normalization | str = Normalization.RELATIVE,
        block_size: Sequence[int] | None = None,
        softmax: bool = False,
    ) -> None:
        super().__init__()
        self.normalization = look_up_option(normalization, Normalization)
        self.block_size = None if block_size is None else tuple(block_size)
        self.softmax = softmax

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the distance of adversarial logits ``input`` from clean logits ``target``."""
        return frequency_consistency(input, target, self.normalization, self.block_size, self.softmax)


class DiceBCELoss(_Loss):
    """Soft Dice plus binary cross entropy of every channel by itself: what :func:`dice_ce` is for sigmoids.

    MONAI's ``DiceCELoss(sigmoid=True)`` is the same for one channel; of several it takes the softmax in its second
    term. Labels may have any dtype.

    Args:
        reduction: ``"mean"`` or ``"sum"`` over samples and channels.

    Raises:
        ValueError: if ``reduction`` is unknown; at labels that have not the shape of the logits, or hold anything else
            than 0 and 1.

    Example:
        >>> logits = torch.tensor([99.0, -99.0]).view(1, 2, 1, 1, 1)  # yes, no
        >>> [round(DiceBCELoss()(logits, torch.full((1, 2, 1, 1, 1), label)).item(), 3) for label in (1, 0)]
        [50.0, 50.5]
    """

    output = Output("sigmoid")

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__(reduction=look_up_option(reduction, ("mean", "sum")))
        self.dice = DiceLoss(sigmoid=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6, reduction=reduction)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits ``(B, channels, H, W, D)`` for labels of 0 and 1 of the same shape."""
        truth = self.output.indices(input, target).to(input.dtype)
        entropy = F.binary_cross_entropy_with_logits(input, truth, reduction=self.reduction)
        return self.dice(input, truth) + entropy


def dice_ce(output: Output | str = "softmax") -> DiceCELoss | DiceBCELoss:
    """Return soft Dice plus cross entropy: with one-hot labels the loss of the published experiments.

    Args:
        output: what the channels mean: cross entropy of the classes of a softmax, binary one of each sigmoid.
    """
    if Output.of(output).is_sigmoid:
        return DiceBCELoss()
    return DiceCELoss(to_onehot_y=True, softmax=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)


def generalized_dice(output: Output | str = "softmax") -> GeneralizedDiceLoss:
    """Return the soft Dice whose classes weigh as the inverse square of their size (Sudre et al., DLMIA 2017).

    https://arxiv.org/abs/1707.03237. The paper of VAFA names it as its loss, the published code has :func:`dice_ce`.

    Args:
        output: what the channels mean; those of a sigmoid are weighed as classes are.
    """
    sigmoid = Output.of(output).is_sigmoid
    return GeneralizedDiceLoss(to_onehot_y=not sigmoid, softmax=not sigmoid, sigmoid=sigmoid)


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
        output: what the channels mean, see :class:`Output`.

    Raises:
        ValueError: if a weight is negative or not finite, if all are 0, if the batch of the prediction is not even, if
            labels are none of the output, or if ``loss_function`` is not for it, or takes the softmax of one channel.

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
        output: Output | str = "softmax",
    ) -> None:
        super().__init__()
        weights = {"clean": clean_weight, "adversarial": adversarial_weight, "consistency": consistency_weight}
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:  # NaN fails
                rule = "at least 0" if weight < 0 else "finite"
                raise ValueError(f"{name}_weight must be {rule}, got {weight!r}.")
        if not any(weights.values()):
            raise ValueError("clean_weight, adversarial_weight or consistency_weight must be positive, got 0 for all.")
        self.output = Output.of(output)
        if self.output.ignore is not None:
            raise ValueError(f"output must count every voxel in a training, got ignore={self.output.ignore!r}.")
        self.loss_function = dice_ce(self.output) if loss_function is None else loss_function
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
        refuse_unfit_loss(self.loss_function, logits.shape[1], self.output)
        if self.output.is_sigmoid:
            yes_or_no(labels)  # no loss of channels takes integers
            target = target.to(logits.dtype) if isinstance(target, Tensor) else [one.to(logits.dtype) for one in target]
        elif labels.shape[1] == 1:
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

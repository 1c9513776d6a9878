"""Distance of two volumes of logits in the frequency domain."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.utils import StrEnum, look_up_option
from torch import Tensor
from torch.nn.modules.loss import _Loss

from vafa_monai.frequency import block_dct, pad_to_blocks
from vafa_monai.losses.voxel_loss import require_channels

__all__ = ["FrequencyConsistencyLoss", "Normalization", "frequency_consistency"]


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

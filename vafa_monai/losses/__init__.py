"""Losses of robust training and of attacks: objectives to be raised, and the attacks' image-quality term."""

from vafa_monai.losses.block_ssim import BlockSSIMLoss, block_ssim, block_statistics, ssim_to_blocks
from vafa_monai.losses.consistency import (
    AdversarialConsistencyLoss,
    DiceBCELoss,
    FrequencyConsistencyLoss,
    dice_ce,
    frequency_consistency,
    generalized_dice,
)
from vafa_monai.losses.kl_divergence import KLDivergenceLoss, kl_divergence
from vafa_monai.losses.output import Output, OutputKind
from vafa_monai.losses.voxel_loss import (
    JensenShannonLoss,
    MarginLoss,
    MaskedCrossEntropyLoss,
    jensen_shannon,
    margin,
    masked_cross_entropy,
)
from vafa_monai.losses.weighted_cross_entropy import CosPGDLoss, SegPGDLoss, cospgd_weight, segpgd_weight

__all__ = [
    "AdversarialConsistencyLoss",
    "BlockSSIMLoss",
    "CosPGDLoss",
    "DiceBCELoss",
    "FrequencyConsistencyLoss",
    "JensenShannonLoss",
    "KLDivergenceLoss",
    "MarginLoss",
    "MaskedCrossEntropyLoss",
    "Output",
    "OutputKind",
    "SegPGDLoss",
    "block_ssim",
    "block_statistics",
    "cospgd_weight",
    "dice_ce",
    "frequency_consistency",
    "generalized_dice",
    "jensen_shannon",
    "kl_divergence",
    "margin",
    "masked_cross_entropy",
    "segpgd_weight",
    "ssim_to_blocks",
]

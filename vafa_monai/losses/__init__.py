"""Losses of robust training and of the attacks' image-quality term."""

from vafa_monai.losses.adversarial_consistency import AdversarialConsistencyLoss, dice_ce
from vafa_monai.losses.block_ssim import BlockSSIMLoss, block_ssim, block_statistics, ssim_to_blocks
from vafa_monai.losses.frequency_consistency import FrequencyConsistencyLoss, frequency_consistency

__all__ = [
    "AdversarialConsistencyLoss",
    "BlockSSIMLoss",
    "FrequencyConsistencyLoss",
    "block_ssim",
    "block_statistics",
    "dice_ce",
    "frequency_consistency",
    "ssim_to_blocks",
]

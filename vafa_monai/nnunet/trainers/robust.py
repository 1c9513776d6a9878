"""What nnU-Net finds when ``nnUNet_extTrainer`` is this folder."""

from __future__ import annotations

from vafa_monai.nnunet.trainer import nnUNetTrainerPGD, nnUNetTrainerVAFT

__all__ = ["nnUNetTrainerPGD", "nnUNetTrainerVAFT"]

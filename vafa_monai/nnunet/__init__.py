"""nnU-Net v2: its models attacked and audited like any other network, and trainers that harden them."""

from pathlib import Path

from vafa_monai.nnunet.audit import NNUNetAudit
from vafa_monai.nnunet.model import NNUNetModel

__all__ = ["TRAINERS", "NNUNetAudit", "NNUNetModel"]

TRAINERS = Path(__file__).parent / "trainers"  # for nnUNet_extTrainer

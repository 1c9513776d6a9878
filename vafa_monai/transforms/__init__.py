"""Transforms of volumes and of dictionaries of volumes."""

from vafa_monai.transforms.adversarial import AdversarialPerturbation
from vafa_monai.transforms.dictionary import (
    AdversarialPerturbationd,
    BlockDCTd,
    FrequencyPerturbationd,
    RandFrequencyPerturbationd,
)
from vafa_monai.transforms.frequency import BlockDCT, FrequencyPerturbation, RandFrequencyPerturbation

__all__ = [
    "AdversarialPerturbation",
    "AdversarialPerturbationd",
    "BlockDCT",
    "BlockDCTd",
    "FrequencyPerturbation",
    "FrequencyPerturbationd",
    "RandFrequencyPerturbation",
    "RandFrequencyPerturbationd",
]

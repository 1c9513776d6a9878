"""Data of the demo, checks of cases and checkpoints, and files that appear whole."""

from vafa_monai.data.check import check_cases, check_checkpoint
from vafa_monai.data.files import sha256, whole_file, write_json, write_volume, write_whole
from vafa_monai.data.mni152 import prepare_mni152

__all__ = [
    "check_cases",
    "check_checkpoint",
    "prepare_mni152",
    "sha256",
    "whole_file",
    "write_json",
    "write_volume",
    "write_whole",
]

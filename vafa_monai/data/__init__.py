"""Data of the demo, Synapse, ACDC and the Decathlon, synthetic twins, checks of cases and checkpoints, whole files."""

from vafa_monai.data.acdc import prepare_acdc
from vafa_monai.data.case import NamedCase
from vafa_monai.data.check import check_cases, first_cases, written_cases
from vafa_monai.data.checkpoint import read_checkpoint
from vafa_monai.data.decathlon import prepare_decathlon
from vafa_monai.data.files import read_json, sha256, whole_file, write_json, write_volume, write_whole
from vafa_monai.data.mni152 import prepare_mni152
from vafa_monai.data.phantom import write_phantom
from vafa_monai.data.split import read_datalist
from vafa_monai.data.synapse import prepare_synapse
from vafa_monai.data.weights import check_checkpoint, extract_weights, read_weights

__all__ = [
    "NamedCase",
    "check_cases",
    "check_checkpoint",
    "extract_weights",
    "first_cases",
    "prepare_acdc",
    "prepare_decathlon",
    "prepare_mni152",
    "prepare_synapse",
    "read_checkpoint",
    "read_datalist",
    "read_json",
    "read_weights",
    "sha256",
    "whole_file",
    "write_json",
    "write_phantom",
    "write_volume",
    "write_whole",
    "written_cases",
]

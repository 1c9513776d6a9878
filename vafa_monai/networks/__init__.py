"""Segmentation networks of the published experiments that MONAI does not have, and the import of published weights."""

from vafa_monai.networks.network_file import load_network
from vafa_monai.networks.unetr_weights import convert_unetr_weights
from vafa_monai.networks.unetrpp import UNETRPP, load_official_unetrpp

__all__ = ["UNETRPP", "convert_unetr_weights", "load_network", "load_official_unetrpp"]

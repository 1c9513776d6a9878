"""Bundles that are given away or come from others, and weights of other programs."""

from vafa_monai.sharing.convert import Conversion, build_bundle_network, convert_checkpoint
from vafa_monai.sharing.fetch import fetch_bundle
from vafa_monai.sharing.package import Package

__all__ = ["Conversion", "Package", "build_bundle_network", "convert_checkpoint", "fetch_bundle"]

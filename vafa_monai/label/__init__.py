"""MONAI Label: which unlabeled volume would a small change mislead most?"""

from vafa_monai.label.app import install_app
from vafa_monai.label.fragility import Fragility, prediction_change

__all__ = ["Fragility", "install_app", "prediction_change"]

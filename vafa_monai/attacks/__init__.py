"""Adversarial attacks on 3D segmentation networks, and their controls: immutable configurations of one loop."""

from vafa_monai.attacks.ascent import Ascent, Iterate, ascend
from vafa_monai.attacks.attack import Attack, GradientAttack
from vafa_monai.attacks.bim import BIM
from vafa_monai.attacks.fgsm import FGSM
from vafa_monai.attacks.gaussian_noise import GaussianNoise
from vafa_monai.attacks.grey_level import OutputNorm
from vafa_monai.attacks.identity import Identity
from vafa_monai.attacks.pgd import PGD
from vafa_monai.attacks.quantization_table import Rounding
from vafa_monai.attacks.setting import describe
from vafa_monai.attacks.tiled import TiledAttack
from vafa_monai.attacks.uniform_quantization import UniformQuantization
from vafa_monai.attacks.vafa import VAFA

__all__ = [
    "BIM",
    "FGSM",
    "PGD",
    "VAFA",
    "Ascent",
    "Attack",
    "GaussianNoise",
    "GradientAttack",
    "Identity",
    "Iterate",
    "OutputNorm",
    "Rounding",
    "TiledAttack",
    "UniformQuantization",
    "ascend",
    "describe",
]

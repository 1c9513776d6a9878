"""Adversarial attacks on 3D segmentation networks, and their controls: immutable configurations of one loop."""

from vafa_monai.attacks.apgd import APGD
from vafa_monai.attacks.ascent import Ascent, Iterate, ascend, climb
from vafa_monai.attacks.attack import Attack, GradientAttack, LossAttack
from vafa_monai.attacks.controls import GaussianNoise, Identity, RandomQuantization, UniformQuantization
from vafa_monai.attacks.curriculum import Curriculum
from vafa_monai.attacks.describe import describe
from vafa_monai.attacks.ensemble import AttackEnsemble, EnsembleAscent
from vafa_monai.attacks.frequency_pgd import FrequencyPGD
from vafa_monai.attacks.goal_attack import GoalAscent, GoalAttack, GoalSource
from vafa_monai.attacks.intensity import OutputNorm
from vafa_monai.attacks.n_fgsm import NFGSM
from vafa_monai.attacks.norm import Norm, VoxelBall
from vafa_monai.attacks.organ_goal import EraseOrgan, GrowOrgan, MoveOrgan, OrganGoal, ShrinkOrgan, SwapOrgans
from vafa_monai.attacks.pgd import BIM, FGSM, PGD, CosPGD, SegPGD
from vafa_monai.attacks.quantization_table import Rounding
from vafa_monai.attacks.range_adapter import RangeAdapter
from vafa_monai.attacks.square_attack import SquareAttack
from vafa_monai.attacks.tiled import TiledAttack
from vafa_monai.attacks.transfer_pgd import TransferPGD
from vafa_monai.attacks.vafa import VAFA
from vafa_monai.attacks.validation import strength

__all__ = [
    "APGD",
    "BIM",
    "FGSM",
    "NFGSM",
    "PGD",
    "VAFA",
    "Ascent",
    "Attack",
    "AttackEnsemble",
    "CosPGD",
    "Curriculum",
    "EnsembleAscent",
    "EraseOrgan",
    "FrequencyPGD",
    "GaussianNoise",
    "GoalAscent",
    "GoalAttack",
    "GoalSource",
    "GradientAttack",
    "GrowOrgan",
    "Identity",
    "Iterate",
    "LossAttack",
    "MoveOrgan",
    "Norm",
    "OrganGoal",
    "OutputNorm",
    "RandomQuantization",
    "RangeAdapter",
    "Rounding",
    "SegPGD",
    "ShrinkOrgan",
    "SquareAttack",
    "SwapOrgans",
    "TiledAttack",
    "TransferPGD",
    "UniformQuantization",
    "VoxelBall",
    "ascend",
    "climb",
    "describe",
    "strength",
]

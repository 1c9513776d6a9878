"""Handlers that attack, harden and report with MONAI's own engines."""

from vafa_monai.handlers.adversarial_saver import AdversarialSaver
from vafa_monai.handlers.attack import AdversarialTrainingHandler, AttackHandler
from vafa_monai.handlers.batch import AdversarialKeys
from vafa_monai.handlers.metric import HausdorffDistance95, NormalizedSurfaceDice, OrganPresence, PerceptualSimilarity
from vafa_monai.handlers.resumable_training import ResumableTraining
from vafa_monai.handlers.robust_score import RobustScore
from vafa_monai.handlers.robustness_report import RobustnessReport
from vafa_monai.handlers.weight_average import WeightAverage, averaged_network
from vafa_monai.handlers.weight_perturbation import WeightPerturbation

__all__ = [
    "AdversarialKeys",
    "AdversarialSaver",
    "AdversarialTrainingHandler",
    "AttackHandler",
    "HausdorffDistance95",
    "NormalizedSurfaceDice",
    "OrganPresence",
    "PerceptualSimilarity",
    "ResumableTraining",
    "RobustScore",
    "RobustnessReport",
    "WeightAverage",
    "WeightPerturbation",
    "averaged_network",
]

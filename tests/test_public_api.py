"""The public names, and that faces take the arguments of their functions."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable

import pytest

from vafa_monai import losses

NAMES = {
    "vafa_monai.attacks": """
        APGD Ascent Attack AttackEnsemble BIM CosPGD Curriculum EnsembleAscent EraseOrgan FGSM FrequencyPGD
        GaussianNoise GoalAscent GoalAttack GoalSource GradientAttack GrowOrgan Identity Iterate LossAttack MoveOrgan
        NFGSM Norm OrganGoal OutputNorm PGD RandomQuantization RangeAdapter Rounding SegPGD ShrinkOrgan SquareAttack
        SwapOrgans TiledAttack TransferPGD UniformQuantization VAFA VoxelBall ascend climb describe strength
    """,
    "vafa_monai.frequency": """
        block_dct block_idct block_matrices contract merge_blocks pad_to_blocks quantize round_through smooth_round
        split_blocks
    """,
    "vafa_monai.losses": """
        AdversarialConsistencyLoss BlockSSIMLoss CosPGDLoss DiceBCELoss FrequencyConsistencyLoss JensenShannonLoss
        KLDivergenceLoss MarginLoss MaskedCrossEntropyLoss Output OutputKind SegPGDLoss block_ssim block_statistics
        cospgd_weight dice_ce frequency_consistency generalized_dice jensen_shannon kl_divergence margin
        masked_cross_entropy segpgd_weight ssim_to_blocks
    """,
    "vafa_monai.inferers": """
        InferredNetwork NNUNetInferer OutputAdapter PassCounter SlidingWindowNetwork TwoPassInferer checkpointed
        evaluating whole_network
    """,
    "vafa_monai.transforms": """
        AdversarialPerturbation AdversarialPerturbationd BlockDCT BlockDCTd FrequencyPerturbation FrequencyPerturbationd
        RandFrequencyPerturbation RandFrequencyPerturbationd
    """,
    "vafa_monai.data": """
        check_cases check_checkpoint extract_weights prepare_acdc prepare_decathlon prepare_mni152 prepare_synapse
        first_cases read_checkpoint read_datalist read_json read_weights sha256 whole_file write_json write_phantom
        write_volume write_whole written_cases
    """,
    "vafa_monai.metrics": """
        HausdorffDistance95Metric LostOrgan NormalizedSurfaceDiceMetric OrganPresenceMetric PerceptualSimilarityMetric
        QUALITY_NAMES build_lpips compute_hausdorff_distance_95 compute_image_quality compute_normalized_surface_dice
        compute_organ_presence compute_organ_volumes load_lpips lpips_by_slices
    """,
    "vafa_monai.audit": """
        AttackOutcome AuditCase AuditRun AuditSettings AuditedModel CHECKS Check CheckResult Measured Status mean_dice
        run_audit
    """,
    "vafa_monai.handlers": """
        AdversarialKeys AdversarialSaver AdversarialTrainingHandler AttackHandler HausdorffDistance95
        NormalizedSurfaceDice OrganPresence PerceptualSimilarity ResumableTraining
        RobustScore RobustnessReport WeightAverage WeightPerturbation averaged_network
    """,
    "vafa_monai.networks": "UNETRPP convert_unetr_weights load_official_unetrpp",
    "vafa_monai.reports": "attack_figure build_report dice_chart",
    "vafa_monai.results": "Result load_results",
    "vafa_monai.runs": """
        AuditProgress Benchmark BundleAudit BundleModel BundleRun Demo DemoSettings Study WorkOutcome
        copy_bundle shipped_bundle
    """,
    "vafa_monai.paper": "PaperTable Reproduction ReproductionSettings write_paper_table",
    "vafa_monai.sharing": "Conversion Package build_bundle_network convert_checkpoint fetch_bundle",
    "vafa_monai.label": "Fragility install_app prediction_change",
    "vafa_monai.nnunet": "NNUNetAudit NNUNetModel TRAINERS",
}

FACES = [  # a face, its function, the arguments that the call brings, the arguments that only the face has
    (losses.FrequencyConsistencyLoss, losses.frequency_consistency, {"input", "target"}, set()),
    (losses.BlockSSIMLoss, losses.block_ssim, {"input", "target"}, {"reduction"}),
    (losses.MaskedCrossEntropyLoss, losses.masked_cross_entropy, {"input", "target"}, {"reduction"}),
    (losses.JensenShannonLoss, losses.jensen_shannon, {"input", "target"}, {"reduction"}),
    (losses.KLDivergenceLoss, losses.kl_divergence, {"input", "target"}, {"reduction"}),
    (losses.MarginLoss, losses.margin, {"input", "target"}, {"reduction"}),
    (losses.SegPGDLoss, losses.segpgd_weight, {"input", "target"}, {"reduction"}),
    (losses.CosPGDLoss, losses.cospgd_weight, {"input", "target"}, {"reduction"}),
]


@pytest.mark.parametrize("module", NAMES)
def test_public_names_are_the_listed_ones_in_order(module):
    names = importlib.import_module(module).__all__
    assert set(names) == set(NAMES[module].split())
    assert names == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))


def test_public_names_are_explained():
    names = [(module, name) for module in NAMES for name in NAMES[module].split()]
    assert [one for one in names if not inspect.getdoc(getattr(importlib.import_module(one[0]), one[1]))] == []


def settings_of(function: Callable, without: set[str]) -> dict[str, object]:
    """Map argument names to defaults."""
    return {p.name: p.default for p in inspect.signature(function).parameters.values() if p.name not in without}


@pytest.mark.parametrize(("face", "function", "called", "own"), FACES, ids=[face.__name__ for face, *_ in FACES])
def test_face_has_the_arguments_and_defaults_of_its_function(face, function, called, own):
    assert settings_of(face, own) == settings_of(function, called)
    assert set(inspect.signature(face.forward).parameters) == {"self", *called}

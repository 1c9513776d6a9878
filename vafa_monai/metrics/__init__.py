"""Metrics of an attacked segmentation and of the attacked image."""

from vafa_monai.metrics.image_quality import (
    QUALITY_NAMES,
    PerceptualSimilarityMetric,
    build_lpips,
    compute_image_quality,
    load_lpips,
    lpips_by_slices,
)
from vafa_monai.metrics.organ_presence import OrganPresenceMetric, compute_organ_presence, compute_organ_volumes
from vafa_monai.metrics.surface import (
    HausdorffDistance95Metric,
    LostOrgan,
    NormalizedSurfaceDiceMetric,
    compute_hausdorff_distance_95,
    compute_normalized_surface_dice,
)

__all__ = [
    "QUALITY_NAMES",
    "HausdorffDistance95Metric",
    "LostOrgan",
    "NormalizedSurfaceDiceMetric",
    "OrganPresenceMetric",
    "PerceptualSimilarityMetric",
    "build_lpips",
    "compute_hausdorff_distance_95",
    "compute_image_quality",
    "compute_normalized_surface_dice",
    "compute_organ_presence",
    "compute_organ_volumes",
    "load_lpips",
    "lpips_by_slices",
]

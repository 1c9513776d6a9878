"""Metric handlers: thin faces of the metrics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.handlers import IgniteMetricHandler, from_engine
from monai.utils import CommonKeys, MetricReduction
from torch import Tensor

from vafa_monai.handlers.batch import AdversarialKeys
from vafa_monai.losses.output import Output
from vafa_monai.metrics.image_quality import QUALITY_NAMES, PerceptualSimilarityMetric
from vafa_monai.metrics.organ_presence import OrganPresenceMetric, require_one_hot
from vafa_monai.metrics.surface import HausdorffDistance95Metric, LostOrgan, NormalizedSurfaceDiceMetric

__all__ = ["HausdorffDistance95", "NormalizedSurfaceDice", "OrganPresence", "PerceptualSimilarity"]

logger = logging.getLogger(__name__)
PREDICTION = from_engine((CommonKeys.PRED, CommonKeys.LABEL))
IMAGES = from_engine((CommonKeys.IMAGE, AdversarialKeys.CLEAN_IMAGE))


class _OneHotHandler(IgniteMetricHandler):
    """Refuse masks that are not one-hot under a softmax, before the metric leaves the background out."""

    def __init__(self, metric: Any, output_transform: Callable) -> None:
        super().__init__(metric, output_transform=output_transform)
        self.output = metric.output

    def update(self, output: Sequence[Tensor]) -> None:
        """Take predictions and labels of an iteration, stacked or in a list."""
        for y_pred, y in zip(*output[:2], strict=True):
            require_one_hot(torch.as_tensor(y_pred)[None], torch.as_tensor(y)[None], self.output)
        super().update(output)


class HausdorffDistance95(_OneHotHandler):
    """Face of :class:`vafa_monai.metrics.HausdorffDistance95Metric`: mm, and a lost organ costs the image diagonal.

    Args:
        spacing: voxel size in mm; ``None`` takes it from the metadata of each label.
        lost_organ: ``"diagonal"`` or ``"ignore"``.
        reduction: MONAI's reduction of cases and classes.
        output_transform: gets ``(y_pred, y)`` from the engine's output; the default takes ``pred`` and ``label``.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.
    """

    def __init__(
        self,
        spacing: Sequence[float] | None = None,
        lost_organ: LostOrgan | str = LostOrgan.DIAGONAL,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable = PREDICTION,
        output: Output | str = "softmax",
    ) -> None:
        metric = HausdorffDistance95Metric(spacing, lost_organ, reduction, output)
        super().__init__(metric, output_transform=output_transform)


class NormalizedSurfaceDice(_OneHotHandler):
    """Face of :class:`vafa_monai.metrics.NormalizedSurfaceDiceMetric`.

    Args:
        spacing: voxel size in mm; ``None`` takes it from the metadata of each label.
        tolerance: accepted distance in mm.
        reduction: MONAI's reduction of cases and classes.
        output_transform: gets ``(y_pred, y)`` from the engine's output; the default takes ``pred`` and ``label``.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.
    """

    def __init__(
        self,
        spacing: Sequence[float] | None = None,
        tolerance: float = 1.0,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output_transform: Callable = PREDICTION,
        output: Output | str = "softmax",
    ) -> None:
        metric = NormalizedSurfaceDiceMetric(spacing, tolerance, reduction, output)
        super().__init__(metric, output_transform=output_transform)


class OrganPresence(_OneHotHandler):
    """Face of :class:`vafa_monai.metrics.OrganPresenceMetric`: a dictionary of lost and invented organs.

    Args:
        output_transform: gets ``(y_pred, y)`` from the engine's output; the default takes ``pred`` and ``label``.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.
    """

    def __init__(self, output_transform: Callable = PREDICTION, output: Output | str = "softmax") -> None:
        super().__init__(OrganPresenceMetric(output), output_transform=output_transform)

    def compute(self) -> dict[str, float]:
        """Return the totals; they also become metrics of the engine."""
        lost, invented = super().compute().tolist()
        return {"lost_organs": lost, "invented_organs": invented}


class PerceptualSimilarity(IgniteMetricHandler):
    """Face of :class:`vafa_monai.metrics.PerceptualSimilarityMetric`: a dictionary of LPIPS, SSIM, PSNR, rms, L-inf.

    Needs :class:`vafa_monai.handlers.AttackHandler` on the same evaluator, which keeps the clean images. LPIPS is NaN
    where its weights are absent or slices are too small; ``note`` then says so.

    Args:
        value_range: lowest and highest intensity; ``None`` is the range of each clean sample.
        lpips_weights: path of torchvision's AlexNet weights.
        output_transform: gets ``(adv, clean)`` from the engine's output; the default takes ``image`` and
            ``clean_image``.
    """

    def __init__(
        self,
        value_range: Sequence[float] | None = (0.0, 1.0),
        lpips_weights: str | None = None,
        output_transform: Callable = IMAGES,
    ) -> None:
        self.metric = PerceptualSimilarityMetric(value_range, lpips_weights)
        super().__init__(self.metric, output_transform=output_transform)
        if self.note is not None:
            logger.warning(self.note)

    @property
    def note(self) -> str | None:
        """Why LPIPS is absent, or nothing."""
        return self.metric.note

    def compute(self) -> dict[str, Any]:
        """Return the means; they also become metrics of the engine."""
        means = dict(zip(QUALITY_NAMES, super().compute().tolist(), strict=True))
        return means | {"lpips_similarity": 100 * (1 - means["lpips"])}

"""Surface metrics in mm that an attack cannot improve by deleting an organ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.metrics import (
    CumulativeIterationMetric,
    compute_hausdorff_distance,
    compute_surface_dice,
    do_metric_reduction,
)
from monai.utils import MetricReduction, StrEnum, look_up_option
from torch import Tensor

from vafa_monai.attacks.validation import require_at_least
from vafa_monai.losses.output import Output
from vafa_monai.metrics.organ_presence import organ_channels, require_masks, require_spacing

__all__ = [
    "HausdorffDistance95Metric",
    "LostOrgan",
    "NormalizedSurfaceDiceMetric",
    "compute_hausdorff_distance_95",
    "compute_normalized_surface_dice",
]


class LostOrgan(StrEnum):
    """What the distance of an organ is that only the truth or only the prediction has."""

    DIAGONAL = "diagonal"
    IGNORE = "ignore"


def compute_hausdorff_distance_95(
    y_pred: Tensor,
    y: Tensor,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    lost_organ: LostOrgan | str = LostOrgan.DIAGONAL,
    output: Output | str = "softmax",
) -> Tensor:
    """Compute the 95th percentile of the symmetric surface distance of every class but the background, in mm.

    MONAI gives NaN for an organ that the prediction lost, and NaN drops out of means, so that losing organs improves
    the figure. Here a lost or an invented organ costs the diagonal of the image.

    Args:
        y_pred: masks of the prediction, shape ``(B, C, H, W, D)``: one-hot, or the regions of sigmoids.
        y: masks of the truth, of the same shape.
        spacing: voxel size in mm along each axis.
        lost_organ: ``"diagonal"``, or ``"ignore"`` for the published convention (NaN).
        output: what the channels mean, see :class:`vafa_monai.losses.Output`; its background is no organ.

    Returns:
        Distances of shape ``(B, organs)`` in mm, ``C - 1`` of a softmax and ``C`` of sigmoids; NaN for a class that
        neither has.

    Raises:
        ValueError: if the masks are none of that kind, or ``spacing`` is not three lengths above 0.

    Example:
        >>> truth = torch.zeros(1, 2, 3, 4, 12)
        >>> truth[:, 1, 1, 1, 1] = 1
        >>> compute_hausdorff_distance_95(torch.zeros_like(truth), truth).item()  # sqrt(3^2 + 4^2 + 12^2)
        13.0
    """
    lost_organ = look_up_option(lost_organ, LostOrgan)
    require_masks(y_pred, y, output)
    require_spacing(spacing)
    organs = organ_channels(y.shape[1], output)
    absent_pred, absent = (~mask[:, organs].flatten(2).any(-1) for mask in (y_pred, y))
    present = ~(absent_pred | absent)
    distance = torch.full(present.shape, float("nan"), device=y.device)
    if lost_organ == LostOrgan.DIAGONAL:
        distance[absent_pred ^ absent] = math.hypot(
            *(size * step for size, step in zip(y.shape[2:], spacing, strict=True))
        )
    for sample, organ in present.nonzero().tolist():
        pred, truth = (mask[sample, organs[organ]][None, None] for mask in (y_pred, y))
        value = compute_hausdorff_distance(pred, truth, True, percentile=95, spacing=list(spacing))
        distance[sample, organ] = value.squeeze()
    return distance


def compute_normalized_surface_dice(
    y_pred: Tensor,
    y: Tensor,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    tolerance: float = 1.0,
    output: Output | str = "softmax",
) -> Tensor:
    """Compute the share of both surfaces that lies within ``tolerance`` mm of the other, for all but the background.

    The normalized surface Dice (Nikolov et al., 2018, https://arxiv.org/abs/1809.04430), by voxel surfaces.

    Args:
        y_pred: masks of the prediction, shape ``(B, C, H, W, D)``: one-hot, or the regions of sigmoids.
        y: masks of the truth, of the same shape.
        spacing: voxel size in mm along each axis.
        tolerance: accepted distance in mm.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`; its background is no organ.

    Returns:
        Shares of shape ``(B, organs)``, ``C - 1`` of a softmax and ``C`` of sigmoids, in [0, 1]; 0 for a lost or an
        invented organ, NaN for one that neither has.

    Raises:
        ValueError: if the masks are none of that kind, ``spacing`` is not three lengths above 0, or
            ``tolerance`` is negative or not finite.
    """
    require_masks(y_pred, y, output)
    require_spacing(spacing)
    require_at_least("tolerance", tolerance, 0)
    organs = organ_channels(y.shape[1], output)
    absent_pred, absent = (~mask[:, organs].flatten(2).any(-1) for mask in (y_pred, y))
    present = ~(absent_pred | absent)
    share = torch.full(present.shape, float("nan"), device=y.device)
    share[absent_pred ^ absent] = 0.0
    for sample, organ in present.nonzero().tolist():
        pred, truth = (mask[sample, organs[organ]][None, None] for mask in (y_pred, y))
        value = compute_surface_dice(pred, truth, [tolerance], include_background=True, spacing=list(spacing))
        share[sample, organ] = value.squeeze()
    return share


def _voxel_sizes(y: Tensor, spacing: Sequence[float] | None) -> list[Sequence[float]]:
    """Return the given spacing, or that of the metadata, for every sample."""
    if spacing is not None:
        return [spacing] * len(y)
    if isinstance(y, MetaTensor):
        return [affine_to_spacing(affine).tolist() for affine in y.affine.expand(len(y), -1, -1)]
    raise ValueError("spacing must be given for labels without metadata, got None.")


class _SurfaceMetric(CumulativeIterationMetric):
    """Accumulate a surface metric of masks whose voxel size comes from the label's metadata."""

    def __init__(self, spacing: Sequence[float] | None, reduction: MetricReduction | str, output: Output | str) -> None:
        super().__init__()
        self.output = Output.of(output)
        self.spacing = spacing
        self.reduction = reduction

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor:
        """Reduce what was accumulated; NaN entries are left out, and where there is nothing else the result is NaN."""
        values, counts = do_metric_reduction(self.get_buffer(), reduction or self.reduction)
        return values.where(counts > 0, float("nan"))

    def _values(self, y_pred: Tensor, y: Tensor, spacing: Sequence[float]) -> Tensor:
        raise NotImplementedError

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        if y is None:
            raise ValueError("y must be a one-hot truth, got None.")
        pred, truth = (part.as_tensor() if isinstance(part, MetaTensor) else part for part in (y_pred, y))
        spacings = _voxel_sizes(y, self.spacing)
        return torch.cat([self._values(pred[i : i + 1], truth[i : i + 1], size) for i, size in enumerate(spacings)])


class HausdorffDistance95Metric(_SurfaceMetric):
    """Accumulate :func:`compute_hausdorff_distance_95`.

    Args:
        spacing: voxel size in mm; ``None`` takes it from the metadata of each label.
        lost_organ: ``"diagonal"`` or ``"ignore"``.
        reduction: MONAI's reduction of cases and classes.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.
    """

    def __init__(
        self,
        spacing: Sequence[float] | None = None,
        lost_organ: LostOrgan | str = LostOrgan.DIAGONAL,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output: Output | str = "softmax",
    ) -> None:
        super().__init__(spacing, reduction, output)
        self.lost_organ = look_up_option(lost_organ, LostOrgan)

    def _values(self, y_pred: Tensor, y: Tensor, spacing: Sequence[float]) -> Tensor:
        return compute_hausdorff_distance_95(y_pred, y, spacing, self.lost_organ, self.output)


class NormalizedSurfaceDiceMetric(_SurfaceMetric):
    """Accumulate :func:`compute_normalized_surface_dice`.

    Args:
        spacing: voxel size in mm; ``None`` takes it from the metadata of each label.
        tolerance: accepted distance in mm.
        reduction: MONAI's reduction of cases and classes.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.
    """

    def __init__(
        self,
        spacing: Sequence[float] | None = None,
        tolerance: float = 1.0,
        reduction: MetricReduction | str = MetricReduction.MEAN,
        output: Output | str = "softmax",
    ) -> None:
        super().__init__(spacing, reduction, output)
        self.tolerance = require_at_least("tolerance", tolerance, 0)

    def _values(self, y_pred: Tensor, y: Tensor, spacing: Sequence[float]) -> Tensor:
        return compute_normalized_surface_dice(y_pred, y, spacing, self.tolerance, self.output)

"""How far an attacked volume is from the clean one: in grey levels, in structure and to a human eye."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.metrics.regression import compute_ssim_and_cs
from monai.utils import MetricReduction
from torch import Tensor

from vafa_monai.attacks.range_adapter import sample_range
from vafa_monai.attacks.setting import require_in_range, require_range
from vafa_monai.metrics.lpips_network import SMALLEST_SLICE, load_lpips, lpips_by_slices

__all__ = ["QUALITY_NAMES", "PerceptualSimilarityMetric", "compute_image_quality"]

LEVELS = 255.0
WINDOW_EDGE = 11
WINDOW_SIGMA = 1.5
QUALITY_NAMES = ("ssim", "psnr_db", "rms_grey", "linf_grey", "lpips")


def compute_image_quality(adv: Tensor, clean: Tensor, value_range: Sequence[float] | None = (0.0, 1.0)) -> Tensor:
    """Compare attacked with clean volumes, one row a sample.

    Args:
        adv: attacked volumes of shape ``(B, C, H, W, D)``.
        clean: clean volumes of the same shape.
        value_range: lowest and highest intensity; a grey level is 1/255 of its width. ``None`` is the range of each
            clean sample, channel by channel, as :class:`vafa_monai.attacks.RangeAdapter` takes it.

    Returns:
        Shape ``(B, 4)``: SSIM (Gaussian window of 11 voxels, smaller in thin volumes, sigma 1.5), PSNR in dB (infinite
        for equal volumes), root mean square and largest change in grey levels.

    Raises:
        ValueError: if the shapes differ, if ``clean`` is not finite or lies outside ``value_range``, in whose units
            nothing could be measured, or if ``adv`` is not finite.

    Example:
        >>> clean = torch.zeros(1, 1, 4, 5, 6)
        >>> [round(value, 2) for value in compute_image_quality(clean + 2 / 255, clean)[0].tolist()[1:]]
        [42.11, 2.0, 2.0]
    """
    if adv.shape != clean.shape:
        raise ValueError(f"clean must have the shape of adv {tuple(adv.shape)}, got {tuple(clean.shape)}.")
    if not (clean.isfinite().all() and adv.isfinite().all()):
        raise ValueError("adv and clean must be finite, got NaN or infinite voxels.")
    if value_range is not None:
        require_in_range("clean", clean, require_range("value_range", value_range))
    attacked, original = in_range(adv, clean, value_range)
    change = (attacked - original).flatten(1)
    rms = change.square().mean(1).sqrt()
    window = [min(WINDOW_EDGE, size) for size in adv.shape[2:]]
    ssim, _ = compute_ssim_and_cs(attacked, original, 3, kernel_size=window, kernel_sigma=[WINDOW_SIGMA] * 3)
    columns = [ssim.flatten(1).mean(1), -20 * rms.log10(), LEVELS * rms, LEVELS * change.abs().amax(1)]
    return torch.stack(columns, dim=1)


def in_range(adv: Tensor, clean: Tensor, value_range: Sequence[float] | None) -> tuple[Tensor, Tensor]:
    """Return both volumes as float32 with the range at 0 to 1; ``None`` is the range of each channel of ``clean``."""
    low, width = sample_range(clean) if value_range is None else (value_range[0], value_range[1] - value_range[0])
    safe = width.where(width > 0, 1) if isinstance(width, Tensor) else width
    return ((adv - low) / safe).float(), ((clean - low) / safe).float()


class PerceptualSimilarityMetric(CumulativeIterationMetric):
    """Accumulate :func:`compute_image_quality` and LPIPS of ``(adv, clean)`` pairs; columns are ``QUALITY_NAMES``.

    LPIPS is NaN without its weights, and for slices with an edge of less than 31 voxels; ``note`` says why.

    Args:
        value_range: lowest and highest intensity; ``None`` is the range of each clean sample.
        lpips_weights: path of torchvision's AlexNet weights; see :func:`vafa_monai.metrics.load_lpips`.
    """

    def __init__(self, value_range: Sequence[float] | None = (0.0, 1.0), lpips_weights: str | None = None) -> None:
        super().__init__()
        self.value_range = None if value_range is None else require_range("value_range", value_range)
        self.lpips, self.note = load_lpips(lpips_weights)

    def aggregate(self) -> Tensor:
        """Return the mean of every column over the cases, shape ``(5,)``; NaN where nothing was measured."""
        values, counts = do_metric_reduction(self.get_buffer(), MetricReduction.MEAN_BATCH)
        return values.where(counts > 0, float("nan"))  # MONAI gives 0, the LPIPS of equal volumes

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: object) -> Tensor:
        if y is None:
            raise ValueError("y must be the clean volume, got None.")
        quality = compute_image_quality(y_pred, y, self.value_range)
        distance = quality.new_full((len(quality), 1), float("nan"))
        if self.lpips is not None and min(y.shape[2:4]) < SMALLEST_SLICE:
            height, width = y.shape[2:4]
            self.note = f"LPIPS is absent: axial slices must be {SMALLEST_SLICE} voxels wide, got {height} x {width}."
        elif self.lpips is not None:
            adv, clean = (2 * volume - 1 for volume in in_range(y_pred, y, self.value_range))
            distance = lpips_by_slices(adv, clean, self.lpips.to(quality.device)).unsqueeze(1)
        return torch.cat([quality, distance.to(quality)], dim=1)

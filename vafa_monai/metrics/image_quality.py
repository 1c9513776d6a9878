"""How far an attacked volume is from the clean one: in gray levels, in structure and to a human eye."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from monai.metrics.regression import compute_ssim_and_cs
from monai.utils import MetricReduction, optional_import
from torch import Tensor, nn

from vafa_monai.attacks.intensity import channel_limits, require_channel_ranges, require_ranges
from vafa_monai.attacks.range_adapter import sample_range
from vafa_monai.attacks.validation import LEVELS

__all__ = [
    "QUALITY_NAMES",
    "PerceptualSimilarityMetric",
    "build_lpips",
    "compute_image_quality",
    "load_lpips",
    "lpips_by_slices",
]

SMALLEST_SLICE = 31  # voxels: AlexNet has nothing left of a smaller one

WEIGHTS_NAME = "alexnet-owt-7be5be79.pth"  # torchvision's file; the name ends in the start of its SHA-256
HELP = (
    "LPIPS is absent: its AlexNet weights are not on this machine. Download "
    f"https://download.pytorch.org/models/{WEIGHTS_NAME} into {{folder}} or pass its path as lpips_weights."
)


def load_lpips(weights: str | Path | None = None) -> tuple[nn.Module | None, str | None]:
    """Load LPIPS (Zhang et al., CVPR 2018, https://arxiv.org/abs/1801.03924) with AlexNet features.

    Nothing is downloaded. Without a path the file is looked for where torchvision would put it.

    Args:
        weights: path of torchvision's AlexNet weights; read as data, and its SHA-256 is checked.

    Returns:
        The network in eval mode and no note, or no network and the sentence that says what is missing.

    Raises:
        ValueError: if ``weights`` is given and is no such file.
    """
    if not optional_import("lpips")[1]:
        return None, "LPIPS is absent: pip install lpips."
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = Path(weights) if weights is not None else folder / WEIGHTS_NAME
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    intact = digest.startswith(Path(WEIGHTS_NAME).stem.rpartition("-")[2])
    if weights is None and not intact:
        return None, HELP.format(folder=folder)
    if not digest:
        raise ValueError(f"lpips_weights must be a file, got {str(path)!r}.")
    if not intact:
        raise ValueError(f"lpips_weights must be torchvision's {WEIGHTS_NAME}, got a file with SHA-256 {digest[:8]}…")
    return build_lpips(torch.load(path, map_location="cpu", weights_only=True)), None


def build_lpips(alexnet: dict[str, Tensor]) -> nn.Module:
    """Build LPIPS around the convolutions of an AlexNet state dict of torchvision."""
    lpips, _ = optional_import("lpips")
    network: Any = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)  # random trunk: no download
    trunk = network.net.state_dict()  # names such as "slice2.3.weight" for torchvision's "features.3.weight"
    network.net.load_state_dict({name: alexnet[f"features.{name.split('.', 1)[1]}"] for name in trunk})
    return network.eval().requires_grad_(False)


def lpips_by_slices(adv: Tensor, clean: Tensor, network: nn.Module) -> Tensor:
    """Average LPIPS over the axial slices (last axis) of two volumes, as the paper reports it, channel by channel.

    Args:
        adv: attacked volumes of shape ``(B, C, H, W, D)``, in [-1, 1].
        clean: clean volumes of the same shape.
        network: LPIPS network of two RGB batches; a slice of one channel is repeated in its three channels.

    Returns:
        Distances of shape ``(B,)``; 0 for equal volumes.
    """
    distances = []
    with torch.no_grad():
        for pair in zip(adv, clean, strict=True):
            first, second = (  # -> (C D, 3, H, W)
                volume.movedim(-1, 1).flatten(0, 1)[:, None].expand(-1, 3, -1, -1).float() for volume in pair
            )
            distances.append(torch.cat([network(*batch).flatten() for batch in _chunks(first, second)]).mean())
    return torch.stack(distances)


def _chunks(first: Tensor, second: Tensor, size: int = 32) -> zip:
    """Pair the slices in batches that fit into memory."""
    return zip(first.split(size), second.split(size), strict=True)


WINDOW_EDGE = 11
WINDOW_SIGMA = 1.5
QUALITY_NAMES = ("ssim", "psnr_db", "rms_grey", "linf_grey", "lpips")


def compute_image_quality(adv: Tensor, clean: Tensor, value_range: Sequence[Any] | None = (0.0, 1.0)) -> Tensor:
    """Compare attacked with clean volumes, one row a sample.

    Args:
        adv: attacked volumes of shape ``(B, C, H, W, D)``.
        clean: clean volumes of the same shape.
        value_range: lowest and highest intensity, or such a pair for each channel; a gray level is 1/255 of its width.
            ``None`` is that of each clean sample, channel by channel, as :class:`vafa_monai.attacks.RangeAdapter` does.

    Returns:
        Shape ``(B, 4)``: SSIM (Gaussian window of 11 voxels, smaller in thin volumes, sigma 1.5), PSNR in dB (infinite
        for equal volumes), root mean square and largest change in gray levels.

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
        require_channel_ranges("clean", clean, require_ranges("value_range", value_range))
    attacked, original = in_range(adv, clean, value_range)
    change = (attacked - original).flatten(1)
    rms = change.square().mean(1).sqrt()
    window = [min(WINDOW_EDGE, size) for size in adv.shape[2:]]
    ssim, _ = compute_ssim_and_cs(attacked, original, 3, kernel_size=window, kernel_sigma=[WINDOW_SIGMA] * 3)
    columns = [ssim.flatten(1).mean(1), -20 * rms.log10(), LEVELS * rms, LEVELS * change.abs().amax(1)]
    return torch.stack(columns, dim=1)


def in_range(adv: Tensor, clean: Tensor, value_range: Sequence[Any] | None) -> tuple[Tensor, Tensor]:
    """Return both volumes as float32 with the range at 0 to 1; ``None`` is the range of each channel of ``clean``."""
    if value_range is None:
        low, width = sample_range(clean)
    else:
        low, high = channel_limits(clean, require_ranges("value_range", value_range), None)
        width = high - low
    safe = width.where(width > 0, 1)
    return ((adv - low) / safe).float(), ((clean - low) / safe).float()


class PerceptualSimilarityMetric(CumulativeIterationMetric):
    """Accumulate :func:`compute_image_quality` and LPIPS of ``(adv, clean)`` pairs; columns are ``QUALITY_NAMES``.

    LPIPS is NaN without its weights, and for slices with an edge of less than 31 voxels; ``note`` says why.

    Args:
        value_range: lowest and highest intensity, or such a pair for each channel; ``None`` is the range of each clean
            sample.
        lpips_weights: path of torchvision's AlexNet weights; see :func:`vafa_monai.metrics.load_lpips`.
    """

    def __init__(self, value_range: Sequence[Any] | None = (0.0, 1.0), lpips_weights: str | None = None) -> None:
        super().__init__()
        self.value_range = None if value_range is None else require_ranges("value_range", value_range)
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

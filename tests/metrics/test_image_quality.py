"""Gray levels, PSNR and SSIM in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import correlate1d
from torch import Tensor

from vafa_monai.metrics import QUALITY_NAMES, PerceptualSimilarityMetric, compute_image_quality

LUMINANCE, CONTRAST = 0.01**2, 0.03**2


@pytest.fixture(autouse=True)
def no_lpips_weights(tmp_path, monkeypatch):
    """No AlexNet of this machine decides about these tests."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


def blurred(volume: np.ndarray) -> np.ndarray:
    """Means under a Gaussian window of 11 voxels, or as many as there are, where it fits."""
    for axis, size in enumerate(volume.shape):
        edge = min(11, size)
        position = np.arange(edge) - (edge - 1) / 2
        weights = np.exp(-((position / 1.5) ** 2) / 2)
        means = correlate1d(volume, weights / weights.sum(), axis=axis)
        volume = means.take(range(edge // 2, edge // 2 + size - edge + 1), axis=axis)
    return volume


def ssim_oracle(first: Tensor, second: Tensor) -> float:
    """SSIM of two volumes ``(H, W, D)`` (Wang et al., 2004, Eq. 13) in float64."""
    x, y = first.double().numpy(), second.double().numpy()
    mean_x, mean_y = blurred(x), blurred(y)
    variances = blurred(x * x) - mean_x**2 + blurred(y * y) - mean_y**2
    covariance = blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + LUMINANCE) / (mean_x**2 + mean_y**2 + LUMINANCE)
    return float((luminance * (2 * covariance + CONTRAST) / (variances + CONTRAST)).mean())


def pair(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(shape, generator=generator)
    return (clean + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1), clean


@pytest.mark.parametrize("shape", [(12, 15, 13), (12, 11, 6), (13, 5, 1), (3, 4, 5)], ids=str)
def test_ssim_equals_the_formula_for_thick_and_thin_volumes(shape):
    adv, clean = pair(2, 1, *shape)
    expected = [ssim_oracle(adv[i, 0], clean[i, 0]) for i in range(2)]
    assert compute_image_quality(adv, clean)[:, 0].tolist() == pytest.approx(expected, abs=1e-5)  # float32 variances


def test_ssim_of_constant_volumes_is_their_luminance_term():
    first, second = torch.full((1, 1, 12, 11, 13), 0.6), torch.full((1, 1, 12, 11, 13), 0.2)
    expected = (2 * 0.6 * 0.2 + LUMINANCE) / (0.6**2 + 0.2**2 + LUMINANCE)
    measured = compute_image_quality(first, second)[0, 0].item()
    assert measured == pytest.approx(expected, abs=5e-3)  # float32 variances of bright volumes, beside CONTRAST


@pytest.mark.parametrize("shape", [(12, 11, 13), (4, 3, 1)], ids=str)
def test_equal_volumes_have_ssim_one_infinite_psnr_and_no_change(shape):
    clean = pair(2, 1, *shape)[1]
    expected = torch.tensor([[1.0, math.inf, 0.0, 0.0]] * 2)
    torch.testing.assert_close(compute_image_quality(clean, clean), expected)


def test_rms_largest_change_and_psnr_in_closed_form():
    clean = torch.full((2, 1, 4, 5, 6), 0.5)
    adv = clean.clone()
    adv[0, 0, 1, 2, 3] -= 30 / 255  # one voxel of 120
    adv[1] += 3 / 255
    rms = [30 / 120**0.5, 3]
    quality = compute_image_quality(adv, clean)
    assert quality[:, 2].tolist() == pytest.approx(rms, rel=1e-5)
    assert quality[:, 3].tolist() == pytest.approx([30, 3], rel=1e-5)
    assert quality[:, 1].tolist() == pytest.approx([20 * math.log10(255 / value) for value in rms], rel=1e-5)


def test_range_of_each_clean_sample_and_channel():
    adv, clean = pair(2, 2, 12, 13, 11)
    adv[:, 1], clean[:, 1] = 50 * adv[:, 1] - 3, 50 * clean[:, 1] - 3
    low, high = (part(dim=(2, 3, 4), keepdim=True) for part in (clean.amin, clean.amax))
    units = [(volume - low) / (high - low) for volume in (adv, clean)]
    torch.testing.assert_close(compute_image_quality(adv, clean, None), compute_image_quality(*units))
    flat = torch.ones(1, 1, 12, 13, 11)
    assert compute_image_quality(flat, flat, None)[0, [0, 2, 3]].tolist() == [1, 0, 0]


@pytest.mark.parametrize("value_range", [(-1000.0, 1000.0), (0.0, 255.0), (-0.7, 1.9)], ids=str)
def test_intensity_unit_does_not_matter(value_range):
    low, high = value_range
    adv, clean = pair(2, 1, 12, 13, 11)
    rescaled = compute_image_quality(low + (high - low) * adv, low + (high - low) * clean, value_range)
    torch.testing.assert_close(rescaled, compute_image_quality(adv, clean), rtol=1e-4, atol=1e-4)


def test_samples_do_not_mix():
    adv, clean = pair(2, 1, 12, 13, 11)
    torch.testing.assert_close(compute_image_quality(adv, clean)[1:], compute_image_quality(adv[1:], clean[1:]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64], ids=str)
def test_other_floats_are_measured_too(dtype):
    adv, clean = (volume.to(dtype) for volume in pair(1, 1, 12, 13, 11))
    expected = compute_image_quality(adv.float(), clean.float())
    torch.testing.assert_close(compute_image_quality(adv, clean).float(), expected, rtol=1e-2, atol=1e-2)


def test_volumes_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"clean must have the shape of adv \(1, 1, 4, 4, 4\), got \(1, 1, 4, 4, 5\)"):
        compute_image_quality(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 1, 4, 4, 5))


OTHER_UNITS = {
    "hounsfield units": (
        lambda clean: 2000 * clean - 1000,
        r"clean must be finite and lie in value_range \(0\.0, 1\.0\), got",
    ),
    "standardized": (lambda clean: (clean - clean.mean()) / clean.std(), r"clean must .* lie in value_range .*, got -"),
    "nan": (lambda clean: clean / 0 * 0, r"adv and clean must be finite, got NaN or infinite voxels"),
    "infinite": (lambda clean: clean / 0, r"adv and clean must be finite, got NaN or infinite voxels"),
}


@pytest.mark.parametrize(("spoil", "match"), OTHER_UNITS.values(), ids=OTHER_UNITS.keys())
def test_volumes_of_other_units_have_no_gray_levels(spoil, match):
    _, clean = pair(1, 1, 12, 13, 11)
    for measure in (compute_image_quality, PerceptualSimilarityMetric()):
        with pytest.raises(ValueError, match=match):
            measure(spoil(clean), spoil(clean))


def test_an_attacked_volume_that_is_not_finite_is_refused():
    adv, clean = pair(1, 1, 12, 13, 11)
    adv[0, 0, 1, 1, 1] = float("nan")
    with pytest.raises(ValueError, match="adv and clean must be finite"):
        compute_image_quality(adv, clean, None)


def test_metric_is_the_mean_over_cases_and_calls():
    metric, (adv, clean) = PerceptualSimilarityMetric(), pair(3, 1, 12, 13, 11)
    metric(adv[:1], clean[:1])
    metric(list(adv[1:]), [MetaTensor(one) for one in clean[1:]])
    expected = compute_image_quality(adv, clean)
    torch.testing.assert_close(metric.get_buffer()[:, :4], expected)
    torch.testing.assert_close(metric.aggregate()[:4], expected.mean(0))
    assert len(metric.aggregate()) == len(QUALITY_NAMES)


def test_metric_takes_value_range():
    metric, (adv, clean) = PerceptualSimilarityMetric(value_range=(-2.0, 2.0)), pair(1, 1, 12, 13, 11)
    metric(adv, clean)
    torch.testing.assert_close(metric.aggregate()[:4], compute_image_quality(adv, clean, (-2.0, 2.0))[0])


def test_every_case_without_lpips_weights_has_no_lpips():
    metric, (adv, clean) = PerceptualSimilarityMetric(), pair(2, 1, 12, 13, 11)
    metric(adv, clean)
    assert metric.get_buffer()[:, 4].isnan().all()
    assert metric.get_buffer()[:, :4].isfinite().all()


def test_mean_without_lpips_weights_has_no_lpips():
    metric, (adv, clean) = PerceptualSimilarityMetric(), pair(2, 1, 12, 13, 11)
    metric(adv, clean)
    assert metric.aggregate()[4].isnan()


def test_missing_clean_volume_is_refused():
    with pytest.raises(ValueError, match="y must be the clean volume, got None"):
        PerceptualSimilarityMetric()(torch.zeros(1, 1, 4, 4, 4))

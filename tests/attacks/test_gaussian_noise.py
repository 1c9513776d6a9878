"""What only Gaussian noise does: its size, its seed, its clipping."""

from __future__ import annotations

import pytest
import scipy.stats
import torch

from vafa_monai.attacks import GaussianNoise

GRAY = torch.full((2, 1, 20, 16, 12), 0.5)


def noise(std: float = 0.02, seed: int = 0) -> torch.Tensor:
    return GaussianNoise(std=std, seed=seed)(GRAY, GRAY * 0, None) - GRAY


def test_noise_is_gaussian_of_the_standard_deviation():
    distances = scipy.stats.kstest(noise()[0].flatten().numpy() / 0.02, "norm")  # 3840 voxels
    assert distances.pvalue > 0.01


def test_noise_scales_with_the_standard_deviation():
    torch.testing.assert_close(noise(std=0.04), 2 * noise(std=0.02), rtol=0, atol=1e-6)  # float32 near 0.5


def test_seed_decides_the_noise():
    assert torch.equal(noise(seed=1), noise(seed=1))
    assert not torch.equal(noise(seed=1), noise(seed=2))


def test_every_sample_gets_the_same_noise():
    first, second = noise()
    assert torch.equal(first, second)


def test_noise_is_clipped():
    adv = GaussianNoise(std=1.0)(GRAY, GRAY * 0, None)
    torch.testing.assert_close(adv, (GRAY + noise(std=0.02) / 0.02).clamp(0, 1), rtol=0, atol=1e-4)  # float32 * 50


@pytest.mark.parametrize(
    ("std", "error", "match"),
    [
        (-0.1, ValueError, r"std must be at least 0 and finite, got -0\.1"),
        (float("nan"), ValueError, "std must be at least 0 and finite, got nan"),
        ("0.1", TypeError, r"std must be a number, got '0\.1'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(std, error, match):
    with pytest.raises(error, match=match):
        GaussianNoise(std=std)

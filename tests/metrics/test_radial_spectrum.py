"""Energy by frequency: against waves of known frequency, Parseval and the law of white noise."""

import numpy as np
import pytest

from vafa_monai.metrics.radial_spectrum import HIGHEST_FREQUENCY, radial_spectrum

SHAPE = (12, 10, 8)


def wave(axis, k):
    """A basis function of the DCT along one axis: k / (2 n) cycles a voxel."""
    n = SHAPE[axis]
    line = np.cos(np.pi * (np.arange(n) + 0.5) * k / n)
    return np.broadcast_to(np.expand_dims(line, [a for a in range(3) if a != axis]), SHAPE)


@pytest.mark.parametrize(("axis", "k"), [(0, 3), (1, 5), (2, 7)])
def test_wave_has_all_its_energy_at_its_frequency(axis, k):
    energy, _ = radial_spectrum(wave(axis, k), bins=24)
    band = int(k / (2 * SHAPE[axis]) / HIGHEST_FREQUENCY * 24)
    assert energy[band] == pytest.approx(1, abs=1e-6)


def test_diagonal_wave_has_the_length_of_its_three_frequencies():
    energy, _ = radial_spectrum(wave(0, 6) * wave(1, 5) * wave(2, 4), bins=24)
    frequency = np.sqrt(3 * 0.25**2)  # a quarter of a cycle a voxel along every axis
    assert energy[int(frequency / HIGHEST_FREQUENCY * 24)] == pytest.approx(1, abs=1e-6)


def test_white_noise_has_the_share_of_its_coefficients():
    noise = np.random.default_rng(0).standard_normal((40, 36, 32))
    energy, coefficients = radial_spectrum(noise, bins=6)
    assert energy == pytest.approx(coefficients, abs=0.01)


def test_shares_add_up_to_one_and_follow_no_scale():
    volume = np.random.default_rng(1).random(SHAPE)
    energy, coefficients = radial_spectrum(volume)
    assert (energy.sum(), coefficients.sum()) == pytest.approx((1, 1))
    np.testing.assert_allclose(radial_spectrum(1000 * volume)[0], energy, rtol=1e-5)


def test_nothing_has_no_energy():
    energy, coefficients = radial_spectrum(np.zeros(SHAPE))
    assert energy.sum() == 0
    assert coefficients.sum() == pytest.approx(1)

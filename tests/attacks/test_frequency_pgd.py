"""What only FrequencyPGD does: its box of coefficients, its bands."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks import VAFA, FrequencyPGD, UniformQuantization
from vafa_monai.attacks.quantization_table import CoefficientBox, band_mask
from vafa_monai.frequency import block_dct, pad_to_blocks

BLOCK = (4, 3, 2)


@pytest.fixture
def volume(volume):
    """Whole blocks, and far from 0 and 1, so that nothing is clipped."""
    return 0.3 + 0.4 * volume[:, :, :8].double()


@pytest.fixture
def label(label):
    return label[:, :, :8]


@pytest.fixture
def tiny_network(tiny_network):
    return tiny_network.double()


def spectrum(volume):
    return block_dct(255 * volume, BLOCK)


@pytest.mark.parametrize("q_max", [2, 20])
def test_change_of_the_spectrum_is_the_variable(q_max, volume, label, tiny_network):
    found = FrequencyPGD(block_size=BLOCK, q_max=q_max, steps=4).run(volume, label, tiny_network)
    torch.testing.assert_close(spectrum(found.adv) - spectrum(volume), found.variable)
    assert found.variable.abs().max() <= q_max / 2


def test_box_holds_what_quantization_can_reach(volume, label, tiny_network):
    box = CoefficientBox(volume, (0.0, 1.0), BLOCK, radius=10)
    for attack in (UniformQuantization(block_size=BLOCK, q=20), VAFA(block_size=BLOCK, q_max=20, steps=4)):
        quantized = attack(volume, label, tiny_network)
        change = spectrum(quantized) - spectrum(volume)
        torch.testing.assert_close(box.project(change), change)
        torch.testing.assert_close(box.apply(change, 0), quantized)


@pytest.mark.parametrize("iterate", ["best", "last"])
def test_it_does_more_harm_than_vafa_with_the_same_quantization(iterate, cases, trained_network):
    settings = {"block_size": (4, 4, 4), "q_max": 20}
    harm = FrequencyPGD(**settings).run(*cases, trained_network).objective
    assert (harm > VAFA.preset("audit", **settings).run(*cases, trained_network).objective).all()


def test_default_step_is_two_and_a_half_radii_over_the_steps(volume, label, tiny_network):
    settings = {"block_size": BLOCK, "q_max": 8, "steps": 5}
    free, spelled = FrequencyPGD(**settings), FrequencyPGD(step_size=2.5 * 4 / 5, **settings)
    assert torch.equal(free(volume, label, tiny_network), spelled(volume, label, tiny_network))


def test_volumes_that_need_padding_are_attacked_by_whole_blocks(volume, label, tiny_network):
    inputs, targets = volume[:, :, :7], label[:, :, :7]
    found = FrequencyPGD(block_size=BLOCK, steps=3).run(inputs, targets, tiny_network)
    assert found.variable.shape == (2, 1, 2, 3, 3, *BLOCK)
    assert found.adv.shape == inputs.shape
    assert pad_to_blocks(found.adv, BLOCK).shape == volume.shape


# Bands


@pytest.mark.parametrize("block_size", [(8, 8, 8), (4, 3, 5), (8, 8, 1), (32, 32, 32)])
@pytest.mark.parametrize("cut", [0.1, 0.25, 0.5, 1 / 3])
def test_low_and_high_masks_are_complements(block_size, cut):
    low, high = band_mask(block_size, (0.0, cut)), band_mask(block_size, (cut, 1.0))
    assert torch.equal(low, ~high)
    assert low[0, 0, 0]
    assert band_mask(block_size, (0.0, 1.0)).all()


def test_mask_by_hand():
    """Shares of block (4, 2, 1): 0, 1/4, 1/2, 3/4 along the first axis and 0, 1/2 along the second."""
    low, middle, high = (
        band_mask((4, 2, 1), band)[:, :, 0].int().tolist() for band in ((0, 0.25), (0.25, 0.75), (0.75, 1))
    )
    assert low == [[1, 0], [0, 0], [0, 0], [0, 0]]
    assert middle == [[0, 1], [1, 1], [1, 1], [0, 0]]
    assert high == [[0, 0], [0, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize("band", [(0.0, 0.5), (0.5, 1.0)], ids=["low", "high"])
def test_only_the_coefficients_of_the_band_move(band, volume, label, tiny_network):
    found = FrequencyPGD(block_size=BLOCK, band=band, steps=3).run(volume, label, tiny_network)
    moved = (spectrum(found.adv) - spectrum(volume)).abs() > 1e-6
    mask = band_mask(BLOCK, band)
    assert not (moved & ~mask).any()
    assert (moved & mask).sum() > 0.9 * mask.expand_as(moved).sum()


def test_parts_of_two_complementary_bands_add_up_to_the_whole_first_step(volume, label, tiny_network):
    settings = {"block_size": BLOCK, "steps": 1, "iterate": "last"}
    low, high, whole = (
        FrequencyPGD(band=band, **settings).run(volume, label, tiny_network).variable
        for band in ((0.0, 0.4), (0.4, 1.0), (0.0, 1.0))
    )
    torch.testing.assert_close(low + high, whole)


def test_random_start_is_a_point_of_the_box_and_the_band_drawn_by_the_seed(volume, label, tiny_network):
    settings = {"block_size": BLOCK, "steps": 0, "random_start": True}
    first, again, other = (
        FrequencyPGD(seed=seed, **settings).run(volume, label, tiny_network).variable for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.abs().max() <= 10
    assert first.std().item() == pytest.approx(10 / 3**0.5, rel=0.05)  # uniform
    band = FrequencyPGD(band=(0.25, 1.0), **settings).run(volume, label, tiny_network).variable
    assert torch.equal(band != 0, band_mask(BLOCK, (0.25, 1.0)).expand_as(band))


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"q_max": -1}, ValueError, "q_max must be at least 0 and finite, got -1"),
        ({"steps": 1.5}, TypeError, r"steps must be a whole number, got 1\.5"),
        ({"step_size": -1}, ValueError, "step_size must be at least 0 and finite, got -1"),
        ({"block_size": (8, 8)}, ValueError, r"block_size must be three edges .*, got \(8, 8\)"),
        ({"band": (0.5, 0.5)}, ValueError, r"band must be two finite numbers, the lower first, got \(0\.5, 0\.5\)"),
        ({"band": (-0.1, 0.5)}, ValueError, r"band must lie in \[0, 1\], got \(-0\.1, 0\.5\)"),
        ({"band": (0.5, 1.1)}, ValueError, r"band must lie in \[0, 1\], got \(0\.5, 1\.1\)"),
        ({"iterate": "bst"}, ValueError, "did you mean 'best'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, error, match):
    with pytest.raises(error, match=match):
        FrequencyPGD(**setting)

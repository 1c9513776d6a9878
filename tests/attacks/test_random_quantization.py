"""What only random quantization does: a random step for every coefficient."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks import RandomQuantization, UniformQuantization
from vafa_monai.frequency import block_dct, block_idct, quantize

BLOCK = (4, 3, 2)


@pytest.fixture
def volume(volume):
    """Whole blocks, so that the table says everything about the image."""
    return volume[:, :, :8].double()


def test_image_is_the_volume_truly_quantized_by_the_table(volume):
    found = RandomQuantization(block_size=BLOCK).run(volume, volume * 0, None)
    levels = block_idct(quantize(block_dct(255 * volume - 128, BLOCK), found.variable, alpha=0))
    torch.testing.assert_close(found.adv, ((levels + 128) / 255).clamp(0, 1))


def test_steps_are_uniform_between_the_bounds_and_decided_by_the_seed(volume):
    tables = [
        RandomQuantization(block_size=BLOCK, q_min=5, seed=s).run(volume, volume * 0, None).variable for s in (1, 1, 2)
    ]
    assert 5 <= tables[0].min() < 6
    assert 19 < tables[0].max() <= 20
    assert tables[0].mean() == pytest.approx(12.5, abs=0.8)  # 432 entries
    assert tables[0].std() == pytest.approx(15 / 12**0.5, rel=0.1)
    assert torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[0], tables[2])


def test_every_sample_gets_the_same_table(volume):
    first, second = RandomQuantization(block_size=BLOCK).run(volume, volume * 0, None).variable
    assert torch.equal(first, second)


def test_equal_bounds_are_uniform_quantization(volume):
    adv = RandomQuantization(block_size=BLOCK, q_min=7, q_max=7)(volume, volume * 0, None)
    assert torch.equal(adv, UniformQuantization(block_size=BLOCK, q=7)(volume, volume * 0, None))


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"q_min": 0}, ValueError, "q_min must be positive and at most q_max=20, got 0"),
        ({"q_min": 21}, ValueError, "q_min must be positive and at most q_max=20, got 21"),
        ({"q_max": "20"}, TypeError, "q_max must be a number, got '20'"),
        ({"block_size": 8}, ValueError, "block_size must be three edges .*, got 8"),
        ({"output_norm": "clp"}, ValueError, "did you mean 'clip'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, error, match):
    with pytest.raises(error, match=match):
        RandomQuantization(**setting)

"""What only uniform quantization does: one step for every coefficient."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch

from vafa_monai.attacks import UniformQuantization


@pytest.mark.parametrize("q", [5, 20.5])
@pytest.mark.parametrize("output_norm", ["clip", "slice_minmax"])
def test_a_single_block_equals_scipy(q, output_norm, volume, label):
    inputs = volume.double()
    spectrum = scipy.fft.dctn(255 * inputs.numpy() - 128, axes=(2, 3, 4), norm="ortho")
    levels = scipy.fft.idctn(np.floor(spectrum / q + 0.5) * q, axes=(2, 3, 4), norm="ortho")
    expected = (levels + 128) / 255
    if output_norm == "slice_minmax":
        low, high = expected.min((2, 3), keepdims=True), expected.max((2, 3), keepdims=True)
        expected = (expected - low) / (high - low)
    attack = UniformQuantization(block_size=inputs.shape[2:], q=q, output_norm=output_norm)
    torch.testing.assert_close(attack(inputs, label, None), torch.from_numpy(expected).clamp(0, 1))


def test_blocks_that_do_not_fit_see_repeated_voxels(volume, label):
    repeated = [torch.cat([part, part[:, :, -1:]], dim=2) for part in (volume, label)]
    attack = UniformQuantization(block_size=(4, 3, 2), q=20)
    torch.testing.assert_close(attack(volume, label, None), attack(*repeated, None)[:, :, :-1])


def test_a_coarser_step_changes_more(volume, label):
    changes = [UniformQuantization(block_size=(4, 3, 2), q=q)(volume, label, None) - volume for q in (2, 8, 32)]
    sizes = [change.square().mean().sqrt().item() for change in changes]
    assert sizes[0] < sizes[1] < sizes[2]


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"q": 0}, ValueError, "q must be positive, got 0"),
        ({"q": -1}, ValueError, "q must be at least 0 and finite, got -1"),
        ({"q": None}, TypeError, "q must be a number, got None"),
        ({"block_size": (8, 8)}, ValueError, r"block_size must be three edges .*, got \(8, 8\)"),
        ({"output_norm": "clp"}, ValueError, "did you mean 'clip'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, error, match):
    with pytest.raises(error, match=match):
        UniformQuantization(**setting)

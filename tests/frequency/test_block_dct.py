"""Block DCT against scipy, closed forms, its inverse and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from vafa_monai.frequency import block_dct, block_idct

SIZE = (2, 3, 12, 8, 6)
BLOCKS = [(4, 2, 3), (3, 8, 1), (12, 8, 6), (1, 1, 1)]
TOLERANCE = {torch.float16: 4e-3, torch.bfloat16: 3e-2, torch.float32: 1e-5, torch.float64: 1e-12}  # a few eps


def random(*size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("block_size", BLOCKS, ids=str)
def test_every_block_equals_scipy(block_size, device):
    volume = random(*SIZE)
    coefficients = block_dct(volume.to(device), block_size).cpu()
    for i, j, k in np.ndindex(*coefficients.shape[2:5]):
        corner = [slice(n * edge, (n + 1) * edge) for n, edge in zip((i, j, k), block_size, strict=True)]
        expected = scipy.fft.dctn(volume[(..., *corner)].numpy(), axes=(2, 3, 4), norm="ortho")
        torch.testing.assert_close(coefficients[:, :, i, j, k], torch.from_numpy(expected))


def test_thickness_one_is_the_transform_of_every_slice():
    volume = random(1, 2, 6, 4, 5)
    coefficients = block_dct(volume, (6, 4, 1))[:, :, 0, 0, :, :, :, 0]  # -> (B, C, D, h, w)
    expected = scipy.fft.dctn(volume.permute(0, 1, 4, 2, 3).numpy(), axes=(3, 4), norm="ortho")
    torch.testing.assert_close(coefficients, torch.from_numpy(expected))


def test_a_cosine_along_one_axis_is_one_coefficient():
    wave = torch.cos(torch.pi / 6 * 2 * (torch.arange(6, dtype=torch.float64) + 0.5))
    coefficients = block_dct(wave.view(1, 1, 1, 6, 1).expand(1, 1, 4, 6, 3), (4, 6, 3))
    expected = torch.zeros(1, 1, 1, 1, 1, 4, 6, 3, dtype=torch.float64)
    expected[..., 0, 2, 0] = (6 / 2 * 4 * 3) ** 0.5  # the norm of the wave
    torch.testing.assert_close(coefficients, expected)


def test_a_constant_has_a_dc_term_only():
    coefficients = block_dct(torch.full((1, 1, 4, 3, 2), 0.5, dtype=torch.float64), (4, 3, 2))
    assert coefficients[..., 0, 0, 0].item() == pytest.approx(0.5 * 24**0.5)
    assert coefficients.flatten()[1:].abs().max() < 1e-15


@pytest.mark.parametrize("block_size", BLOCKS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_inverse_gives_the_volume_back_in_its_dtype(block_size, dtype, device):
    volume = random(*SIZE, dtype=dtype).to(device)
    restored = block_idct(block_dct(volume, block_size))
    torch.testing.assert_close(restored, volume, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("block_size", BLOCKS, ids=str)
def test_transform_keeps_the_energy_of_every_block(block_size):
    volume = random(*SIZE)
    torch.testing.assert_close(block_dct(volume, block_size).square().sum(), volume.square().sum())


def test_transform_is_linear():
    first, second = random(2, *SIZE)
    combined = block_dct(2 * first - 3 * second, (4, 2, 3))
    torch.testing.assert_close(combined, 2 * block_dct(first, (4, 2, 3)) - 3 * block_dct(second, (4, 2, 3)))


def test_swapping_height_and_width_swaps_the_frequencies():
    volume = random(*SIZE)
    swapped = block_dct(volume.transpose(2, 3), (2, 4, 3)).transpose(2, 3).transpose(5, 6)
    torch.testing.assert_close(swapped, block_dct(volume, (4, 2, 3)))


def test_samples_and_channels_do_not_mix():
    volume = random(*SIZE)
    alone = block_dct(volume[1:, 2:], (4, 2, 3))
    torch.testing.assert_close(block_dct(volume, (4, 2, 3))[1:, 2:], alone)


def test_argument_is_unchanged_and_second_call_equals_first():
    volume = random(*SIZE)
    before = volume.clone()
    first, second = block_dct(volume, (4, 2, 3)), block_dct(volume, (4, 2, 3))
    assert torch.equal(volume, before)
    assert torch.equal(first, second)


def test_autocast_does_not_lower_the_precision(device):
    volume = random(*SIZE, dtype=torch.float32).to(device)
    expected = block_idct(block_dct(volume, (4, 2, 3)))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        restored = block_idct(block_dct(volume, (4, 2, 3)))
    torch.testing.assert_close(restored, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("function", "shape"),
    [(lambda volume: block_dct(volume, (2, 3, 1)), (1, 1, 2, 3, 2)), (block_idct, (1, 1, 1, 1, 2, 2, 3, 1))],
    ids=["block_dct", "block_idct"],
)
def test_gradient_equals_finite_differences(function, shape):
    assert torch.autograd.gradcheck(function, random(*shape).requires_grad_())


@pytest.mark.parametrize(
    ("shape", "block_size"),
    [((1, 8, 8, 8), (8, 8, 8)), ((1, 1, 8, 8, 9), (8, 8, 8)), ((1, 1, 8, 8, 8), (8, 8)), ((1, 1, 8, 8, 8), (8, 8, 0))],
    ids=["4D", "not divisible", "two edges", "edge 0"],
)
def test_blocks_that_do_not_fit_are_refused(shape, block_size):
    with pytest.raises(ValueError, match=r"block_size must divide the \(H, W, D\) of a 5D volume, got \("):
        block_dct(torch.zeros(shape), block_size)


@pytest.mark.parametrize("dtype", [torch.int16, torch.complex64], ids=str)
def test_kinds_of_numbers_that_are_not_real_are_refused(dtype):
    with pytest.raises(TypeError, match=r"volume must be a floating-point tensor, got torch\."):
        block_dct(torch.zeros(1, 1, 8, 8, 8, dtype=dtype))


def test_coefficients_without_a_grid_are_refused():
    with pytest.raises(ValueError, match=r"coefficients must have shape .*, got \(1, 1, 8, 8, 8\)"):
        block_idct(torch.zeros(1, 1, 8, 8, 8))

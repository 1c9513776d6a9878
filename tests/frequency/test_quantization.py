"""Quantization by a table against numpy, and what it may change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vafa_monai.frequency import quantize

SIZE = (2, 1, 2, 1, 3, 4, 2, 3)


@pytest.fixture
def coefficients() -> Tensor:
    return 100 * torch.randn(SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def table() -> Tensor:
    return 1 + 19 * torch.rand(SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_true_rounding_equals_numpy(coefficients, table):
    expected = np.floor(coefficients.numpy() / table.numpy() + 0.5) * table.numpy()
    torch.testing.assert_close(quantize(coefficients, table, alpha=0), torch.from_numpy(expected))


@pytest.mark.parametrize("alpha", [0.0, 0.1])
@pytest.mark.parametrize("straight_through", [False, True])
def test_error_is_at_most_half_a_step(coefficients, table, alpha, straight_through):
    error = quantize(coefficients, table, alpha, straight_through=straight_through) - coefficients
    assert (error.abs() <= table / 2 + 1e-9).all()
    assert error.abs().max() > table.min() / 4


def test_straight_through_rounds_truly(coefficients, table):
    hard = quantize(coefficients, table, alpha=0.1, straight_through=True)
    torch.testing.assert_close(hard, quantize(coefficients, table, alpha=0))


def test_quantized_coefficients_are_quantized_already(coefficients, table):
    once = quantize(coefficients, table, alpha=0)
    torch.testing.assert_close(quantize(once, table, alpha=0), once)


def test_whole_numbers_survive_a_table_of_ones(coefficients):
    whole = coefficients.round()
    torch.testing.assert_close(quantize(whole, torch.ones(1), alpha=0.1), whole, rtol=0, atol=1e-9)


def test_a_table_of_one_block_serves_all_blocks(coefficients, table):
    shared = table[:1, :1, :1, :1, :1]
    everywhere = shared.expand(SIZE).contiguous()
    assert torch.equal(quantize(coefficients, shared, 0.1), quantize(coefficients, everywhere, 0.1))


@pytest.mark.parametrize("argument", [0, 1], ids=["coefficients", "table"])
def test_soft_gradient_equals_finite_differences(coefficients, table, argument):
    pair = [coefficients.flatten()[:8].clone(), table.flatten()[:8].clone()]
    pair[argument].requires_grad_()
    assert torch.autograd.gradcheck(lambda c, q: quantize(c, q, alpha=0.1), pair)


def test_straight_through_gradient_to_the_coefficients_is_the_soft_one(coefficients, table):
    coefficients.requires_grad_()
    values = [quantize(coefficients, table, 0.1, straight_through=hard) for hard in (False, True)]
    soft, hard = (torch.autograd.grad(value.sum(), coefficients)[0] for value in values)
    torch.testing.assert_close(hard, soft)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_dtype_and_device_are_kept(coefficients, table, dtype, device):
    quantized = quantize(coefficients.to(device, dtype), table.to(device, dtype), alpha=0.1)
    assert (quantized.dtype, quantized.device.type, quantized.shape) == (dtype, device.type, SIZE)


@pytest.mark.parametrize("straight_through", [False, True])
def test_softness_outside_its_interval_is_refused(coefficients, table, straight_through):
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\), got 1"):
        quantize(coefficients, table, alpha=1, straight_through=straight_through)

"""Smooth rounding against its formula in numpy, its fixed points and its derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vafa_monai.frequency import round_through, smooth_round

ALPHAS = [0.1, 0.05, 0.005, 0.5]


def grid(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.linspace(-3.17, 3.21, 97, dtype=dtype)


def slope(x: Tensor, alpha: float) -> Tensor:
    """The derivative in closed form."""
    k = np.log(2 / alpha - 1)
    return k * (1 - torch.tanh((x - x.floor() - 0.5) * k) ** 2) / (2 * (1 - alpha))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_value_is_the_published_formula(alpha):
    x = grid().numpy()
    k = np.log(2 / alpha - 1)
    expected = np.floor(x) + (np.tanh((x - np.floor(x) - 0.5) * k) / (1 - alpha) + 1) / 2
    torch.testing.assert_close(smooth_round(grid(), alpha), torch.from_numpy(expected))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_integers_and_halves_are_fixed(alpha):
    x = torch.arange(-6, 7, dtype=torch.float64) / 2
    torch.testing.assert_close(smooth_round(x, alpha), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_it_is_continuous_at_integers(alpha):
    near = torch.tensor([2 - 1e-9, 2 + 1e-9], dtype=torch.float64)
    torch.testing.assert_close(smooth_round(near, alpha), torch.full_like(near, 2), rtol=0, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, *ALPHAS])
def test_error_is_at_most_half(alpha):
    assert (smooth_round(grid(), alpha) - grid()).abs().max() <= 0.5


def test_softness_zero_is_true_rounding_halves_up():
    x = torch.tensor([-1.5, -0.6, -0.5, 0.49, 0.5, 2.5])
    assert smooth_round(x, alpha=0).tolist() == [-1, -1, 0, 0, 1, 3]


def test_softness_falling_to_zero_tends_to_true_rounding():
    true = torch.floor(grid() + 0.5)
    errors = [(smooth_round(grid(), alpha) - true).abs().mean().item() for alpha in (0.1, 1e-3, 1e-6)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.05


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("rounding", [smooth_round, round_through])
def test_derivative_has_the_closed_form(rounding, alpha):
    x = grid().requires_grad_()
    (gradient,) = torch.autograd.grad(rounding(x, alpha).sum(), x)
    torch.testing.assert_close(gradient, slope(grid(), alpha))


@pytest.mark.parametrize("alpha", ALPHAS)
def test_gradient_equals_finite_differences(alpha):
    assert torch.autograd.gradcheck(lambda x: smooth_round(x, alpha), grid()[::9].requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rounding_through_gives_whole_numbers(dtype, device):
    x = 100 * grid(dtype).to(device)
    assert torch.equal(round_through(x, alpha=0.1), torch.floor(x + 0.5))


@pytest.mark.parametrize("rounding", [smooth_round, round_through])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_shape_dtype_and_device_are_kept(rounding, dtype, device):
    x = grid(dtype).to(device)[:96].view(2, 48)
    y = rounding(x, alpha=0.1)
    assert (y.shape, y.dtype, y.device) == (x.shape, x.dtype, x.device)


@pytest.mark.parametrize("rounding", [smooth_round, round_through])
@pytest.mark.parametrize("alpha", [-0.1, 1.0, float("nan")])
def test_softness_outside_its_interval_is_refused(rounding, alpha):
    with pytest.raises(ValueError, match=rf"alpha must lie in \[0, 1\), got {alpha!r}"):
        rounding(grid(), alpha)

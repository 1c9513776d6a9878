"""Frequency consistency against scipy, its four normalizations and its laws."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from monai.bundle import ConfigParser
from torch import Tensor

from vafa_monai.frequency import block_dct
from vafa_monai.losses import FrequencyConsistencyLoss, frequency_consistency

NAMES = ["relative", "authors", "mean", "sum"]


def logits(*size: int) -> tuple[Tensor, Tensor]:
    """Logits of the adversarial and of the clean half."""
    adversarial, clean = torch.randn(2, *(size or (2, 3, 5, 4, 6)), generator=torch.Generator().manual_seed(0))
    return adversarial.double(), clean.double()


@pytest.mark.parametrize("name", NAMES)
def test_value_is_the_l1_distance_of_scipys_spectra(name, device):
    adversarial, clean = logits()
    spectra = [scipy.fft.dctn(half.numpy(), axes=(2, 3, 4), norm="ortho") for half in (adversarial, clean)]
    distance, norm = np.abs(spectra[0] - spectra[1]), np.abs(spectra[1]).sum()
    expected = {"sum": distance.sum(), "mean": distance.mean()}.get(name, distance.sum() / norm)
    value = frequency_consistency(adversarial.to(device), clean.to(device), name)
    torch.testing.assert_close(value.cpu(), torch.tensor(expected, dtype=torch.float64))


def test_blocks_are_transformed_one_by_one():
    adversarial, clean = logits(1, 2, 4, 6, 5)
    expected = block_dct(adversarial - clean, (4, 3, 5)).abs().sum()
    torch.testing.assert_close(frequency_consistency(adversarial, clean, "sum", block_size=(4, 3, 5)), expected)


def test_blocks_that_do_not_fit_see_repeated_voxels():
    adversarial, clean = logits(1, 1, 3, 4, 5)
    padded = [torch.cat([half, half[:, :, -1:]], dim=2) for half in (adversarial, clean)]
    expected = frequency_consistency(*padded, "mean", block_size=(4, 4, 5))
    torch.testing.assert_close(frequency_consistency(adversarial, clean, "mean", block_size=(4, 4, 5)), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 2.5])
def test_equal_constant_logits_are_consistent(name, value):
    constant = torch.full((1, 2, 4, 3, 5), value)
    assert frequency_consistency(constant, constant, name).item() == 0


@pytest.mark.parametrize("name", ["relative", "authors"])
def test_clean_logits_of_zero_give_a_finite_gradient(name):
    zero = torch.zeros(1, 2, 4, 3, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(frequency_consistency(zero, zero.detach(), name), zero)
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize(("name", "degree"), [("relative", 0), ("authors", 0), ("mean", 1), ("sum", 1)])
def test_scaling_both_halves_scales_by_the_degree(name, degree):
    adversarial, clean = logits()
    scaled = frequency_consistency(7 * adversarial, 7 * clean, name)
    torch.testing.assert_close(scaled, 7**degree * frequency_consistency(adversarial, clean, name))


@pytest.mark.parametrize("block_size", [None, (3, 1, 2)], ids=str)
@pytest.mark.parametrize("name", ["authors", "mean", "sum"])
def test_gradient_equals_finite_differences(name, block_size):
    halves = [half.requires_grad_() for half in logits(1, 2, 3, 1, 2)]
    assert torch.autograd.gradcheck(lambda a, b: frequency_consistency(a, b, name, block_size), halves)


def test_relative_does_not_reward_larger_clean_logits():
    adversarial, clean = logits()
    clean.requires_grad_()
    scale = block_dct(clean, clean.shape[2:]).abs().sum().detach()
    gradients = [
        torch.autograd.grad(frequency_consistency(adversarial, clean, name), clean)[0] for name in ("relative", "sum")
    ]
    torch.testing.assert_close(gradients[0], gradients[1] / scale)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float16, torch.float32), (torch.bfloat16, torch.float32), (torch.float64, torch.float64)],
    ids=str,
)
def test_half_precision_is_measured_in_single_precision(dtype, expected):
    adversarial, clean = (half.to(dtype) for half in logits())
    value = frequency_consistency(adversarial, clean)
    assert value.dtype == expected
    torch.testing.assert_close(value, frequency_consistency(adversarial.to(expected), clean.to(expected)))


def test_autocast_does_not_lower_the_precision(device):
    adversarial, clean = (half.float().to(device) for half in logits())
    expected = frequency_consistency(adversarial, clean)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        torch.testing.assert_close(frequency_consistency(adversarial, clean), expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_loss_from_json_equals_the_function(name):
    adversarial, clean = logits()
    config = {"_target_": "vafa_monai.losses.FrequencyConsistencyLoss", "normalization": name, "block_size": [5, 2, 3]}
    loss = ConfigParser({"loss": config}).get_parsed_content("loss")
    assert loss(adversarial, clean) == frequency_consistency(adversarial, clean, name, (5, 2, 3))


def test_probabilities_are_compared_if_asked_and_their_size_cannot_be_changed():
    adversarial, clean = logits()
    expected = frequency_consistency(adversarial.softmax(1), clean.softmax(1), "sum")
    loss = FrequencyConsistencyLoss("sum", softmax=True)
    torch.testing.assert_close(loss(adversarial, clean), expected)
    torch.testing.assert_close(loss(adversarial + 5, clean - 3), expected)
    with pytest.raises(ValueError, match="network must return one channel for each class"):
        loss(adversarial[:, :1], clean[:, :1])


def test_logits_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"target must .* of input \(2, 3, 5, 4, 6\), got \(2, 3, 5, 4, 5\)"):
        frequency_consistency(logits()[0], logits()[1][..., 1:])


def test_unknown_normalization_is_refused():
    with pytest.raises(ValueError, match="did you mean 'relative'"):
        frequency_consistency(*logits(), "relativ")
    with pytest.raises(ValueError, match="did you mean 'relative'"):
        FrequencyConsistencyLoss("relativ")

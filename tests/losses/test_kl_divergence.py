"""The divergence of two predictions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr, softmax

from vafa_monai.losses import KLDivergenceLoss, kl_divergence


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(2, 3, 4, 5, 6, generator=generator, dtype=torch.float64) for _ in range(2)]


def test_value_is_that_of_scipy(logits):
    attacked, clean = (softmax(one.numpy(), axis=1) for one in logits)
    expected = rel_entr(clean, attacked).sum(1).mean((1, 2, 3))
    np.testing.assert_allclose(kl_divergence(*logits).numpy(), expected, rtol=1e-12)


def test_equal_predictions_have_none_and_no_gradient(logits):
    attacked = logits[0].clone().requires_grad_()
    divergence = kl_divergence(attacked, logits[0] + 7)  # a constant changes no softmax
    (gradient,) = torch.autograd.grad(divergence.sum(), attacked)
    assert divergence.abs().max() < 1e-12
    assert gradient.abs().max() < 1e-12


def test_it_is_no_distance(logits):
    assert not torch.allclose(kl_divergence(*logits), kl_divergence(*logits[::-1]))


def test_gradient_is_right(logits):
    small = [one[:1, :, :2, :2, :1].clone().requires_grad_() for one in logits]
    assert torch.autograd.gradcheck(kl_divergence, small)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_face_reduces_over_the_batch(logits, reduction):
    found, samples = KLDivergenceLoss(reduction)(*logits), kl_divergence(*logits)
    torch.testing.assert_close(found, {"mean": samples.mean(), "sum": samples.sum(), "none": samples}[reduction])


def test_what_cannot_be_compared_is_refused(logits):
    with pytest.raises(
        ValueError, match=r"target must have the shape of input \(2, 3, 4, 5, 6\), got \(1, 3, 4, 5, 6\)"
    ):
        kl_divergence(logits[0], logits[1][:1])
    with pytest.raises(ValueError, match="network must return one channel for each class, background first, got 1"):
        kl_divergence(logits[0][:, :1], logits[1][:, :1])

"""The Jensen-Shannon divergence against scipy, and at its ends."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import jensenshannon

from vafa_monai.losses import jensen_shannon


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 4, 3, 2, 2, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 4, (2, 1, 3, 2, 2), generator=generator)


def test_it_equals_scipy(pair):
    logits, labels = pair
    predicted, truth = logits.softmax(1), F.one_hot(labels[:, 0], 4).movedim(-1, 1).double()
    divergence = jensenshannon(predicted.numpy(), truth.numpy(), axis=1) ** 2  # scipy has the distance, in nats
    np.testing.assert_allclose(jensen_shannon(logits, labels), divergence.mean((1, 2, 3)), rtol=1e-9)


def test_value_by_hand():
    """Probability 1/2: ln 2 + (ln(1/2) / 2 - 3/2 ln(3/2)) / 2."""
    value = jensen_shannon(torch.zeros(1, 2, 1, 1, 1), torch.zeros(1, 1, 1, 1, 1)).item()
    assert value == pytest.approx(math.log(2) + (-math.log(2) / 2 - 1.5 * math.log(1.5)) / 2)


def test_it_is_bounded_and_its_gradient_vanishes_at_both_ends(pair):
    _, labels = pair
    sure = 60.0 * F.one_hot(labels[:, 0], 4).movedim(-1, 1).double()
    for logits, value in ((sure, 0.0), (sure.roll(1, 1), math.log(2))):
        logits.requires_grad_()
        divergence = jensen_shannon(logits, labels)
        torch.testing.assert_close(divergence, torch.full_like(divergence, value), rtol=0, atol=1e-9)
        assert torch.autograd.grad(divergence.sum(), logits)[0].abs().max() < 1e-9


def test_balanced_divergence_is_the_mean_of_the_classes(pair):
    logits, labels = pair
    parts = []
    for label in range(4):
        chosen = logits[0][:, labels[0, 0] == label]
        parts.append(jensen_shannon(chosen.view(1, 4, -1, 1, 1), torch.full((1, 1, chosen.shape[1], 1, 1), label)))
    torch.testing.assert_close(jensen_shannon(logits, labels, balanced=True)[0], torch.cat(parts).mean())

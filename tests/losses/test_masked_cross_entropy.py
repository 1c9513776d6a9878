"""The masked cross entropy on voxels worked by hand."""

from __future__ import annotations

import math

import pytest
import torch

from vafa_monai.losses import MaskedCrossEntropyLoss, masked_cross_entropy

# Four voxels, classes 0 0 0 1: right, right, wrong, right. The true class has probability 3/4, 2/3, 1/5, 4/5.
ODDS = [3.0, 2.0, 0.25, 0.25]  # of class 0 against 1
LABELS = torch.tensor([0, 0, 0, 1]).view(1, 1, 1, 2, 2)


@pytest.fixture
def logits():
    first = torch.tensor(ODDS, dtype=torch.float64).log().view(1, 1, 1, 2, 2)
    return torch.cat([first, torch.zeros_like(first)], 1)


def test_only_right_voxels_count(logits):
    expected = (math.log(4 / 3) + math.log(3 / 2) + 0 + math.log(5 / 4)) / 4
    assert masked_cross_entropy(logits, LABELS).item() == pytest.approx(expected)


def test_balanced_loss_is_the_mean_of_the_classes(logits):
    expected = ((math.log(4 / 3) + math.log(3 / 2) + 0) / 3 + math.log(5 / 4)) / 2
    assert masked_cross_entropy(logits, LABELS, balanced=True).item() == pytest.approx(expected)


def test_targeted_loss_counts_the_voxels_that_are_not_there_yet(logits):
    assert masked_cross_entropy(logits, LABELS, targeted=True).item() == pytest.approx(math.log(5) / 4)


def test_gradient_is_that_of_the_cross_entropy_at_right_voxels_and_zero_elsewhere(logits):
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(masked_cross_entropy(logits, LABELS).sum(), logits)
    right = logits.softmax(1).gather(1, LABELS)
    expected = (right - 1) / 4 * torch.tensor([1.0, 1.0, 0.0, 1.0]).view_as(LABELS)
    torch.testing.assert_close(gradient.gather(1, LABELS), expected.detach())


def test_class_has_the_arguments_of_the_function(logits):
    loss = MaskedCrossEntropyLoss(balanced=True, targeted=True)
    torch.testing.assert_close(loss(logits, LABELS), masked_cross_entropy(logits, LABELS, True, True)[0])


def test_balanced_loss_has_a_balanced_harm(logits):
    """Probabilities of a wrong class: 1/4, 1/3 and 4/5 for class 0, 1/5 for class 1."""
    plain, balanced = (MaskedCrossEntropyLoss(balanced=b).harm(logits, LABELS).item() for b in (False, True))
    assert plain == pytest.approx((1 / 4 + 1 / 3 + 4 / 5 + 1 / 5) / 4)
    assert balanced == pytest.approx(((1 / 4 + 1 / 3 + 4 / 5) / 3 + 1 / 5) / 2)

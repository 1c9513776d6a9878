"""The margin on voxels worked by hand."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.losses import margin

LOGITS = torch.tensor([[3.0, 0.0, 1.0], [1.0, 2.0, 2.5], [0.0, 4.0, 2.0]]).view(1, 3, 1, 1, 3)
LABELS = torch.tensor([0, 1, 1]).view(1, 1, 1, 1, 3)


def test_margin_is_the_best_wrong_logit_minus_the_true_one():
    """1 - 3, 4 - 2 and 2 - 2.5."""
    assert margin(LOGITS, LABELS).item() == pytest.approx((-2 + 2 - 0.5) / 3)


def test_balanced_margin_is_the_mean_of_the_classes():
    assert margin(LOGITS, LABELS, balanced=True).item() == pytest.approx((-2 + (2 - 0.5) / 2) / 2)


def test_its_sign_tells_wrong_voxels_from_right_ones():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 4, 5, 4, 3, generator=generator)
    labels = torch.randint(0, 4, (1, 1, 5, 4, 3), generator=generator)
    for voxel, label in zip(logits.flatten(2).unbind(2), labels.flatten().tolist(), strict=True):
        value = margin(voxel.view(1, 4, 1, 1, 1), torch.full((1, 1, 1, 1, 1), label))
        assert (value > 0) == (voxel.argmax() != label)


def test_gradient_pushes_one_logit_up_and_one_down():
    logits = LOGITS.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(margin(logits, LABELS).sum(), logits)
    expected = torch.tensor([[-1.0, 0.0, 0.0], [1.0, -1.0, -1.0], [0.0, 1.0, 1.0]]).view_as(logits) / 3
    torch.testing.assert_close(gradient, expected)


def test_margin_of_a_sure_voxel_still_has_a_gradient():
    """Where that of the cross entropy is rounded to 0."""
    logits = (1e4 * LOGITS).requires_grad_()
    assert torch.autograd.grad(margin(logits, LABELS).sum(), logits)[0].abs().sum() == pytest.approx(2)

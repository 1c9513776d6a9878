"""The weights of SegPGD and CosPGD on voxels worked by hand, and what they do to a gradient."""

from __future__ import annotations

import math

import pytest
import torch

from vafa_monai.losses import CosPGDLoss, SegPGDLoss, cospgd_weight, segpgd_weight
from vafa_monai.losses.voxel_loss import voxel_cross_entropy

# Three voxels whose softmax is (6, 3, 1) / 10, with true class 0, 1 and 2: the first is right.
LOGITS = torch.tensor([6.0, 3.0, 1.0], dtype=torch.float64).log().view(1, 3, 1, 1, 1).expand(1, 3, 1, 1, 3)
LABELS = torch.tensor([0, 1, 2]).view(1, 1, 1, 1, 3)


@pytest.mark.parametrize(
    ("step", "steps", "right", "wrong"),
    [(1, 10, 1.0, 0.0), (2, 10, 0.95, 0.05), (6, 10, 0.75, 0.25), (10, 10, 0.55, 0.45), (1, 1, 1.0, 0.0)],
)
def test_segpgd_weighs_by_one_half_of_the_steps_taken(step, steps, right, wrong):
    """Step t of T: lambda = (t - 1) / 2T."""
    progress = (step - 1) / steps
    weights = segpgd_weight(LOGITS, LABELS, progress).flatten().tolist()
    assert weights == pytest.approx([right, wrong, wrong])
    targeted = segpgd_weight(LOGITS, LABELS, progress, targeted=True).flatten().tolist()
    assert targeted == pytest.approx([wrong, right, right])


def test_cospgd_weighs_by_the_cosine_of_softmax_and_one_hot():
    length = math.sqrt(36 + 9 + 1)
    assert cospgd_weight(LOGITS, LABELS).flatten().tolist() == pytest.approx([6 / length, 3 / length, 1 / length])
    targeted = cospgd_weight(LOGITS, LABELS, targeted=True).flatten().tolist()
    assert targeted == pytest.approx([1 - 6 / length, 1 - 3 / length, 1 - 1 / length])


def test_cospgd_can_take_the_sigmoid():
    """The sigmoid of ln(x) is x / (1 + x): 6/7, 3/4, 1/2."""
    length = math.sqrt((6 / 7) ** 2 + (3 / 4) ** 2 + (1 / 2) ** 2)
    weights = cospgd_weight(LOGITS, LABELS, "sigmoid").flatten().tolist()
    assert weights == pytest.approx([6 / 7 / length, 3 / 4 / length, 1 / 2 / length])


@pytest.mark.parametrize("likeness", ["softmax", "sigmoid"])
def test_cospgd_weight_equals_the_cosine_similarity_of_torch(likeness):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 3, 2, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (2, 1, 3, 2, 5), generator=generator)
    truth = torch.nn.functional.one_hot(labels[:, 0], 4).movedim(-1, 1).double()
    predicted = getattr(torch, likeness)(logits, *([1] if likeness == "softmax" else []))
    expected = torch.nn.functional.cosine_similarity(predicted, truth, dim=1)
    torch.testing.assert_close(cospgd_weight(logits, labels, likeness), expected)


LOSSES = [
    (SegPGDLoss(0.5), lambda x, y: segpgd_weight(x, y, 0.5)),
    (SegPGDLoss(0.5, targeted=True), lambda x, y: segpgd_weight(x, y, 0.5, targeted=True)),
    (CosPGDLoss(), cospgd_weight),
    (CosPGDLoss("sigmoid", targeted=True), lambda x, y: cospgd_weight(x, y, "sigmoid", targeted=True)),
]


@pytest.mark.parametrize(("loss", "weigh"), LOSSES, ids=["seg", "seg targeted", "cos", "cos targeted"])
def test_loss_and_gradient_are_those_of_fixed_weights_voxel_by_voxel(loss, weigh):
    logits = LOGITS.clone().requires_grad_()
    weights = weigh(logits, LABELS)
    assert not weights.requires_grad
    expected = (weights * voxel_cross_entropy(logits, LABELS)).mean()
    torch.testing.assert_close(loss(logits, LABELS), expected)
    gradients = [torch.autograd.grad(value, logits)[0] for value in (loss(logits, LABELS), expected)]
    torch.testing.assert_close(*gradients)


def test_segpgd_loss_moves_on():
    loss = SegPGDLoss(targeted=True, reduction="sum").at(0.75)
    assert (loss.progress, loss.targeted, loss.reduction) == (0.75, True, "sum")


@pytest.mark.parametrize("progress", [-0.1, 1.1, float("nan")])
def test_progress_outside_the_attack_is_refused(progress):
    with pytest.raises(ValueError, match=r"progress must lie in \[0, 1\], got"):
        SegPGDLoss(progress)
    with pytest.raises(ValueError, match=r"progress must lie in \[0, 1\], got"):
        segpgd_weight(LOGITS, LABELS, progress)


def test_unknown_likeness_is_refused():
    with pytest.raises(ValueError, match="did you mean 'softmax'"):
        CosPGDLoss("softmx")

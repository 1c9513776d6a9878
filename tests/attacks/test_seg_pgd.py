"""What only SegPGD does: its weights move with the steps."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks import PGD, SegPGD
from vafa_monai.losses import MaskedCrossEntropyLoss, SegPGDLoss, segpgd_weight
from vafa_monai.losses.voxel_loss import voxel_cross_entropy


def by_hand(inputs, targets, network, *, eps, steps, targeted=False):
    """Algorithm 1 of the paper, one line after the other, from the clean volume."""
    step_size, adv = 2.5 * eps / steps, inputs
    for step in range(1, steps + 1):
        adv = adv.detach().requires_grad_()
        logits = network(adv)
        share = (step - 1) / (2 * steps)
        right = logits.argmax(1, keepdim=True) == targets
        first, second = (share, 1 - share) if targeted else (1 - share, share)
        loss = (torch.where(right, first, second)[:, 0] * voxel_cross_entropy(logits, targets)).sum()
        (gradient,) = torch.autograd.grad(loss, adv)
        moved = adv + (-1 if targeted else 1) * step_size * gradient.sign()
        adv = torch.clamp(torch.min(torch.max(moved, inputs - eps), inputs + eps), 0, 1)
    return adv.detach()


@pytest.mark.parametrize("targeted", [False, True])
def test_it_is_the_algorithm_of_the_paper(targeted, cases, trained_network):
    inputs, targets = cases
    goal = 2 - targets if targeted else targets
    adv = SegPGD(eps=0.05, steps=5, targeted=targeted)(inputs, goal, trained_network)
    expected = by_hand(inputs, goal, trained_network, eps=0.05, steps=5, targeted=targeted)
    assert torch.isclose(adv, expected, rtol=0, atol=1e-6).float().mean() > 0.999  # signs of tiny gradients may differ


def test_first_step_sees_right_voxels_only(cases, trained_network):
    settings = {"eps": 0.05, "steps": 1, "step_size": 0.05}
    masked = PGD(loss_function=MaskedCrossEntropyLoss(), **settings)(*cases, trained_network)
    assert torch.equal(SegPGD(**settings)(*cases, trained_network), masked)


def test_weights_are_those_of_the_moment(volume, label, tiny_network):
    seen = []

    def network(inputs):
        seen.append(tiny_network(inputs).detach())
        return tiny_network(inputs)

    attack = SegPGD(steps=4)
    objective = attack.objective(label, network)
    values = [objective.judge(volume, step).value for step in range(4)]
    for step, (value, logits) in enumerate(zip(values, seen, strict=True)):
        weights = segpgd_weight(logits, label, step / 4)
        torch.testing.assert_close(value, (weights * voxel_cross_entropy(logits, label)).mean((1, 2, 3)))


def test_loss_is_not_a_setting():
    with pytest.raises(TypeError, match="loss_function"):
        SegPGD(loss_function=SegPGDLoss())


def test_best_iterate_has_the_most_probability_of_a_wrong_class(cases, trained_network):
    inputs, targets = cases
    settings = {"eps": 0.2, "step_size": 0.2}
    best = SegPGD(iterate="best", steps=6, **settings).run(inputs, targets, trained_network)
    with torch.no_grad():
        harm = SegPGDLoss().harm(trained_network(best.adv), targets)
    torch.testing.assert_close(best.objective, harm)
    last = SegPGD(steps=6, **settings)(inputs, targets, trained_network)
    assert (SegPGDLoss().harm(trained_network(last), targets) <= harm + 1e-6).all()

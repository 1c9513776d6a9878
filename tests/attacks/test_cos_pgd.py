"""What only CosPGD does: every voxel has a weight of its own, which no gradient flows through."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vafa_monai.attacks import CosPGD
from vafa_monai.losses import CosPGDLoss
from vafa_monai.losses.voxel_loss import voxel_cross_entropy


def by_hand(inputs, targets, network, *, eps, steps, targeted=False):
    """The algorithm of the paper, one line after the other, from the clean volume."""
    step_size, adv = 2.5 * eps / steps, inputs
    for _ in range(steps):
        adv = adv.detach().requires_grad_()
        logits = network(adv)
        truth = F.one_hot(targets[:, 0], logits.shape[1]).movedim(-1, 1).float()
        cosine = F.cosine_similarity(logits.softmax(1), truth, dim=1).detach()
        weights = 1 - cosine if targeted else cosine
        (gradient,) = torch.autograd.grad((weights * voxel_cross_entropy(logits, targets)).sum(), adv)
        moved = adv + (-1 if targeted else 1) * step_size * gradient.sign()
        adv = torch.clamp(torch.min(torch.max(moved, inputs - eps), inputs + eps), 0, 1)
    return adv.detach()


@pytest.mark.parametrize("targeted", [False, True])
def test_it_is_the_algorithm_of_the_paper(targeted, cases, trained_network):
    inputs, targets = cases
    goal = 2 - targets if targeted else targets
    adv = CosPGD(eps=0.05, steps=5, targeted=targeted)(inputs, goal, trained_network)
    expected = by_hand(inputs, goal, trained_network, eps=0.05, steps=5, targeted=targeted)
    assert torch.isclose(adv, expected, rtol=0, atol=1e-6).float().mean() > 0.999  # signs of tiny gradients may differ


def test_likeness_reaches_the_loss(cases, trained_network):
    softmax, sigmoid = (CosPGD(steps=3, likeness=likeness) for likeness in ("softmax", "sigmoid"))
    assert (softmax.loss_function.likeness, sigmoid.loss_function.likeness) == ("softmax", "sigmoid")
    assert not torch.equal(softmax(*cases, trained_network), sigmoid(*cases, trained_network))


def test_targeted_attack_reaches_its_goal_where_it_is_free_to(cases, trained_network):
    inputs, targets = cases
    goal = 2 - targets
    adv = CosPGD(eps=1.0, steps=40, targeted=True, iterate="best")(inputs, goal, trained_network)
    with torch.no_grad():
        before, after = ((trained_network(v).argmax(1, keepdim=True) == goal).float().mean() for v in (inputs, adv))
    assert after > 0.8 > 0.5 > before


def test_best_iterate_has_the_most_probability_of_a_wrong_class(cases, trained_network):
    inputs, targets = cases
    best = CosPGD(iterate="best", steps=6, eps=0.2, step_size=0.2).run(inputs, targets, trained_network)
    with torch.no_grad():
        torch.testing.assert_close(best.objective, CosPGDLoss().harm(trained_network(best.adv), targets))


def test_loss_is_not_a_setting():
    with pytest.raises(TypeError, match="loss_function"):
        CosPGD(loss_function=CosPGDLoss())


def test_unknown_likeness_is_refused():
    with pytest.raises(ValueError, match="did you mean 'sigmoid'"):
        CosPGD(likeness="sigmod")

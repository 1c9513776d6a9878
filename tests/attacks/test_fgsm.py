"""What only FGSM does: one step along the sign of the gradient."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks import FGSM, PGD
from vafa_monai.losses import dice_ce


@pytest.mark.parametrize("targeted", [False, True])
def test_it_is_one_step_of_eps_along_the_sign_of_the_gradient(targeted, volume, label, tiny_network):
    inputs = volume.clone().requires_grad_()
    loss = sum(dice_ce()(tiny_network(inputs[i : i + 1]), label[i : i + 1]) for i in range(2))
    (gradient,) = torch.autograd.grad(loss, inputs)
    expected = (volume + (-0.1 if targeted else 0.1) * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(FGSM(eps=0.1, targeted=targeted)(volume, label, tiny_network), expected)


def test_it_is_pgd_of_one_step(volume, label, tiny_network):
    expected = PGD(eps=0.1, steps=1, step_size=0.1)(volume, label, tiny_network)
    assert torch.equal(FGSM(eps=0.1)(volume, label, tiny_network), expected)


@pytest.mark.parametrize("setting", [{"steps": 2}, {"steps": 0}, {"step_size": 0.01}], ids=str)
def test_what_is_no_single_step_of_eps_is_refused(setting):
    with pytest.raises(ValueError, match="steps must be 1 and step_size eps for FGSM, got "):
        FGSM(**setting)

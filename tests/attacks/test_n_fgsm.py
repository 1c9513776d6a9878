"""What only N-FGSM does: one step from a noise that nothing projects back."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks import NFGSM
from vafa_monai.losses import dice_ce


@pytest.fixture
def inputs(volume):
    return 0.3 + 0.4 * volume  # nothing is clipped


def test_it_is_the_algorithm_written_out(inputs, label, tiny_network):
    """De Jorge et al., Algorithm 1: uniform noise of k = 2 eps, then a step of 1.25 eps along the sign."""
    attack = NFGSM(eps=0.02, seed=3)
    draw = torch.rand(inputs.shape[1:], generator=torch.Generator().manual_seed(3))
    start = (inputs + 0.04 * (2 * draw - 1)).requires_grad_()
    loss = sum(dice_ce()(tiny_network(start[i : i + 1]), label[i : i + 1]) for i in range(len(inputs)))
    (gradient,) = torch.autograd.grad(loss, start)
    torch.testing.assert_close(attack(inputs, label, tiny_network), start.detach() + 0.025 * gradient.sign())


def test_some_voxels_leave_the_ball_of_eps_and_none_the_reach(inputs, label, tiny_network):
    attack = NFGSM(eps=0.02)
    change = (attack(inputs, label, tiny_network) - inputs).abs()
    assert attack.reach == pytest.approx(0.065)
    assert 0.95 * attack.reach < change.max() <= attack.reach + 1e-6  # float32


def test_without_noise_it_is_one_step(inputs, label, tiny_network):
    change = NFGSM(eps=0.02, noise=0, step_size=0.01)(inputs, label, tiny_network) - inputs
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.01))


def test_strength_may_be_in_gray_levels():
    assert NFGSM(eps="4 gray").step_size == pytest.approx(5 / 255)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"steps": 2}, "steps must be 1 and random_start True for NFGSM, got 2 and True; use PGD"),
        ({"random_start": False}, "steps must be 1 and random_start True for NFGSM, got 1 and False; use PGD"),
        ({"noise": -1}, "noise must be at least 0 and finite, got -1"),
    ],
    ids=str,
)
def test_what_is_another_attack_is_refused(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        NFGSM(**setting)

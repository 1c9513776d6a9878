"""What only PGD does: steps in the ball, its random start, its iterate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vafa_monai.attacks import PGD
from vafa_monai.losses import dice_ce

CROSS_ENTROPY = torch.nn.functional.cross_entropy


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return CROSS_ENTROPY(logits, targets[:, 0])


@pytest.fixture
def threshold() -> nn.Module:
    """Bright voxels are class 1: the loss of class 1 rises downwards, that of class 0 upwards."""
    network = nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1))
    return network


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_a_monotone_network_is_attacked_in_closed_form(targeted, steps, volume, label, threshold):
    truth = label.clamp_max(1)
    uphill = (1 - 2 * truth) * (-1 if targeted else 1)
    attack = PGD(loss_function=cross_entropy, eps=0.1, steps=steps, targeted=targeted)
    torch.testing.assert_close(attack(volume, truth, threshold), (volume + 0.1 * uphill).clamp(0, 1))


@pytest.mark.parametrize(("step_size", "reach"), [(0.01, 0.03), (0.04, 0.1), (None, 0.1)])
def test_steps_add_up_until_the_ball_ends(step_size, reach, volume, label, threshold):
    attack = PGD(loss_function=cross_entropy, eps=0.1, step_size=step_size, steps=3)
    change = attack(0.2 + 0.6 * volume, label.clamp_max(1), threshold) - (0.2 + 0.6 * volume)
    torch.testing.assert_close(change.abs(), torch.full_like(change, reach), rtol=0, atol=1e-6)  # float32


def test_default_step_size_is_two_and_a_half_eps_over_the_steps(volume, label, tiny_network):
    default, spelled = PGD(eps=0.1, steps=5), PGD(eps=0.1, steps=5, step_size=2.5 * 0.1 / 5)
    assert torch.equal(default(volume, label, tiny_network), spelled(volume, label, tiny_network))


def test_random_start_is_a_point_of_the_ball_that_the_seed_decides(volume, label, tiny_network):
    inputs = 0.2 + 0.6 * volume
    start, again, other = (PGD(eps=0.1, steps=0, random_start=True, seed=seed) for seed in (1, 1, 2))
    offset = start(inputs, label, tiny_network) - inputs
    assert offset.abs().max() <= 0.1 + 1e-6
    assert offset.square().mean().sqrt() == pytest.approx(0.1 / 3**0.5, rel=0.1)  # uniform; 594 voxels a sample
    assert offset.mean().abs() < 0.01  # 4 standard errors: the noise is the same for both samples
    assert torch.equal(start(inputs, label, tiny_network), again(inputs, label, tiny_network))
    assert not torch.equal(start(inputs, label, tiny_network), other(inputs, label, tiny_network))


def test_random_start_is_the_same_for_every_sample(volume, label, tiny_network):
    inputs = 0.2 + 0.6 * volume
    first, second = PGD(steps=0, random_start=True)(inputs, label, tiny_network) - inputs
    torch.testing.assert_close(first, second, rtol=0, atol=1e-6)  # float32


# The L2 ball


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("steps", [1, 7])
def test_a_linear_network_is_attacked_in_closed_form_in_l2(targeted, steps, volume, label):
    """Along the weights of the loss, to the edge of the ball."""
    weights = torch.randn(volume.shape[1:], generator=torch.Generator().manual_seed(0))
    inputs, sign = 0.3 + 0.4 * volume, -1 if targeted else 1

    def loss(logits, _):
        return (logits * weights).sum()

    attack = PGD(loss_function=loss, eps=0.02, norm="l2", steps=steps, targeted=targeted)
    expected = inputs + sign * 0.02 * weights / weights.square().mean().sqrt()
    torch.testing.assert_close(attack(inputs, 0 * label, lambda volumes: volumes), expected)


def test_random_start_in_l2_is_at_the_edge_of_the_ball(volume, label, tiny_network):
    inputs = 0.3 + 0.4 * volume
    start, other = (PGD(eps=0.02, norm="l2", steps=0, random_start=True, seed=seed) for seed in (1, 2))
    change = start(inputs, label, tiny_network) - inputs
    torch.testing.assert_close(change.square().mean((1, 2, 3, 4)).sqrt(), torch.full((2,), 0.02))
    assert change.abs().max() > 2 * 0.02  # normal, not uniform
    torch.testing.assert_close(change[0], change[1], rtol=0, atol=1e-6)  # float32
    assert not torch.equal(start(inputs, label, tiny_network), other(inputs, label, tiny_network))


def test_default_step_in_l2_can_cross_the_ball(volume, label, tiny_network):
    default, spelled = (PGD(eps=0.1, steps=5, norm="l2", step_size=size) for size in (None, 2.5 * 0.1 / 5))
    assert torch.equal(default(volume, label, tiny_network), spelled(volume, label, tiny_network))


def test_best_iterate_is_at_least_as_good_as_every_other(volume, label, tiny_network):
    settings = {"eps": 0.5, "step_size": 0.5, "steps": 4}  # large steps overshoot
    best = PGD(iterate="best", **settings).run(volume, label, tiny_network)
    for steps in range(5):
        adv = PGD(**{**settings, "steps": steps})(volume, label, tiny_network)
        with torch.no_grad():
            loss = [dice_ce()(tiny_network(a[None]), t[None]).item() for a, t in zip(adv, label, strict=True)]
        assert (best.objective >= torch.tensor(loss) - 1e-6).all()  # float32


def test_one_step_from_the_clean_volume_is_evaluated_at_the_clean_volume(volume, label, tiny_network):
    found = PGD(steps=1, iterate="last_evaluated").run(volume, label, tiny_network)
    assert torch.equal(found.adv, volume)
    assert not torch.equal(found.adv.add_(1), volume)  # no view of the inputs


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"eps": -0.1}, ValueError, r"eps must be at least 0 and finite, got -0\.1"),
        ({"eps": float("inf")}, ValueError, "eps must be at least 0 and finite, got inf"),
        ({"eps": "4/255"}, TypeError, "eps must be a number, got '4/255'"),
        ({"step_size": -1}, ValueError, "step_size must be at least 0 and finite, got -1"),
        ({"steps": -1}, ValueError, "steps must be at least 0, got -1"),
        ({"steps": True}, TypeError, "steps must be a whole number, got True"),
        ({"iterate": "bst"}, ValueError, "did you mean 'best'"),
        ({"norm": "l3"}, ValueError, "'l3'"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, error, match):
    with pytest.raises(error, match=match):
        PGD(**setting)

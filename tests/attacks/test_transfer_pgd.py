"""What only TransferPGD does: momentum, input diversity, and harm to a network it never met."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vafa_monai.attacks import PGD, TransferPGD
from vafa_monai.attacks.norm import MomentumMove
from vafa_monai.attacks.transfer_pgd import DiverseObjective, seen_differently
from vafa_monai.losses import dice_ce


class Plane:
    """Nothing is projected."""

    @staticmethod
    def project(variable):
        return variable


# Momentum


def test_gradients_add_up_in_units_of_their_mean_absolute_value():
    """First (2, -2) / 2, then (-3, -9) / 6 with half of the first: (0, -2); its sign is (0, -1)."""
    move = MomentumMove(Plane, step_size=1.0, decay=0.5)
    score = torch.zeros(1)
    start = torch.zeros(1, 2)
    first = move(start, torch.tensor([[2.0, -2.0]]), score)
    second = move(first, torch.tensor([[-3.0, -9.0]]), score)
    assert first.tolist() == [[1.0, -1.0]]
    assert move.sum.tolist() == [[0.0, -2.0]]
    assert second.tolist() == [[1.0, -2.0]]


def test_samples_have_momentum_of_their_own_and_no_gradient_is_no_trouble():
    move = MomentumMove(Plane, step_size=1.0)
    moved = move(torch.zeros(2, 2), torch.tensor([[0.0, 0.0], [1e-30, -1e-30]]), torch.zeros(2))
    assert moved.tolist() == [[0.0, 0.0], [1.0, -1.0]]


def test_without_momentum_and_diversity_it_is_pgd(cases, trained_network):
    plain = PGD(steps=5)(*cases, trained_network)
    assert torch.equal(TransferPGD(steps=5, momentum=0, diversity=0)(*cases, trained_network), plain)
    assert not torch.equal(TransferPGD(steps=5, diversity=0)(*cases, trained_network), plain)


# Input diversity


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
@pytest.mark.parametrize("place", [0.0, 0.4, 1.0])
def test_network_sees_an_interpolated_volume_in_a_frame(share, place, volume):
    seen = []
    seen_differently(lambda inputs: seen.append(inputs) or inputs, volume, share, place, fill=-7.0)
    size = [-int(-share * edge // 1) for edge in volume.shape[2:]]
    start = [round(place * (edge - small)) for edge, small in zip(volume.shape[2:], size, strict=True)]
    inside = tuple(slice(first, first + small) for first, small in zip(start, size, strict=True))
    expected = torch.full_like(volume, -7.0)
    expected[(..., *inside)] = F.interpolate(volume, size=size, mode="trilinear")
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_logits_come_back_to_their_voxels(share, volume):
    """Shrunk and enlarged again, from wherever it lay; a volume that is linear along every axis stays itself inside."""
    logits = [seen_differently(lambda inputs: inputs, volume, share, place, fill=0.0) for place in (0.0, 1.0)]
    small = F.interpolate(volume, size=[-int(-share * edge // 1) for edge in volume.shape[2:]], mode="trilinear")
    expected = F.interpolate(small, size=volume.shape[2:], mode="trilinear")
    for logit in logits:
        torch.testing.assert_close(logit, expected)


def test_share_of_steps_that_see_it_shrunk_is_the_probability(volume, label, tiny_network):
    whole = tiny_network(volume)
    objective = DiverseObjective(dice_ce(), label, tiny_network, probability=0.3, least_share=0.5)
    changed = [not torch.equal(objective.predict(volume, step), whole) for step in range(200)]
    assert 0.2 < sum(changed) / 200 < 0.4


def test_draws_depend_on_seed_and_step_only(volume, label, tiny_network):
    first, same, other = (
        DiverseObjective(dice_ce(), label, tiny_network, probability=1.0, least_share=0.5, seed=seed)
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.predict(volume, 3), same.predict(volume, 3))
    assert not torch.equal(first.predict(volume, 3), first.predict(volume, 4))
    assert not torch.equal(first.predict(volume, 3), other.predict(volume, 3))
    assert not torch.equal(first.predict(volume, 4), other.predict(volume, 3))


def test_frame_is_the_lowest_intensity(volume, label):
    seen = []
    attack = TransferPGD(steps=1, diversity=1, least_share=0.5, value_range=(-1000.0, 1000.0))

    def network(inputs):
        seen.append(inputs.detach())
        return torch.cat([inputs, -inputs, 0 * inputs], 1) / 1000

    attack(100 * volume, label, network)
    assert seen[0].min() == -1000


# Transfer


def test_perturbation_of_one_network_harms_another(cases, trained_network, other_network):
    """Against noise of the same size; and less than the other network's own perturbation does."""
    inputs, targets = cases
    settings = {"eps": 0.05, "steps": 10}

    def loss(volume):
        with torch.no_grad():
            return dice_ce()(other_network(volume), targets).item()

    transferred = TransferPGD(**settings)(inputs, targets, trained_network)
    rms = (transferred - inputs).square().mean().sqrt()
    noise = torch.randn(10, *inputs.shape, generator=torch.Generator().manual_seed(0))
    noisy = torch.tensor([loss(inputs + rms * n) for n in noise])
    assert loss(transferred) > noisy.mean() + 5 * noisy.std()
    assert loss(transferred) < loss(PGD(**settings)(inputs, targets, other_network))


@pytest.mark.parametrize(
    ("setting", "match"),
    [
        ({"momentum": 1.1}, r"momentum must be at most 1, got 1\.1"),
        ({"momentum": -1}, "momentum must be at least 0 and finite, got -1"),
        ({"diversity": 2}, "diversity must be at most 1, got 2"),
        ({"least_share": 0}, "least_share must be positive, got 0"),
        ({"least_share": 1.5}, r"least_share must be at most 1, got 1\.5"),
        ({"iterate": "best"}, "iterate must not be .best. for TransferPGD"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, match):
    with pytest.raises(ValueError, match=match):
        TransferPGD(**setting)

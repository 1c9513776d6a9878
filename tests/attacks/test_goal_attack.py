"""Attacks with an anatomical target: what they achieve, and the promises of every attack."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from vafa_monai.attacks import (
    APGD,
    PGD,
    VAFA,
    CosPGD,
    EraseOrgan,
    FrequencyPGD,
    GaussianNoise,
    GoalAttack,
    GrowOrgan,
    ShrinkOrgan,
    SquareAttack,
    SwapOrgans,
    describe,
)

TARGETED = {
    "pgd": PGD(steps=3, targeted=True),
    "apgd": APGD(steps=5, targeted=True),
    "cos_pgd": CosPGD(steps=3, targeted=True),
    "frequency_pgd": FrequencyPGD(steps=3, block_size=(4, 3, 5), targeted=True),
    "vafa": VAFA(steps=3, block_size=(4, 3, 5), targeted=True),
    "square": SquareAttack(queries=10, targeted=True),
}
GOAL = EraseOrgan(organ=1)

every_attack = pytest.mark.parametrize("attack", TARGETED.values(), ids=TARGETED)


def told(found):
    return [one["goal"] for one in found.details()]


@pytest.mark.parametrize(
    "goal",
    [EraseOrgan(organ=1), SwapOrgans(first=1, second=2), GrowOrgan(organ=1, voxels=1), ShrinkOrgan(organ=2, voxels=1)],
    ids=lambda goal: type(goal).__name__,
)
@pytest.mark.parametrize("source", ["label", "prediction"])
def test_large_budget_reaches_the_goal(goal, source, cases, trained_network):
    attack = GoalAttack(attack=APGD(eps=0.5, steps=40, targeted=True), goal=goal, source=source)
    for one in told(attack.run(*cases, trained_network)):
        assert not one["objection"]
        assert one["reached_before"] < 0.3
        assert one["reached"] > 0.8
        assert one["collateral"] < 0.3


def test_figures_are_those_of_the_predictions(cases, trained_network):
    inputs, targets = cases
    found = GoalAttack(attack=PGD(eps=0.1, targeted=True), goal=GOAL).run(inputs, targets, trained_network)
    with torch.no_grad():
        before, after = (trained_network(volume).argmax(1, keepdim=True) for volume in (inputs, found.adv))
    for sample, one in enumerate(told(found)):
        organ = targets[sample] == 1  # what erasing it changes
        gone = (after[sample][organ] == GOAL(targets)[sample][organ]).float().mean().item()
        others = (after[sample][~organ] != before[sample][~organ]).float().mean().item()
        assert one["reached"] == pytest.approx(gone, abs=1e-6)
        assert one["collateral"] == pytest.approx(others, abs=1e-6)
        assert one["voxels"] == organ.sum()
        counts = {"before": (before[sample] == 1).sum(), "after": (after[sample] == 1).sum(), "goal": 0}
        assert one["organ_voxels"] == counts


def test_sample_without_the_organ_is_left_as_it_is(cases, trained_network):
    inputs, targets = cases
    targets = targets.clone()
    targets[1] = targets[1].masked_fill(targets[1] == 1, 0)
    found = GoalAttack(attack=PGD(eps=0.1, targeted=True), goal=GOAL).run(inputs, targets, trained_network)
    assert torch.equal(found.adv[1], inputs[1])
    assert [one["objection"] for one in told(found)] == ["", "class 1 is absent", "", ""]
    assert told(found)[1]["reached"] is None
    assert all((adv != volume).any() for adv, volume in zip(found.adv[[0, 2, 3]], inputs[[0, 2, 3]], strict=True))


def test_goal_of_the_prediction_needs_no_labels(cases, trained_network):
    attack = GoalAttack(attack=PGD(eps=0.1, targeted=True), goal=GOAL, source="prediction")
    inputs, targets = cases
    assert torch.equal(attack(inputs, targets, trained_network), attack(inputs, 0 * targets, trained_network))


@every_attack
def test_it_is_the_targeted_attack_on_the_goal(attack, volume, label, tiny_network):
    goal = GoalAttack(attack=attack, goal=GOAL)
    assert torch.equal(goal(volume, label, tiny_network), attack(volume, GOAL(label), tiny_network))


@every_attack
def test_second_call_is_the_first_and_the_network_is_left_as_it_was(attack, volume, label, normalized_network):
    network, goal = normalized_network.train(), GoalAttack(attack=attack, goal=GOAL)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    adv = goal(volume, label, network)
    torch.rand(7)
    assert torch.equal(goal(volume, label, network), adv)
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert all(part.grad is None and part.requires_grad for part in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shape_dtype_range_and_metadata_are_those_of_the_inputs(dtype, volume, label, tiny_network):
    inputs = MetaTensor(volume.to(dtype), affine=torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0], dtype=torch.float64)))
    goal = GoalAttack(attack=TARGETED["pgd"], goal=GOAL)
    adv = goal(inputs, MetaTensor(label.float()), tiny_network.to(dtype))
    assert (adv.shape, adv.dtype, adv.requires_grad) == (inputs.shape, dtype, False)
    assert adv.min() >= 0
    assert adv.max() <= 1
    assert torch.equal(adv.affine, inputs.affine)


def region_network(volume):
    """Two regions that overlap: what is bright, and what is very bright."""
    return 20 * torch.cat([volume - 0.4, volume - 0.6], 1)


@pytest.mark.parametrize("goal", [EraseOrgan(organ=1), GrowOrgan(organ=0, voxels=1), SwapOrgans(first=0, second=1)])
@pytest.mark.parametrize("source", ["label", "prediction"])
def test_goals_of_regions_that_overlap_are_reached_channel_by_channel(goal, source, cases):
    inputs = cases[0]
    regions = torch.cat([inputs > 0.4, inputs > 0.6], 1)
    attack = GoalAttack(attack=APGD(eps=0.5, steps=20, targeted=True, output="sigmoid"), goal=goal, source=source)
    found = attack.run(inputs, regions, region_network)
    wanted, after = goal(regions.long(), "sigmoid"), (region_network(found.adv) > 0).long()
    for sample, one in enumerate(told(found)):
        changed = wanted[sample] != regions[sample]
        assert one["voxels"] == changed.sum()
        assert one["reached_before"] == 0
        assert one["reached"] == pytest.approx(
            (after[sample] == wanted[sample])[changed].float().mean().item(), abs=1e-6
        )
        assert one["organ_voxels"]["goal"] == wanted[sample][list(goal.organs)].any(0).sum()
    if not isinstance(goal, SwapOrgans):  # no volume has the smaller region around the larger one
        assert all(one["reached"] > 0.8 for one in told(found))


def test_it_is_built_from_json_and_described_with_its_goal():
    config = {
        "goal": {"_target_": "vafa_monai.attacks.EraseOrgan", "organ": 1, "replacement": None},
        "attack": {"_target_": "vafa_monai.attacks.PGD", "steps": 3, "targeted": True},
        "all": {"_target_": "vafa_monai.attacks.GoalAttack", "attack": "@attack", "goal": "@goal"},
    }
    built = ConfigParser(config).get_parsed_content("all")
    assert built == GoalAttack(attack=PGD(steps=3, targeted=True), goal=GOAL)
    assert describe(built)["goal"] == config["goal"]
    assert describe(built)["attack"]["targeted"] is True


def test_impossible_settings_are_refused(volume, label, tiny_network):
    with pytest.raises(TypeError, match="attack must be one that can have a target, got GaussianNoise"):
        GoalAttack(attack=GaussianNoise(), goal=GOAL)
    with pytest.raises(ValueError, match="attack must be targeted, got targeted=False"):
        GoalAttack(attack=PGD(), goal=GOAL)
    with pytest.raises(TypeError, match=r"goal must be a goal of vafa_monai\.attacks, got str"):
        GoalAttack(attack=TARGETED["pgd"], goal="erase")
    with pytest.raises(ValueError, match="goal must have organs as its classes, got 0, the background"):
        GoalAttack(attack=TARGETED["pgd"], goal=EraseOrgan(organ=0))
    sigmoid = PGD(steps=1, targeted=True, output="sigmoid")
    with pytest.raises(ValueError, match="goal must have classes from 0 to 2, those of the network, got 3"):
        GoalAttack(attack=sigmoid, goal=EraseOrgan(organ=3))(volume, label.clamp_max(1), tiny_network)
    with pytest.raises(ValueError, match="targets must have the shape of input, 0 or 1 in each channel"):
        GoalAttack(attack=sigmoid, goal=EraseOrgan(organ=1))(volume, label.clamp_max(1), tiny_network)
    with pytest.raises(ValueError, match=r"value_range must be that of attack, \(0.0, 1.0\), got \(-1.0, 1.0\)"):
        GoalAttack(attack=TARGETED["pgd"], goal=GOAL, value_range=(-1.0, 1.0))
    with pytest.raises(ValueError, match="goal must have classes from 1 to 2, those of the network, got 7"):
        GoalAttack(attack=TARGETED["pgd"], goal=EraseOrgan(organ=7))(volume, label, tiny_network)

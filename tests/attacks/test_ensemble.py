"""What only the ensemble does: its members, the worst of them, cases that are broken already."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from monai.metrics import DiceMetric
from torch import Tensor, nn

from vafa_monai.attacks import APGD, VAFA, AttackEnsemble, CosPGD, FrequencyPGD, SquareAttack
from vafa_monai.attacks.ensemble import class_dice, foreground_dice
from vafa_monai.losses import Output

BLOCK = (4, 4, 4)


def small(**changes) -> AttackEnsemble:
    return AttackEnsemble(**{"eps": 0.05, "block_size": BLOCK, "steps": 10, "queries": 30, **changes})


def foreground(network: nn.Module, volume: Tensor, targets: Tensor) -> Tensor:
    """Mean foreground DSC of every sample, by MONAI's metric."""
    classes = torch.arange(3).view(1, -1, 1, 1, 1)
    with torch.no_grad():
        pred = network(volume).argmax(1, keepdim=True) == classes
    return DiceMetric(include_background=False, reduction="none")(pred, targets == classes).nanmean(1)


@pytest.fixture(scope="module")
def found_of(trained_network):
    return lambda cases, **changes: small(**changes).run(*cases, trained_network)


# What version 1 is


def test_members_of_version_1_are_these():
    members = AttackEnsemble(eps=0.1, q_max=10, steps=7, queries=9, seed=3).members
    assert [(name, type(attack)) for name, attack in members.items()] == [
        ("apgd_masked_ce", APGD),
        ("apgd_js", APGD),
        ("apgd_dice_ce", APGD),
        ("cos_pgd", CosPGD),
        ("frequency_pgd", FrequencyPGD),
        ("vafa_audit", VAFA),
        ("square", SquareAttack),
    ]
    assert all(getattr(attack, "eps", 0.1) == 0.1 for attack in members.values())
    assert all(getattr(attack, "q_max", 10) == 10 for attack in members.values())
    assert all(getattr(attack, "steps", 7) == 7 for attack in members.values())
    assert members["square"].queries == 9
    assert members["apgd_js"].schedule == ((2, 0.3), (1.5, 0.3), (1, 0.4))
    assert members["vafa_audit"].output_norm == "clip"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "VolAA 1"),
        ({"eps": 0.1, "q_max": 5, "block_size": (8, 8, 8), "seed": 3}, "VolAA 1"),  # the budget is no part of the name
        ({"steps": 20}, "VolAA 1 (steps 20)"),
        ({"queries": 100, "broken_at": 0.5}, "VolAA 1 (queries 100, broken_at 0.5)"),
    ],
)
def test_name_says_the_version_and_what_falls_short_of_the_standard(changes, name):
    assert AttackEnsemble(**changes).name == name


# The worst of them


def test_it_is_as_harmful_as_each_member_case_by_case(cases, trained_network, found_of):
    found = found_of(cases)
    left = foreground(trained_network, found.adv, cases[1])
    for attack in small().members.values():
        assert (left <= foreground(trained_network, attack(*cases, trained_network), cases[1]) + 1e-6).all()
    assert (left < foreground(trained_network, *cases)).all()


def test_worst_member_made_the_volume(cases, trained_network):
    """In double precision: in single precision the sign of a gradient near 0 depends on the batch."""
    (inputs, targets), network = (cases[0].double(), cases[1]), deepcopy(trained_network).double()
    found, members = small().run(inputs, targets, network), small().members
    assert set(found.worst_member) <= set(members)
    for sample, name in enumerate(found.worst_member):
        expected = members[name](inputs[sample : sample + 1], targets[sample : sample + 1], network)
        torch.testing.assert_close(found.adv[sample : sample + 1], expected)


def test_details_are_the_dice_of_every_member_and_the_worst_of_every_class(cases, trained_network, found_of):
    found = found_of(cases)
    for sample, details in enumerate(found.details()):
        rows = torch.tensor([row["dice"] for row in details["members"].values()])
        assert details["worst_dice"] == pytest.approx(rows.amin(0).tolist())
        worst = details["members"][details["worst_member"]]["dice"]
        assert sum(worst[1:]) / 2 == pytest.approx(1 - found.objective[sample].item(), abs=1e-5)
        assert sum(worst[1:]) == pytest.approx(rows[:, 1:].sum(1).min().item(), abs=1e-5)


# Cases that are broken already


def test_a_broken_case_is_not_attacked_further(cases, trained_network, found_of):
    asked = []

    def network(volume: Tensor) -> Tensor:
        asked.append(len(volume))
        return trained_network(volume)

    found = small(eps=1, q_max=510, steps=60).run(*cases, network)
    assert (found.objective >= 0.98).all()
    member = 60 + 3 + 1  # its steps, the last volumes of its three stages, its result
    assert len(asked) == 1 + 2 * member
    assert set(found.worst_member) <= {"apgd_masked_ce", "apgd_js"}
    assert found.members["square"].isnan().all()
    assert found.details()[0]["members"]["square"]["dice"] == [None] * 3


@pytest.mark.parametrize("broken_at", [0.0, 0.02])
def test_nothing_is_asked_of_a_network_that_is_wrong_already(broken_at, cases):
    inputs, targets = cases
    calls = []
    found = small(broken_at=broken_at).run(
        inputs, targets, lambda volume: calls.append(1) or torch.zeros(len(volume), 3, *volume.shape[2:])
    )
    assert len(calls) == 1
    assert torch.equal(found.adv, inputs)
    assert found.worst_member == ("none",) * len(inputs)
    assert found.details()[0]["worst_dice"] == [None] * 3


# The measure


def test_class_dice_is_that_of_monai_where_the_truth_has_the_class(cases, trained_network):
    inputs, targets = cases
    with torch.no_grad():
        logits = trained_network(inputs)
    pred, truth = (part == torch.arange(3).view(1, -1, 1, 1, 1) for part in (logits.argmax(1, keepdim=True), targets))
    torch.testing.assert_close(class_dice(logits, targets), DiceMetric(reduction="none")(pred, truth))


@pytest.mark.parametrize(
    ("predicted", "truth", "expected", "foreground"),
    [
        ([0, 0, 1, 2], [0, 0, 1, 1], [1, 2 / 3, math.nan], 2 / 3),  # class 2 is invented: no DSC, as in the results
        ([0, 0, 0, 0], [0, 0, 1, 1], [2 / 3, 0, math.nan], 0),
        ([0, 0, 1, 2], [0, 2, 1, 1], [2 / 3, 2 / 3, 0], 1 / 3),
        ([0, 0, 0, 2], [0, 0, 0, 0], [6 / 7, math.nan, math.nan], 0),  # to invent it is the only harm
        ([0, 0, 0, 0], [0, 0, 0, 0], [1, math.nan, math.nan], 1),
    ],
    ids=["invented beside", "lost", "at another place", "invented alone", "nothing"],
)
def test_dice_by_hand(predicted, truth, expected, foreground):
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), 3).T.view(1, 3, 1, 2, 2).float()
    targets = torch.tensor(truth).view(1, 1, 1, 2, 2)
    torch.testing.assert_close(class_dice(logits, targets), torch.tensor([expected]).float(), equal_nan=True)
    torch.testing.assert_close(foreground_dice(logits, targets), torch.tensor([foreground]).float())


@pytest.mark.parametrize("channels", [1, 3])
def test_class_dice_of_sigmoids_is_that_of_monai_for_regions_that_overlap(channels):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, channels, 5, 4, 3, generator=generator)
    truth = torch.rand(logits.shape, generator=generator) > 0.7
    expected = DiceMetric(reduction="none")(logits > 0, truth)
    for labels in (truth, truth.float(), truth.to(torch.uint8)):
        torch.testing.assert_close(class_dice(logits, labels, "sigmoid"), expected)


def test_dice_of_one_sigmoid_is_that_of_two_classes_whose_difference_it_takes(cases, trained_network):
    inputs, targets = cases
    with torch.no_grad():
        two = trained_network(inputs)[:, :2]
    labels = targets.clamp_max(1)
    found = class_dice(two[:, 1:] - two[:, :1], labels, "sigmoid")
    torch.testing.assert_close(found, class_dice(two, labels)[:, 1:])


def test_background_is_the_class_that_is_said():
    """A truth of class 1 alone: it is an organ unless it is the background."""
    logits, labels = torch.tensor([[0.0, 0.0], [1.0, 1.0]]).view(1, 2, 1, 1, 2), torch.ones(1, 1, 1, 1, 2)
    assert class_dice(logits, labels)[0].isnan().tolist() == [True, False]
    assert foreground_dice(logits, labels, Output("softmax", background=1)).tolist() == [1.0]
    assert foreground_dice(-logits, labels, Output("softmax", background=1)).tolist() == [0.0]


def test_ignored_voxels_do_not_count():
    logits = torch.randn(2, 3, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    labels = logits.roll(1, 2).argmax(1, keepdim=True)
    kept = torch.arange(5).view(1, 1, 5, 1, 1) < 3
    expected = class_dice(logits[:, :, :3], labels[:, :, :3])
    found = class_dice(logits, labels.where(kept, 255), Output("softmax", ignore=255))
    torch.testing.assert_close(found, expected)
    two = class_dice(logits, labels, Output("softmax", ignore=2))
    assert two[:, 2].isnan().all()
    counted = labels != 2
    by_hand = DiceMetric(reduction="none")((logits.argmax(1, keepdim=True) == 1) & counted, labels == 1)
    torch.testing.assert_close(two[:, 1:2], by_hand)


# What it refuses


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"version": 2}, "version must be 1, got 2"),
        ({"broken_at": 1.5}, "broken_at must be at most 1, got 1.5"),
        ({"steps": -1}, "steps must be at least 0, got -1"),
        ({"queries": 1.5}, "queries must be a whole number, got 1.5"),
        ({"q_max": 0.5}, "q_max must be at least 1"),
        ({"eps": -0.1}, "eps must be at least 0"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises((ValueError, TypeError), match=message):
        AttackEnsemble(**setting)

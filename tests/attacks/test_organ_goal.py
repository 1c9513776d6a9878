"""Anatomical targets on label maps worked out by hand, and against plain loops over voxels."""

from __future__ import annotations

import itertools

import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.attacks import EraseOrgan, GrowOrgan, MoveOrgan, ShrinkOrgan, SwapOrgans
from vafa_monai.attacks.organ_goal import distance_to, fill
from vafa_monai.losses import Output


def line(*classes):
    return torch.tensor(classes).view(1, 1, 1, 1, -1)


LINE = line(0, 2, 2, 1, 1, 1, 1, 1, 0, 0)
BY_HAND = {
    "erase": (EraseOrgan(organ=1), line(0, 2, 2, 2, 2, 2, 0, 0, 0, 0)),
    "erase by background": (EraseOrgan(organ=1, replacement=0), line(0, 2, 2, 0, 0, 0, 0, 0, 0, 0)),
    "swap": (SwapOrgans(first=1, second=2), line(0, 1, 1, 2, 2, 2, 2, 2, 0, 0)),
    "grow": (GrowOrgan(organ=1, voxels=2), line(0, 1, 1, 1, 1, 1, 1, 1, 1, 1)),
    "grow over background": (GrowOrgan(organ=1, voxels=2, over=[0]), line(0, 2, 2, 1, 1, 1, 1, 1, 1, 1)),
    "shrink": (ShrinkOrgan(organ=1, voxels=2), line(0, 2, 2, 2, 2, 1, 0, 0, 0, 0)),
    "move": (MoveOrgan(organ=1, shift=(0, 0, 2)), line(0, 2, 2, 2, 2, 1, 1, 1, 1, 1)),
    "move out": (MoveOrgan(organ=1, shift=(0, 0, 6)), line(0, 2, 2, 2, 2, 2, 0, 0, 0, 1)),
}
GOALS = [goal for goal, _ in BY_HAND.values()]


@pytest.fixture
def labels():
    """Two samples of three classes, not cubic."""
    return torch.randint(0, 3, (2, 1, 5, 7, 4), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("goal", "expected"), BY_HAND.values(), ids=BY_HAND)
def test_goal_of_a_line_of_voxels(goal, expected):
    assert torch.equal(goal(LINE), expected)


def test_distances_are_to_the_nearest_voxel_outside(labels):
    mask = labels[0, 0] > 0
    outside = (~mask).nonzero().double()
    expected = torch.zeros(mask.shape)
    for place in itertools.product(*map(range, mask.shape)):
        expected[place] = (outside - torch.tensor(place).double()).norm(dim=1).min()
    torch.testing.assert_close(distance_to(mask), expected)


def test_distance_to_nothing_is_infinite():
    assert distance_to(torch.ones(2, 3, 4, dtype=torch.bool)).isinf().all()


def test_hole_is_filled_by_a_nearest_class(labels):
    volume = labels[1, 0]
    hole = volume == 1
    filled, outside = fill(volume, hole), (~hole).nonzero()
    assert torch.equal(filled[~hole], volume[~hole])
    for place in hole.nonzero():
        distances = (outside - place).double().norm(dim=1)
        nearest = {volume[tuple(other)].item() for other in outside[distances == distances.min()]}
        assert filled[tuple(place)].item() in nearest


@pytest.mark.parametrize("goal", GOALS, ids=BY_HAND)
def test_batch_is_its_samples_and_labels_stay(goal, labels):
    before = labels.clone()
    assert torch.equal(goal(labels), torch.cat([goal(labels[:1]), goal(labels[1:])]))
    assert torch.equal(labels, before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.float32], ids=str)
@pytest.mark.parametrize("goal", GOALS, ids=BY_HAND)
def test_labels_of_every_kind_give_the_same(goal, dtype, labels):
    found = goal(labels.to(dtype))
    assert found.dtype == dtype
    assert torch.equal(found.long(), goal(labels))


OBJECTIONS = [
    (EraseOrgan(organ=3), LINE, "class 3 is absent"),
    (SwapOrgans(first=1, second=3), LINE, "class 3 is absent"),
    (EraseOrgan(organ=1), line(1, 1), "class 1 fills the volume"),
    (ShrinkOrgan(organ=1, voxels=3), LINE, "nothing would be left of class 1"),
    (MoveOrgan(organ=2, shift=(0, 1, 0)), LINE, "nothing would be left of class 2"),
    (GrowOrgan(organ=1, over=[3]), LINE, "there is nothing to change"),
]


@pytest.mark.parametrize(("goal", "labels", "text"), OBJECTIONS, ids=[text for *_, text in OBJECTIONS])
def test_goal_without_sense_is_said_and_leaves_the_labels(goal, labels, text):
    assert goal.objection(labels[0]) == text
    assert torch.equal(goal(labels), labels)


REFUSED = [
    (lambda: EraseOrgan(organ=0).require_output(Output()), "goal must have organs as its classes, got 0, the back"),
    (
        lambda: SwapOrgans(first=1, second=2).require_output(Output(background=2)),
        "goal must have organs as its classes, got 2, the background",
    ),
    (
        lambda: EraseOrgan(organ=1, replacement=2).require_output(Output("sigmoid")),
        "replacement must be None for regions that overlap, got 2",
    ),
    (lambda: GrowOrgan(organ=1, over=[2]).require_output(Output("sigmoid")), "over must be None for regions that ov"),
    (lambda: EraseOrgan(organ=1, replacement=1), "replacement must be another class than 1, got 1"),
    (lambda: SwapOrgans(first=2, second=2), "second must be another class than 2, got 2"),
    (lambda: GrowOrgan(organ=1, over=[0, 1]), "over must be another class than 1, got 1"),
    (lambda: GrowOrgan(organ=1, voxels=0.5), "voxels must be at least 1 and finite, got 0.5"),
    (lambda: ShrinkOrgan(organ=-1), "organ must be at least 0, got -1"),
    (lambda: MoveOrgan(organ=1, shift=(0, 0, 0)), "shift must be three whole numbers, one of them not 0"),
    (lambda: MoveOrgan(organ=1, shift=(1, 2)), "shift must be three whole numbers, one of them not 0"),
]


@pytest.mark.parametrize(("build", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_goal_that_never_makes_sense_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


REGIONS = torch.tensor([[0, 1, 1, 1, 1], [0, 0, 1, 1, 0]]).view(1, 2, 1, 1, 5)  # the second lies in the first
OF_REGIONS = [
    (EraseOrgan(organ=0), [[0, 0, 0, 0, 0], [0, 0, 1, 1, 0]]),
    (SwapOrgans(first=0, second=1), [[0, 0, 1, 1, 0], [0, 1, 1, 1, 1]]),
    (GrowOrgan(organ=1, voxels=1), [[0, 1, 1, 1, 1], [0, 1, 1, 1, 1]]),
    (ShrinkOrgan(organ=0, voxels=1), [[0, 0, 1, 1, 1], [0, 0, 1, 1, 0]]),
    (MoveOrgan(organ=1, shift=(0, 0, 1)), [[0, 1, 1, 1, 1], [0, 0, 0, 1, 1]]),
]


@pytest.mark.parametrize(("goal", "expected"), OF_REGIONS, ids=[type(goal).__name__ for goal, _ in OF_REGIONS])
def test_regions_that_overlap_change_each_by_itself(goal, expected):
    assert goal(REGIONS, "sigmoid")[0, :, 0, 0].tolist() == expected
    assert goal.objection(REGIONS[0], "sigmoid") == ""


def test_goal_without_sense_for_regions_is_said():
    assert EraseOrgan(organ=0).objection(0 * REGIONS[0], "sigmoid") == "class 0 is absent"
    assert EraseOrgan(organ=1).objection(0 * REGIONS[0] + 1, "sigmoid") == "class 1 fills the volume"
    assert ShrinkOrgan(organ=1, voxels=3).objection(REGIONS[0], "sigmoid") == "nothing would be left of class 1"


def test_goal_is_built_from_json():
    config = {"goal": {"_target_": "vafa_monai.attacks.MoveOrgan", "organ": 2, "shift": [0, 1, -1]}}
    assert ConfigParser(config).get_parsed_content("goal") == MoveOrgan(organ=2, shift=(0, 1, -1))

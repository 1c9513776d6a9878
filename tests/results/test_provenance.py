"""What tells one result from another."""

import json

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, PytorchPadMode

from vafa_monai.results.provenance import inferer_facts

WINDOWS = {"roi_size": (4, 5, 6), "overlap": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        {"roi_size": (4, 5, 7)},
        {"overlap": 0.25},
        {"overlap": (0.5, 0.5, 0.25)},
        {"mode": "gaussian"},
        {"sigma_scale": 0.25},
        {"padding_mode": PytorchPadMode.REFLECT},
        {"cval": 1.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_setting_that_changes_what_an_inferer_gives_is_told(change):
    first, second = (inferer_facts(SlidingWindowInferer(**WINDOWS | more)) for more in ({}, change))
    assert {name for name in first if first[name] != second[name]} == set(change)
    assert first.keys() == second.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"sw_batch_size": 4},
        {"sw_device": torch.device("cpu"), "device": torch.device("cpu")},
        {"progress": True, "cpu_thresh": 3},
        {"buffer_steps": 2, "buffer_dim": 1},
        {"roi_size": [4, 5, 6], "mode": BlendMode.CONSTANT},
    ],
    ids=lambda change: next(iter(change)),
)
def test_memory_speed_and_ways_to_write_are_not_told(change):
    facts = inferer_facts(SlidingWindowInferer(**WINDOWS | change))
    assert facts == inferer_facts(SlidingWindowInferer(**WINDOWS)) == json.loads(json.dumps(facts))
    assert facts["mode"] == "constant"

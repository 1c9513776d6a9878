"""What tells one result from another."""

import json

import numpy as np
import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, PytorchPadMode

from vafa_monai.results.provenance import case_input, inferer_facts

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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_input_is_told_by_shape_mean_and_deviation_of_all_its_voxels(dtype):
    volume = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    told, voxels = case_input(volume), volume.numpy().astype(np.float64)
    assert told["shape"] == [2, 3, 4, 5]
    assert (told["mean"], told["std"]) == pytest.approx((voxels.mean(), voxels.std(ddof=0)), abs=1e-6)
    assert case_input(volume[:1, :1, :1, :1])["std"] == 0

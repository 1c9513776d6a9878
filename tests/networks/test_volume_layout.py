"""Axis orders, stages and their voxels."""

from __future__ import annotations

import re
from itertools import permutations

import pytest
import torch

from vafa_monai.networks.unetrpp_block import VolumeLayout

EDGES = {"x": 48, "y": 16, "z": 24}
STEM = {"x": 2, "y": 1, "z": 3}
every_order = pytest.mark.parametrize("axes", ["".join(order) for order in permutations("xyz")])


def layout_of(axes: str) -> VolumeLayout:
    return VolumeLayout([EDGES[axis] for axis in axes], [STEM[axis] for axis in axes], axes)


@every_order
def test_every_order_lies_in_the_network_the_same_way(axes):
    layout = layout_of(axes)
    volume = torch.empty(1, 1, *layout.img_size, device="meta")
    assert volume.permute(layout.inward).shape == (1, 1, EDGES["z"], EDGES["y"], EDGES["x"])
    assert volume.permute(layout.inward).permute(layout.outward).shape == volume.shape
    assert layout.stem == (STEM["z"], STEM["y"], STEM["x"])


def test_each_stage_has_an_eighth_of_the_voxels_of_the_one_before():
    assert layout_of("xyz").tokens == (24 * 16 * 8, 12 * 8 * 4, 6 * 4 * 2, 3 * 2 * 1)


@pytest.mark.parametrize("axes", ["xy", "xyy", "hwd", "xyzt", 3])
def test_an_unknown_axis_order_is_refused(axes):
    with pytest.raises(ValueError, match=f"axes must hold each letter of 'xyz' once, got {axes!r}"):
        VolumeLayout((8, 8, 8), (1, 1, 1), axes)


def test_a_volume_of_broken_patches_is_refused():
    with pytest.raises(ValueError, match=r"multiple of \(16, 8, 8\) \(8 \* stem_stride\), got \(24, 8, 8\)"):
        VolumeLayout((24, 8, 8), (2, 1, 1), "xyz")


@pytest.mark.parametrize("name", ["img_size", "stem_stride"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((8, 8), "{} must be 3 positive whole numbers, got (8, 8)."),
        (8, "{} must be 3 positive whole numbers, got 8."),
        ("888", "{} must be 3 positive whole numbers, got '888'."),
        ((8, 8, 0), "every entry of {} must be a positive whole number, got 0."),
        ((8, 8, 8.0), "every entry of {} must be a positive whole number, got 8.0."),
        ((8, True, 8), "every entry of {} must be a positive whole number, got True."),
    ],
)
def test_a_size_of_something_else_is_refused(name, value, message):
    settings = {"img_size": (8, 8, 8), "stem_stride": (1, 1, 1), name: value}
    with pytest.raises(ValueError, match=re.escape(message.format(name))):
        VolumeLayout(**settings, axes="xyz")

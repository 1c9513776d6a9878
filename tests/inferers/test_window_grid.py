"""The windows of a volume against those that MONAI hands to its predictor."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from monai.inferers import SlidingWindowInferer
from torch import Tensor

from vafa_monai.inferers.sliding_window_network import WindowGrid


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75, (0.1, 0.6, 0.3)], ids=str)
@pytest.mark.parametrize("roi_size", [(6, 8, 4), (16, 4, 3), (-1, 5, 9), 5], ids=str)
def test_places_are_those_of_monai_in_its_order(roi_size, overlap, volume):
    inferer, seen = SlidingWindowInferer(roi_size, overlap=overlap), []
    inferer(volume, lambda window: seen.append(window.clone()) or window.clone())
    grid = WindowGrid.of(volume, inferer)
    padded = F.pad(volume, grid.padding)
    assert torch.equal(torch.cat([padded[place] for place in grid.places]), torch.cat(seen))


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_shares_of_all_windows_are_one_in_every_voxel(mode, volume):
    grid = WindowGrid.of(volume, SlidingWindowInferer((6, 4, 8), overlap=0.6, mode=mode))
    padded = F.pad(volume, grid.padding)
    total = torch.zeros_like(padded)
    for place in grid.places:
        total[place] += grid.share(place)
    torch.testing.assert_close(total, torch.ones_like(total))


def test_share_falls_towards_the_edge_of_a_gaussian_window_and_is_an_equal_part_of_a_constant_one():
    inputs = torch.zeros(1, 1, 6, 4, 4)  # two windows of four slices that share two

    def along_the_first_axis(mode: str) -> list[Tensor]:
        grid = WindowGrid.of(inputs, SlidingWindowInferer((4, 4, 4), overlap=0.5, mode=mode))
        return [grid.share(place)[0, 0, :, 1, 1] for place in grid.places]

    first, second = along_the_first_axis("constant")
    assert (first.tolist(), second.tolist()) == ([1, 1, 0.5, 0.5], [0.5, 0.5, 1, 1])
    first, second = along_the_first_axis("gaussian")
    assert first[2] > 0.5 > first[3]
    torch.testing.assert_close(first, second.flip(0))

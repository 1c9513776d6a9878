"""Volumes by hand: voxels of 1.5 x 0.8 x 2.5 mm are 3 mm^3 each."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.metrics import (
    NormalizedSurfaceDiceMetric,
    compute_hausdorff_distance_95,
    compute_normalized_surface_dice,
    compute_organ_volumes,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool], ids=str)
def test_voxels_are_counted_class_by_class_and_sample_by_sample(dtype):
    mask = torch.zeros(2, 3, 40, 20, 10, dtype=dtype)
    mask[0, 1, :, :, :5], mask[1, 2, :3, 0, 0], mask[1, 0] = 1, 1, 1
    found = compute_organ_volumes(mask, (1.5, 0.8, 2.5))
    expected = torch.tensor([[0, 12, 0], [24, 0, 0.009]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (1, 1, float("nan")), (1, 1, float("inf"))], ids=str
)
@pytest.mark.parametrize("measure", [compute_hausdorff_distance_95, compute_normalized_surface_dice, None])
def test_a_spacing_that_is_no_three_lengths_is_refused(measure, spacing, organs):
    with pytest.raises(ValueError, match=r"spacing must be three finite lengths above 0 mm, got \(1"):
        compute_organ_volumes(organs(0), spacing) if measure is None else measure(organs(0), organs(1), spacing)


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_that_is_no_length_is_refused(tolerance, organs):
    with pytest.raises(ValueError, match=f"tolerance must be at least 0 and finite, got {tolerance}"):
        compute_normalized_surface_dice(organs(0), organs(1), tolerance=tolerance)
    with pytest.raises(ValueError, match=f"tolerance must be at least 0 and finite, got {tolerance}"):
        NormalizedSurfaceDiceMetric(tolerance=tolerance)

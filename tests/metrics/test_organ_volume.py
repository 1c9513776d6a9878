"""Volumes by hand: voxels of 1.5 x 0.8 x 2.5 mm are 3 mm^3 each."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.metrics import compute_organ_volumes


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bool], ids=str)
def test_voxels_are_counted_class_by_class_and_sample_by_sample(dtype):
    mask = torch.zeros(2, 3, 40, 20, 10, dtype=dtype)
    mask[0, 1, :, :, :5], mask[1, 2, :3, 0, 0], mask[1, 0] = 1, 1, 1
    found = compute_organ_volumes(mask, (1.5, 0.8, 2.5))
    expected = torch.tensor([[0, 12, 0], [24, 0, 0.009]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)

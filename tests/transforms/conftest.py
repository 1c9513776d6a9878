"""A volume of one case: channel first, with an affine that no one would guess."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor


@pytest.fixture
def img(volume: Tensor) -> MetaTensor:
    """``(1, 11, 9, 6)`` in [0, 1]; no edge is divided by 4."""
    affine = torch.tensor([[0, -1.5, 0, 7], [2, 0, 0, -3], [0, 0, 2.5, 5], [0, 0, 0, 1]], dtype=torch.float64)
    return MetaTensor(volume[0].clone(), affine=affine, meta={"filename_or_obj": "case_07.nii.gz"})


@pytest.fixture
def img_label(label: Tensor) -> Tensor:
    """The class indices of ``img``."""
    return label[0]

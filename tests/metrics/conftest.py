"""Segmentations of three organs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor


def random_organs(seed: int, shape: tuple[int, ...] = (2, 9, 12, 7), organs: int = 3) -> Tensor:
    """One-hot ``(B, organs + 1, H, W, D)``: smooth random blobs, background first; some touch the border."""
    noise = torch.rand(shape[0], organs + 1, *shape[1:], generator=torch.Generator().manual_seed(seed))
    winner = F.avg_pool3d(noise, kernel_size=3, stride=1, padding=1).argmax(1)
    return F.one_hot(winner, organs + 1).movedim(-1, 1).float()


@pytest.fixture
def organs() -> Callable[..., Tensor]:
    return random_organs

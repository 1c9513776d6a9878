"""What attacks are tried on."""

from __future__ import annotations

import pytest
from torch import Tensor


@pytest.fixture
def cases(unseen_cases: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Four volumes and labels that no network was trained on."""
    volumes, labels = unseen_cases
    return volumes[:4], labels[:4]

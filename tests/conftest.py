"""Seeded volumes, labels and tiny networks; every axis has another size on purpose."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

torch.set_num_threads(1)  # tensors are tiny: threads would spend the time waiting for each other, on busy cores by far

SHAPE = (2, 1, 11, 9, 6)
CLASSES = 3
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture
def volume() -> Tensor:
    """A smooth random batch that touches 0 and 1."""
    noise = torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))
    smooth = F.avg_pool3d(F.pad(noise, [1] * 6, mode="replicate"), kernel_size=3, stride=1)
    return (smooth - smooth.amin()) / (smooth.amax() - smooth.amin())


@pytest.fixture
def label(volume: Tensor) -> Tensor:
    """Three classes: dark, grey, bright."""
    return (volume > 0.4).long() + (volume > 0.6).long()


@pytest.fixture
def tiny_network() -> nn.Module:
    """Convolution, softplus, convolution: smooth, so that no gradient is exactly 0; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Softplus(), nn.Conv3d(4, CLASSES, 1)).eval()


@pytest.fixture
def normalized_network() -> nn.Module:
    """A network with batch norm, whose running statistics are those of data, and dropout; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        normalize, dropout = nn.BatchNorm3d(4), nn.Dropout3d(0.3)
        network = nn.Sequential(
            nn.Conv3d(1, 4, 3, padding=1), normalize, nn.Softplus(), dropout, nn.Conv3d(4, CLASSES, 1)
        )
        with torch.no_grad():
            for _ in range(3):
                network(torch.rand(SHAPE))
    return network.eval()

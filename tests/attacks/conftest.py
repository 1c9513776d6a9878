"""Networks that have learned something, so that an attack can take it away."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vafa_monai.losses import dice_ce


def draw(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Smooth random volumes, and labels that are thresholds of them: dark, grey, bright."""
    noise = torch.rand(samples, 1, 11, 9, 6, generator=torch.Generator().manual_seed(seed))
    smooth = F.avg_pool3d(F.pad(noise, [1] * 6, mode="replicate"), kernel_size=3, stride=1)
    low, high = smooth.amin((1, 2, 3, 4), keepdim=True), smooth.amax((1, 2, 3, 4), keepdim=True)
    volume = (smooth - low) / (high - low)
    return volume, (volume > 0.4).long() + (volume > 0.6).long()


def train(seed: int) -> nn.Module:
    """Three layers and 80 steps, a second at most; foreground Dice about 0.87."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second, last = nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 8, 1), nn.Conv3d(8, 3, 1)
        network = nn.Sequential(first, nn.Softplus(), second, nn.Softplus(), last)
    optimizer, loss_function = torch.optim.Adam(network.parameters(), lr=0.02), dice_ce()
    for step in range(80):
        volume, label = draw(8, seed=1000 * seed + step + 1)
        optimizer.zero_grad()
        loss_function(network(volume), label).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def trained_network() -> nn.Module:
    return train(seed=0)


@pytest.fixture(scope="session")
def other_network() -> nn.Module:
    """The same task and layers, other weights."""
    return train(seed=1)


@pytest.fixture
def cases() -> tuple[Tensor, Tensor]:
    """Four volumes and labels that no network was trained on."""
    return draw(4, seed=0)

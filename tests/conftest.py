"""Seeded volumes, labels and tiny networks; every axis has another size on purpose."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vafa_monai.losses import dice_ce

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
    network.zero_grad()
    return network.eval()


@pytest.fixture(scope="session")
def trained_network() -> nn.Module:
    return train(seed=0)


@pytest.fixture(scope="session")
def other_network() -> nn.Module:
    """The same task and layers, other weights."""
    return train(seed=1)


@pytest.fixture(scope="session")
def session_cases() -> tuple[Tensor, Tensor]:
    """Six volumes and labels that no network was trained on; not to be changed."""
    return draw(6, seed=0)


@pytest.fixture
def unseen_cases(session_cases: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The same, to do with as one likes."""
    volumes, labels = session_cases
    return volumes.clone(), labels.clone()


# Killed


def die_at_rename(number: int, of: str) -> None:
    """Let this process kill itself at a rename to a name: 0 is right before the first of them, 1 right after it."""
    numbers = count()

    def dying(rename: Callable[..., Path]) -> Callable[..., Path]:
        def renamed(self: Path, target: object) -> Path:
            is_last = Path(str(target)).match(of) and next(numbers) == number // 2
            if is_last and number % 2 == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            moved = rename(self, target)
            if is_last:
                os.kill(os.getpid(), signal.SIGKILL)
            return moved

        return renamed

    Path.replace, Path.rename = dying(Path.replace), dying(Path.rename)


def call_and_kill(call: Callable[[], object], *, seconds: float = 300, rename: int | None = None, of: str = "*") -> int:
    """Call in a copy of this process and kill that after some seconds, or at a rename; return its exit code.

    It is ``-SIGKILL``, 0 if the call ended before, 1 if it raised.
    """
    child = os.fork()
    if not child:
        code = 1
        try:
            if rename is not None:
                die_at_rename(rename, of)
            call()
            code = 0
        finally:
            os._exit(code)
    end, status = time.monotonic() + seconds, (0, 0)
    while status[0] == 0 and time.monotonic() < end:
        status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.002)
    if status[0] == 0:
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status[1])


@pytest.fixture(scope="session")
def kill() -> Callable[..., int]:
    """Return :func:`call_and_kill`."""
    return call_and_kill

"""Seeded random volumes."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["gaussian_like", "uniform_like"]


def gaussian_like(volume: Tensor, seed: int) -> Tensor:
    """Draw standard normal noise for ``(B, C, H, W, D)``, the same for every sample: batching changes nothing."""
    generator = torch.Generator().manual_seed(seed)  # on the CPU: every device gets the same numbers
    return torch.randn(volume.shape[1:], generator=generator).to(volume).expand_as(volume)


def uniform_like(volume: Tensor, seed: int) -> Tensor:
    """Draw noise of [-1, 1) for ``(B, C, H, W, D)``, the same for every sample: batching changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(volume.shape[1:], generator=generator) - 1).to(volume).expand_as(volume)

"""Norms of a perturbation, and the direction of steepest ascent in each."""

from __future__ import annotations

import torch
from monai.utils import StrEnum
from torch import Tensor

__all__ = ["Norm", "rms", "steepest"]


class Norm(StrEnum):
    """What the size of a change is measured by: its largest voxel, or the root mean square of all."""

    LINF = "linf"
    L2 = "l2"


def rms(volume: Tensor) -> Tensor:
    """Return the root mean square of every sample, of shape ``(B, 1, ..., 1)``."""
    return volume.square().flatten(1).mean(1).sqrt().view(-1, *[1] * (volume.ndim - 1))


def steepest(gradient: Tensor, norm: Norm | str = Norm.LINF) -> Tensor:
    """Return the direction of size 1 along which a sample's objective rises fastest; 0 where the gradient is 0.

    Example:
        >>> gradient = torch.tensor([[3.0, -4.0, 0.0, 0.0]])
        >>> steepest(gradient).tolist()[0], [round(value, 3) for value in steepest(gradient, "l2").tolist()[0]]
        ([1.0, -1.0, 0.0, 0.0], [1.2, -1.6, 0.0, 0.0])
    """
    if norm == Norm.LINF:
        return gradient.sign()
    tiny = torch.finfo(gradient.dtype).tiny
    largest = gradient.abs().flatten(1).amax(1).clamp_min(tiny).view(-1, *[1] * (gradient.ndim - 1))
    scaled = gradient / largest  # or the squares of a small gradient would all be 0
    return scaled / rms(scaled).clamp_min(tiny)

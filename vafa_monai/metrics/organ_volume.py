"""The volumes of organs in milliliters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

__all__ = ["compute_organ_volumes", "require_spacing"]


def require_spacing(spacing: Sequence[float]) -> None:
    """Refuse edges of a voxel that are no three lengths above 0, with which every figure in mm or ml would be wrong."""
    if len(spacing) != 3 or not all(0 < edge < math.inf for edge in spacing):  # NaN fails
        raise ValueError(f"spacing must be three finite lengths above 0 mm, got {tuple(spacing)}.")


def compute_organ_volumes(mask: Tensor, spacing: Sequence[float]) -> Tensor:
    """Compute the volume of every class.

    Args:
        mask: one-hot classes of shape ``(B, C, H, W, D)``.
        spacing: voxel size in mm along each axis.

    Returns:
        Volumes of shape ``(B, C)`` in ml, in double precision.

    Raises:
        ValueError: if ``spacing`` is not three lengths above 0.

    Example:
        >>> import torch
        >>> compute_organ_volumes(torch.ones(1, 1, 10, 20, 5), (1.0, 2.0, 0.5)).item()
        1.0
    """
    require_spacing(spacing)
    return mask.flatten(2).double().sum(-1) * (math.prod(spacing) / 1000)

"""Quantization of DCT coefficients by a table of steps."""

from __future__ import annotations

from torch import Tensor

from vafa_monai.frequency.rounding import round_through, smooth_round

__all__ = ["quantize"]


def quantize(coefficients: Tensor, table: Tensor, alpha: float, *, straight_through: bool = False) -> Tensor:
    """Divide by the steps of ``table``, round, and multiply again.

    The function ``phi`` of the paper (Hanif et al., MICCAI 2023, Eq. 1, https://arxiv.org/abs/2307.07269).

    Args:
        coefficients: DCT coefficients of shape ``(B, C, H/h, W/w, D/d, h, w, d)``, in grey levels.
        table: positive quantization steps, of a shape that broadcasts with ``coefficients``, in grey levels.
        alpha: softness of the rounding, in [0, 1); 0 rounds truly.
        straight_through: round truly, and keep only the derivative of the soft rounding.

    Returns:
        Quantized coefficients, in grey levels; the error of true rounding is at most half a step.

    Raises:
        ValueError: if ``alpha`` is outside [0, 1).

    Example:
        >>> import torch
        >>> quantize(torch.tensor([3.0, 26.0]), torch.tensor([10.0, 10.0]), alpha=0.0).tolist()
        [0.0, 30.0]
    """
    rounding = round_through if straight_through else smooth_round
    return rounding(coefficients / table, alpha) * table

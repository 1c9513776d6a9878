"""Quantization of DCT coefficients by a table of steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vafa_monai.frequency.rounding import round_with_slope

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
    return _Quantization.apply(coefficients, table, alpha, straight_through)


class _Quantization(torch.autograd.Function):
    """``r(c / q) q`` and its derivatives ``r'`` and ``r - r' c / q``; autograd would keep and fill more volumes."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, table: Tensor, alpha: float, straight_through: bool) -> Tensor:
        quotient = coefficients / table
        rounded, slope = round_with_slope(quotient, alpha, straight_through=straight_through)
        ctx.shapes = coefficients.shape, table.shape
        ctx.save_for_backward(quotient, rounded, slope)
        return rounded * table

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        quotient, rounded, slope = ctx.saved_tensors
        by_coefficient = by_table = None
        if ctx.needs_input_grad[0]:
            by_coefficient = (gradient * slope).sum_to_size(ctx.shapes[0])
        if ctx.needs_input_grad[1]:
            by_table = torch.addcmul(rounded, quotient, slope, value=-1).mul_(gradient).sum_to_size(ctx.shapes[1])
        return by_coefficient, by_table, None, None

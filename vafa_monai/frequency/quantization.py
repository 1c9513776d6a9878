"""Quantization of DCT coefficients by a table of steps."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["quantize", "round_through", "smooth_round"]


def smooth_round(x: Tensor, alpha: float) -> Tensor:
    """Round ``x`` softly: ``floor(x) + (tanh((x - floor(x) - 1/2) k) / (1 - alpha) + 1) / 2``, ``k = ln(2/alpha - 1)``.

    The differentiable soft quantization that the paper takes its rounding from (Gong et al., ICCV 2019,
    https://arxiv.org/abs/1908.05033). It is continuous, fixes every integer and every half, and tends to true rounding
    as ``alpha`` goes to 0. ``alpha = 0`` is true rounding, halves up, whose derivative is 0.

    Args:
        x: tensor of any shape.
        alpha: softness, in [0, 1).

    Returns:
        Tensor of the shape of ``x``.

    Raises:
        ValueError: if ``alpha`` is outside [0, 1).

    Example:
        >>> [round(value, 3) for value in smooth_round(torch.tensor([1.0, 1.2, 1.5, 1.8]), alpha=0.1).tolist()]
        [1.0, 1.107, 1.5, 1.893]
    """
    return _Rounding.apply(x, alpha, False)


def round_through(x: Tensor, alpha: float) -> Tensor:
    """Round ``x`` truly, with the derivative of :func:`smooth_round` (a straight-through estimator).

    Example:
        >>> x = torch.tensor([0.2, 0.8], requires_grad=True)
        >>> y = round_through(x, alpha=0.1)
        >>> y.tolist(), bool((torch.autograd.grad(y.sum(), x)[0] > 0).all())
        ([0.0, 1.0], True)
    """
    return _Rounding.apply(x, alpha, True)


def round_with_slope(x: Tensor, alpha: float, *, straight_through: bool = False) -> tuple[Tensor, Tensor]:
    """Return the rounded ``x``, softly or truly, and the derivative of the soft rounding; no graph is built.

    Raises:
        ValueError: if ``alpha`` is outside [0, 1).
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must lie in [0, 1), got {alpha!r}.")
    x = x.detach()
    if alpha == 0:
        return torch.floor(x + 0.5), torch.zeros_like(x)
    steepness, height = math.log(2 / alpha - 1), 0.5 / (1 - alpha)
    middle = torch.floor(x).add_(0.5)
    bend = torch.sub(x, middle).mul_(steepness).tanh_()
    rounded = torch.floor(x + 0.5) if straight_through else middle.add_(bend, alpha=height)
    return rounded, bend.square_().mul_(-steepness * height).add_(steepness * height)


class _Rounding(torch.autograd.Function):
    """Rounding whose derivative is the soft one's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: float, straight_through: bool) -> Tensor:
        rounded, slope = round_with_slope(x, alpha, straight_through=straight_through)
        ctx.save_for_backward(slope)
        return rounded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return gradient * ctx.saved_tensors[0], None, None


def quantize(coefficients: Tensor, table: Tensor, alpha: float, *, straight_through: bool = False) -> Tensor:
    """Divide by the steps of ``table``, round, and multiply again.

    The function ``phi`` of the paper (Hanif et al., MICCAI 2023, Eq. 1, https://arxiv.org/abs/2307.07269).

    Args:
        coefficients: DCT coefficients of shape ``(B, C, H/h, W/w, D/d, h, w, d)``, in gray levels.
        table: positive quantization steps, of a shape that broadcasts with ``coefficients``, in gray levels.
        alpha: softness of the rounding, in [0, 1); 0 rounds truly.
        straight_through: round truly, and keep only the derivative of the soft rounding.

    Returns:
        Quantized coefficients, in gray levels; the error of true rounding is at most half a step.

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

"""Rounding with a derivative."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["round_through", "smooth_round"]


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
        >>> [round(value, 3) for value in smooth_round(torch.tensor([0.0, 0.2, 0.5, 0.8]), alpha=0.1).tolist()]
        [0.0, 0.107, 0.5, 0.893]
    """
    if not 0 <= alpha < 1:
        raise ValueError(f"alpha must lie in [0, 1), got {alpha!r}.")
    if alpha == 0:
        return torch.floor(x + 0.5)
    whole = x.detach().floor()
    steepness = math.log(2 / alpha - 1)
    return torch.tanh((x - (whole + 0.5)) * steepness) * (0.5 / (1 - alpha)) + (whole + 0.5)


def round_through(x: Tensor, alpha: float) -> Tensor:
    """Round ``x`` truly, with the derivative of :func:`smooth_round` (a straight-through estimator).

    Example:
        >>> x = torch.tensor([0.2, 0.8], requires_grad=True)
        >>> y = round_through(x, alpha=0.1)
        >>> y.tolist(), bool((torch.autograd.grad(y.sum(), x)[0] > 0).all())
        ([0.0, 1.0], True)
    """
    soft = smooth_round(x, alpha)
    return soft + (torch.floor(x.detach() + 0.5) - soft.detach())

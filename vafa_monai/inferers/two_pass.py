"""Clean and adversarial halves of a batch in two passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

__all__ = ["TwoPassInferer"]


class TwoPassInferer(Inferer):
    """Send the two halves of a batch through the network one after the other.

    For networks with batch norm, whose train-mode statistics would otherwise mix clean and adversarial volumes. In eval
    mode there is nothing to mix, so all go at once: a pass of one volume can cost more than one of two.

    Args:
        inferer: what runs each half; ``None`` calls the network.
        first: how many samples go first; ``None`` is half of them, 0 sends all of them at once.

    Example:
        >>> TwoPassInferer()(torch.zeros(4, 1, 2, 2, 2), torch.nn.Conv3d(1, 3, 1)).shape
        torch.Size([4, 3, 2, 2, 2])
    """

    def __init__(self, inferer: Callable[..., Any] | None = None, first: int | None = None) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.first = first

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the predictions of both halves, joined; lists of deep supervision are joined output by output."""
        if isinstance(network, torch.nn.Module) and not getattr(network, "training", False):
            return self.inferer(inputs, network, *args, **kwargs)
        first = -(-len(inputs) // 2) if self.first is None else self.first
        parts = [part for part in (inputs[:first], inputs[first:]) if len(part)]
        halves = [self.inferer(part, network, *args, **kwargs) for part in parts]
        if isinstance(halves[0], Tensor):
            return torch.cat(halves)
        return [torch.cat(outputs) for outputs in zip(*halves, strict=True)]

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

    For networks with batch norm, whose train-mode statistics would otherwise mix clean and adversarial volumes.

    Args:
        inferer: what runs each half; ``None`` calls the network.

    Example:
        >>> TwoPassInferer()(torch.zeros(4, 1, 2, 2, 2), torch.nn.Conv3d(1, 3, 1)).shape
        torch.Size([4, 3, 2, 2, 2])
    """

    def __init__(self, inferer: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return the predictions of both halves, joined; lists of deep supervision are joined output by output."""
        halves = [self.inferer(half, network, *args, **kwargs) for half in inputs.chunk(2)]
        if isinstance(halves[0], Tensor):
            return torch.cat(halves)
        return [torch.cat(outputs) for outputs in zip(*halves, strict=True)]

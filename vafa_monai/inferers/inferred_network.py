"""A network as it is deployed: with the inferer that feeds it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

__all__ = ["InferredNetwork"]


class InferredNetwork(nn.Module):
    """Call ``inferer(inputs, network)``, so that an attack sees the deployed pipeline as one network.

    With :class:`monai.inferers.SlidingWindowInferer` an attack meets the blended logits of a whole volume; every window
    is kept for the backward pass, so memory grows with their number.

    Args:
        network: the segmentation network; its weights are this module's.
        inferer: MONAI inferer or any callable of ``(inputs, network)``; ``None`` calls the network.

    Example:
        >>> import torch
        >>> from monai.inferers import SlidingWindowInferer
        >>> whole = InferredNetwork(nn.Conv3d(1, 2, 1), SlidingWindowInferer(roi_size=(4, 4, 4)))
        >>> whole(torch.zeros(1, 1, 6, 5, 4)).shape
        torch.Size([1, 2, 6, 5, 4])
    """

    def __init__(self, network: nn.Module, inferer: Callable[..., Tensor] | None = None) -> None:
        super().__init__()
        self.network = network
        self.inferer = inferer
        self.training = getattr(network, "training", False)  # a module starts in train mode

    def forward(self, inputs: Tensor) -> Tensor:
        """Map volumes ``(B, C, H, W, D)`` to logits ``(B, classes, H, W, D)``."""
        return self.network(inputs) if self.inferer is None else self.inferer(inputs, self.network)

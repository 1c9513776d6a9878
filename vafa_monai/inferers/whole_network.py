"""What a network and its inferer make together, as it is deployed and as it is attacked."""

from __future__ import annotations

from typing import Any

from torch import nn

from vafa_monai.inferers.inferred_network import InferredNetwork
from vafa_monai.inferers.sliding_window_network import SlidingWindowNetwork

__all__ = ["whole_network"]


def whole_network(
    network: nn.Module, inferer: Any, windows_per_gradient: int | None = None
) -> InferredNetwork | SlidingWindowNetwork:
    """Return network and inferer as one network, in the memory of a few windows where that is possible.

    Args:
        network: the segmentation network.
        inferer: MONAI inferer or any callable of ``(inputs, network)``; ``None`` calls the network.
        windows_per_gradient: for MONAI's own sliding window, see :class:`SlidingWindowNetwork`.

    Raises:
        ValueError: if ``windows_per_gradient`` is given for another inferer.

    Example:
        >>> from monai.inferers import SlidingWindowInferer
        >>> type(whole_network(nn.Conv3d(1, 2, 1), SlidingWindowInferer((4, 4, 4)))).__name__
        'SlidingWindowNetwork'
        >>> type(whole_network(nn.Conv3d(1, 2, 1), None)).__name__
        'InferredNetwork'
    """
    if SlidingWindowNetwork.can_stand_for(inferer):
        return SlidingWindowNetwork.from_inferer(network, inferer, windows_per_gradient=windows_per_gradient)
    if windows_per_gradient is not None:
        name = type(inferer).__name__
        raise ValueError(f"windows_per_gradient must be None without a SlidingWindowInferer, got it with a {name}.")
    return InferredNetwork(network, inferer)

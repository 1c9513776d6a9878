"""The mode in which a network is attacked: as it is deployed, with gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put ``network`` in eval mode, with gradients allowed, and every part back into the mode it was in.

    The mode of an exported module or a frozen TorchScript was fixed when it was made.

    Example:
        >>> network = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with evaluating(network):
        ...     inside = [part.training for part in network]
        >>> inside, [part.training for part in network]
        ([False, False], [True, False])
    """
    modes = [(part, part.training) for part in network.modules() if hasattr(part, "training")]
    try:
        _switch(network)
        with torch.enable_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _switch(network: nn.Module) -> None:
    """Put ``network`` in eval mode."""
    try:
        network.eval()
    except NotImplementedError:  # of an exported part; all others follow
        for child in network.children():
            _switch(child)
        network.training = False

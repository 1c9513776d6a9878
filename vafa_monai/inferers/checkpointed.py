"""A gradient in less memory: the parts of a network are run again instead of kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

__all__ = ["checkpointed"]


@contextmanager
def checkpointed(network: nn.Module) -> Iterator[None]:
    """Keep only what goes in and out of the parts of ``network``; the backward pass runs each part again.

    A part is a direct child, or a child of one that holds a list of modules, as a transformer holds its blocks. Values
    and gradients are the same, random numbers included; it costs one forward pass more, and helps where one window is
    too large (Chen et al., 2016, https://arxiv.org/abs/1604.06174). Afterwards the network is as before.

    Args:
        network: the network itself.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv3d(1, 4, 1), nn.ReLU())
        >>> volume = torch.ones(1, 1, 2, 2, 2, requires_grad=True)
        >>> with checkpointed(network):
        ...     (less,) = torch.autograd.grad(network(volume).sum(), volume)
        >>> torch.equal(less, torch.autograd.grad(network(volume).sum(), volume)[0])
        True
    """
    parts = list(_parts(network))
    own = [part.__dict__.get("forward") for part in parts]
    try:
        for part in parts:
            part.__dict__["forward"] = partial(checkpoint, part.forward, use_reentrant=False)
        yield
    finally:
        for part, forward in zip(parts, own, strict=True):
            if forward is None:
                del part.__dict__["forward"]
            else:
                part.__dict__["forward"] = forward


def _parts(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts, each once; a list has no forward pass of its own, and neither has what holds one here."""
    lists = (nn.ModuleList, nn.ModuleDict)
    for child in dict.fromkeys(network.children()):
        if isinstance(child, lists) or any(isinstance(part, lists) for part in child.children()):
            yield from _parts(child)
        else:
            yield child

"""Leaving the network of an attack as it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["isolated"]


@contextmanager
def isolated(network: Callable[[Tensor], Tensor], device: torch.device, seed: int = 0) -> Iterator[None]:
    """Freeze the weights of ``network``, seed what it draws, and put everything back afterwards.

    Inside, no weight asks for a gradient and dropout draws the same numbers at every call. Afterwards
    ``requires_grad``, the buffers (the running statistics of batch norm move in train mode) and the state of the random
    generators are what they were. A network that is no module has its random numbers seeded, nothing else.

    Args:
        network: the attacked network, a module or any callable.
        device: where it runs, a device whose random generator is seeded beside the CPU's.
        seed: seed of the random numbers drawn inside.
    """
    module = network if isinstance(network, nn.Module) else nn.Module()
    asked = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    moving = [(buffer, buffer.clone()) for buffer in module.buffers()] if _any_training(module) else []
    generators = [] if device.type == "cpu" else [device]
    with torch.random.fork_rng(generators, device_type=device.type if generators else "cuda"):
        torch.manual_seed(seed)
        try:
            for parameter, _ in asked:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, requires_grad in asked:
                parameter.requires_grad_(requires_grad)
            with torch.no_grad():
                for buffer, value in moving:
                    buffer.copy_(value)


def _any_training(module: nn.Module) -> bool:
    """Tell whether any part of ``module`` is in train mode."""
    return any(getattr(part, "training", False) for part in module.modules())

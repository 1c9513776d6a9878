"""Leaving the network of an attack as it was found, and trusting it with nothing but copies."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["GuardedNetwork", "NetworkError", "isolated", "ours", "require_numbers", "require_tensor"]

CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch says in its RuntimeError where the CPU has no memory left


class NetworkError(RuntimeError):
    """A network that cannot be attacked, in one sentence."""


class GuardedNetwork:
    """A network that is called with a copy, into which it may write, and whose output is checked.

    Args:
        network: maps volumes ``(B, C, H, W, D)`` to logits ``(B, classes, H, W, D)``.

    Example:
        >>> volume = torch.zeros(1, 1, 2, 2, 2)
        >>> GuardedNetwork(lambda given: given.add_(1)).__call__(volume).sum().item(), volume.sum().item()
        (8.0, 0.0)
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network: Callable[[Tensor], Tensor] = network.network if isinstance(network, GuardedNetwork) else network

    def __call__(self, volume: Tensor) -> Tensor:
        """Return the logits of a volume.

        Raises:
            TypeError: if they are no tensor of floating-point numbers.
            ValueError: if they do not have the batch and spatial size of the volume.
            NetworkError: if the network fails, or gives no gradient where one is asked for.
        """
        try:
            logits = require_tensor(self.network(volume.clone()))
        except RuntimeError as error:
            raise ours(error, f"network must take volumes of {volume.dtype} and shape {tuple(volume.shape)}") from error
        if not logits.is_floating_point():
            raise TypeError(f"network must return logits of floating-point numbers, got {logits.dtype}.")
        if logits.ndim != volume.ndim or (logits.shape[0], *logits.shape[2:]) != (volume.shape[0], *volume.shape[2:]):
            shapes = f"{tuple(logits.shape)} for inputs of shape {tuple(volume.shape)}"
            raise ValueError(f"network must return logits of the batch and spatial size of its inputs, got {shapes}.")
        if volume.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise NetworkError(
                "network must give a gradient to its inputs, got logits without one; does it detach them, or run under "
                "no_grad or inference_mode?"
            )
        return logits


def require_tensor(logits: Any) -> Tensor:
    """Refuse an output of a network that is no tensor."""
    if not isinstance(logits, Tensor):
        raise TypeError(f"network must return one tensor of logits, got {type(logits).__name__}; is it in train mode?")
    return logits


def require_numbers(logits: Tensor) -> Tensor:
    """Refuse logits that no class can be read from; one of minus infinity is a class that is ruled out."""
    if not (logits < float("inf")).all():  # NaN fails
        raise NetworkError("network must return finite logits, got NaN or infinity.")
    return logits


def ours(error: RuntimeError, rule: str) -> RuntimeError:
    """Return an error of torch as a sentence that begins with ``rule``; others, and those of memory, as they are."""
    if type(error) not in (RuntimeError, NotImplementedError) or CPU_ALLOCATOR in str(error):
        return error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return NetworkError(f"{rule}, got: {reason.rstrip('.')}.")


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

    Raises:
        NetworkError: if the network has changed its weights meanwhile.
    """
    module = network if isinstance(network, nn.Module) else nn.Module()
    weights = {name: weight for name, weight in module.named_parameters() if not weight.is_inference()}
    asked = {name: (weight.requires_grad, weight._version) for name, weight in weights.items()}
    moving = [(buffer, buffer.clone()) for buffer in module.buffers() if not buffer.is_inference()]
    with _seeded(device, seed):
        try:
            for weight in weights.values():
                weight.requires_grad_(False)
            yield
        finally:
            for name, weight in weights.items():
                weight.requires_grad_(asked[name][0])
            with torch.no_grad():
                for buffer, value in moving:
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)
    changed = [name for name, weight in weights.items() if weight._version != asked[name][1]]
    if changed:
        raise NetworkError(
            f"network must leave its weights as they are, got a forward pass that changes {changed[0]!r}."
        )


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators of torch, Python and NumPy, and put their states back."""
    generators = [] if device.type == "cpu" else [device]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what a network may draw from
    with torch.random.fork_rng(generators, device_type=device.type if generators else "cuda"):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002

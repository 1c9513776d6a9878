"""A network whose calls can be made again, with the precision and the random numbers of the first time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["RepeatableCalls"]

Numbers = tuple[Tensor, ...]  # the state of the generator of the CPU and, if it is another, of the device


class RepeatableCalls:
    """Call ``network``, and note before each call what decides its output beside the input.

    That is the state of the random generators, on which dropout in train mode depends, and autocast, which a backward
    pass does not inherit from its forward pass.

    Args:
        network: maps windows to logits.
        device: where it runs.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.network = network
        self.device = device
        self.on_cpu = device.type == "cpu"
        self.generators = torch.get_device_module(device)
        self.autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        self.before: list[Numbers] = []

    def __call__(self, windows: Tensor) -> Tensor:
        """Call the network for the first time."""
        numbers = self._numbers()
        unmoved = bool(self.before) and _equal(numbers, self.before[-1])
        self.before.append(self.before[-1] if unmoved else numbers)  # one copy for all calls that draw nothing
        return self.network(windows)

    def drew_numbers(self) -> bool:
        """Tell, right after the calls, whether any of them drew random numbers."""
        return not _equal(self.before[0], self._numbers())

    @contextmanager
    def repeating(self) -> Iterator[Callable[[int], None]]:
        """Restore autocast for a while; yield what puts the random generators where they were before a call."""
        enabled, dtype = self.autocast
        devices = [] if self.on_cpu else [self.device]
        forked = torch.random.fork_rng(devices, device_type="cuda" if self.on_cpu else self.device.type)
        with forked, torch.autocast(self.device.type, dtype=dtype, enabled=enabled):
            yield self._rewind

    def _numbers(self) -> Numbers:
        """Read the generators."""
        state = torch.get_rng_state()
        return (state,) if self.on_cpu else (state, self.generators.get_rng_state(self.device))

    def _rewind(self, call: int) -> None:
        """Set the generators."""
        state, *others = self.before[call]
        torch.set_rng_state(state)
        for other in others:
            self.generators.set_rng_state(other, self.device)


def _equal(one: Numbers, other: Numbers) -> bool:
    """Tell whether generators stand at the same place."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

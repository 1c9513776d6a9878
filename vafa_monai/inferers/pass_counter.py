"""How often a network is run forward and backward: the cost of an attack, whatever the machine."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

from torch import Tensor, nn

__all__ = ["PassCounter"]


class PassCounter:
    """Count, while entered, the forward and backward passes of ``network`` in windows, the samples of its batches.

    The seconds of an attack depend on the machine, these numbers do not. A backward pass counts once a forward pass
    that it goes through, when the gradient reaches the output of the network.

    Args:
        network: the network itself, not the sliding window around it.

    Example:
        >>> import torch
        >>> network, volume = nn.Conv3d(1, 2, 1), torch.zeros(3, 1, 2, 2, 2, requires_grad=True)
        >>> with PassCounter(network) as passes:
        ...     _ = torch.autograd.grad(network(volume).sum(), volume)
        >>> passes.forward, passes.backward
        (3, 3)
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.forward = 0
        self.backward = 0
        self._hook: Any = None

    def __enter__(self) -> PassCounter:
        """Begin to count."""
        self._hook = self.network.register_forward_hook(self._note, with_kwargs=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop counting; the numbers stay."""
        self._hook.remove()

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Count a forward pass, and its backward pass when it comes."""
        windows = next((len(given) for given in (*args, *kwargs.values()) if isinstance(given, Tensor)), 1)
        self.forward += windows
        logits = next((part for part in _parts(output) if part.requires_grad), None)
        if logits is not None:
            logits.register_hook(lambda gradient: self._note_backward(windows))

    def _note_backward(self, windows: int) -> None:
        """Count a backward pass."""
        self.backward += windows


def _parts(output: Any) -> Iterator[Tensor]:
    """Yield the tensors of an output, which may be one or a list, tuple or dictionary of them."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, (list, tuple, dict)):
        for part in output.values() if isinstance(output, dict) else output:
            yield from _parts(part)

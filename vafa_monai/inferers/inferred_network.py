"""Networks around networks: with their inferer, in evaluation mode, counted, with less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.utils.checkpoint import checkpoint

from vafa_monai.inferers.output_adapter import tensors_of

__all__ = ["InferredNetwork", "PassCounter", "checkpointed", "evaluating"]


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


class PassCounter:
    """Count, while entered, the forward and backward passes of ``network`` in windows, the samples of its batches.

    The seconds of an attack depend on the machine, these numbers do not. A backward pass counts once a forward pass
    that it goes through, when the gradient reaches the output of the network.

    Args:
        network: the network itself, not the sliding window around it; whatever it returns.

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
        if isinstance(self.network, torch.jit.ScriptModule):  # takes no hook of its own
            self._hook = register_module_forward_hook(self._note_if_mine)
        else:
            self._hook = self.network.register_forward_hook(self._note, with_kwargs=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop counting; the numbers stay."""
        self._hook.remove()

    def _note_if_mine(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Count a forward pass of the network, not one of any other module."""
        if module is self.network:
            self._note(module, args, {}, output)

    def _note(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        """Count a forward pass, and its backward pass when it comes."""
        windows = next((len(given) for given in (*args, *kwargs.values()) if isinstance(given, Tensor)), 1)
        self.forward += windows
        to_come = [windows]
        for _, part in tensors_of(output):
            if part.requires_grad:
                part.register_hook(lambda gradient: self._note_backward(to_come))

    def _note_backward(self, to_come: list[int]) -> None:
        """Count a backward pass, once for all tensors of an output."""
        if to_come:
            self.backward += to_come.pop()


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
    parts = list(_repeatable_parts(network))
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


def _repeatable_parts(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the parts, each once; a list has no forward pass of its own, and neither has what holds one here."""
    lists = (nn.ModuleList, nn.ModuleDict)
    for child in dict.fromkeys(network.children()):
        if isinstance(child, lists) or any(isinstance(part, lists) for part in child.children()):
            yield from _repeatable_parts(child)
        else:
            yield child

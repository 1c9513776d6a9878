"""The logits in what a network returns, where that is more than one tensor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from vafa_monai.attacks.ascent import returned

__all__ = ["OutputAdapter", "take_logits", "tensors_of"]

Key = int | str
STACKED = 6  # axes of a stack of heads (B, heads, channels, H, W, D)


def tensors_of(output: Any, path: tuple[Key, ...] = ()) -> Iterator[tuple[tuple[Key, ...], Tensor]]:
    """Yield the tensors of whatever a network returns, each with the keys that lead to it.

    Example:
        >>> import torch
        >>> [path for path, _ in tensors_of({"out": torch.ones(1), "aux": [torch.ones(1), None]})]
        [('out',), ('aux', 0)]
    """
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, part in output.items():
            yield from tensors_of(part, (*path, key))
    elif isinstance(output, (list, tuple)):
        for number, part in enumerate(output):
            yield from tensors_of(part, (*path, number))


def take_logits(output: Any, entry: Key | Sequence[Key] | None, inputs: Tensor) -> Tensor:
    """Return the logits in the output of a network; see :class:`OutputAdapter`.

    Args:
        output: what the network returned.
        entry: where they are; ``None`` is the only place where a tensor has the batch and spatial size of ``inputs``.
        inputs: the volumes that it was given, ``(B, C, H, W, D)``.

    Raises:
        TypeError: if there is no tensor at ``entry``.
        ValueError: if ``entry`` is ``None`` and not one tensor fits.
    """
    if entry is not None:
        return _at(output, (entry,) if isinstance(entry, (int, str)) else tuple(entry))
    size = (len(inputs), *inputs.shape[2:])
    fitting = {path: one for path, one in tensors_of(output) if (*one.shape[:1], *one.shape[2:]) == size}
    if len(fitting) != 1:
        found = f"{len(fitting)} of them in {returned(output)}"
        remedy = "; say which by entry" if fitting else ""
        raise ValueError(f"network must return one tensor of batch and spatial size {size}, got {found}{remedy}.")
    return next(iter(fitting.values()))


def _at(output: Any, path: Sequence[Key]) -> Tensor:
    """Return the tensor at the end of a path of keys."""
    found = output
    for key in path:
        if isinstance(found, Tensor) and found.ndim == STACKED and isinstance(key, int):
            found = found[:, key]
            continue
        try:
            by_key = isinstance(found, Mapping) or (isinstance(found, (list, tuple)) and isinstance(key, int))
            found = found[key] if by_key else getattr(found, str(key))
        except (KeyError, IndexError, TypeError, AttributeError):
            found = None
    if not isinstance(found, Tensor):
        raise TypeError(f"network must return a tensor at entry {list(path)}, got {returned(output)}.")
    return found


class OutputAdapter(nn.Module):
    """Take the logits out of the tuple, list or dictionary that a network returns, so that it can be attacked.

    It stands in the place of the network, inside the inferer; its ``state_dict`` is that of the network, so checkpoints
    fit. Around an exported program, whose mode was fixed when it was made, it lets an engine choose a mode in vain.

    Args:
        network: returns a tuple, list or dictionary, however nested, or an object with attributes.
        entry: a number in a list or tuple, a key of a dictionary or the name of an attribute, or a list of such steps.
            In a stack of heads ``(B, heads, channels, H, W, D)``, which DynUNet gives in train mode, a number is the
            head. ``None`` takes the one tensor that has the batch and spatial size of the inputs, the finest of deep
            supervision.

    Raises:
        TypeError: at a call, if there is no tensor at ``entry``.
        ValueError: at a call, if ``entry`` is ``None`` and not one tensor fits.

    Example:
        >>> import torch
        >>> class Two(nn.Conv3d):
        ...     def forward(self, inputs):
        ...         return {"out": super().forward(inputs), "features": inputs.mean((2, 3, 4))}
        >>> network = Two(1, 2, 1)
        >>> OutputAdapter(network)(torch.zeros(1, 1, 4, 5, 6)).shape
        torch.Size([1, 2, 4, 5, 6])
        >>> list(OutputAdapter(network, entry="out").state_dict())
        ['weight', 'bias']
    """

    def __init__(self, network: nn.Module, entry: Key | Sequence[Key] | None = None) -> None:
        super().__init__()
        self.network = network
        self.entry = entry
        self.training = getattr(network, "training", False)  # a module starts in train mode

    def forward(self, inputs: Tensor) -> Tensor:
        """Map volumes ``(B, C, H, W, D)`` to logits ``(B, channels, H, W, D)``."""
        return take_logits(self.network(inputs), self.entry, inputs)

    def train(self, mode: bool = True) -> OutputAdapter:
        """Choose train or eval mode; a network whose mode is fixed stays as it is."""
        self.training = mode
        with suppress(NotImplementedError):
            self.network.train(mode)
        return self

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Return the weights of the network under their own names."""
        return self.network.state_dict(*args, **kwargs)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """Load weights of the network."""
        return self.network.load_state_dict(*args, **kwargs)

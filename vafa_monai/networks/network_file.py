"""Networks that come as a file: TorchScript and exported programs."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from zipfile import BadZipFile

import torch
from torch import Tensor, nn

__all__ = ["load_network"]

EXPORTED = ".pt2"


def load_network(path: str | Path) -> nn.Module:
    """Load a network from a file of ``torch.jit.save`` or, if it ends with ``.pt2``, of ``torch.export.save``.

    Such a file is a program: load only what you trust. An exported program takes windows of the sizes that it was
    exported for.

    Args:
        path: the file.

    Returns:
        The network, with the weights of the file, on the CPU; in eval mode if its mode is not fixed. A frozen one has
        no weights that could be told from its program: it says in their place which file it is of.

    Raises:
        ValueError: if the file is no network of its kind.
    """
    if not Path(path).is_file():
        raise ValueError(f"network must be a file, got {str(path)!r}.")
    try:
        if str(path).endswith(EXPORTED):
            return torch.export.load(str(path)).module()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch.jit.load.* is deprecated")
            network: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError, OSError, BadZipFile) as error:
        kind = "torch.export.save" if str(path).endswith(EXPORTED) else "torch.jit.save"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"network must be a file of {kind}, got {str(path)!r} ({reason}).") from error
    network.eval()
    return network if network.state_dict() else FrozenNetwork(network, path)


class FrozenNetwork(nn.Module):
    """A program whose weights are constants of it; its ``state_dict`` has the SHA-256 of its file as 32 bytes."""

    def __init__(self, network: nn.Module, path: str | Path) -> None:
        super().__init__()
        self.network, self.path, self.place = network, str(path), torch.device("cpu")
        digest = hashlib.sha256(Path(path).read_bytes()).digest()
        self.register_buffer("sha256", torch.frombuffer(bytearray(digest), dtype=torch.uint8))

    def forward(self, volume: Tensor) -> Tensor:
        """Run the program."""
        if volume.device != self.place:  # its constants do not move
            self.network = torch.jit.load(self.path, map_location=volume.device).eval()
            self.place = volume.device
        logits: Tensor = self.network(volume)
        return logits

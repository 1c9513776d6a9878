"""LPIPS without a download: its AlexNet weights come from a file, or LPIPS is absent."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from monai.utils import optional_import
from torch import Tensor, nn

__all__ = ["SMALLEST_SLICE", "build_lpips", "load_lpips", "lpips_by_slices"]

SMALLEST_SLICE = 31  # voxels: AlexNet has nothing left of a smaller one

WEIGHTS_NAME = "alexnet-owt-7be5be79.pth"  # torchvision's file; the name ends in the start of its SHA-256
HELP = (
    "LPIPS is absent: its AlexNet weights are not on this machine. Download "
    f"https://download.pytorch.org/models/{WEIGHTS_NAME} into {{folder}} or pass its path as lpips_weights."
)


def load_lpips(weights: str | Path | None = None) -> tuple[nn.Module | None, str | None]:
    """Load LPIPS (Zhang et al., CVPR 2018, https://arxiv.org/abs/1801.03924) with AlexNet features.

    Nothing is downloaded. Without a path the file is looked for where torchvision would put it.

    Args:
        weights: path of torchvision's AlexNet weights; read as data, and its SHA-256 is checked.

    Returns:
        The network in eval mode and no note, or no network and the sentence that says what is missing.

    Raises:
        ValueError: if ``weights`` is given and is no such file.
    """
    if not optional_import("lpips")[1]:
        return None, "LPIPS is absent: pip install lpips."
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = Path(weights) if weights is not None else folder / WEIGHTS_NAME
    digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
    intact = digest.startswith(Path(WEIGHTS_NAME).stem.rpartition("-")[2])
    if weights is None and not intact:
        return None, HELP.format(folder=folder)
    if not digest:
        raise ValueError(f"lpips_weights must be a file, got {str(path)!r}.")
    if not intact:
        raise ValueError(f"lpips_weights must be torchvision's {WEIGHTS_NAME}, got a file with SHA-256 {digest[:8]}…")
    return build_lpips(torch.load(path, map_location="cpu", weights_only=True)), None


def build_lpips(alexnet: dict[str, Tensor]) -> nn.Module:
    """Build LPIPS around the convolutions of an AlexNet state dict of torchvision."""
    lpips, _ = optional_import("lpips")
    network: Any = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)  # random trunk: no download
    trunk = network.net.state_dict()  # names such as "slice2.3.weight" for torchvision's "features.3.weight"
    network.net.load_state_dict({name: alexnet[f"features.{name.split('.', 1)[1]}"] for name in trunk})
    return network.eval().requires_grad_(False)


def lpips_by_slices(adv: Tensor, clean: Tensor, network: nn.Module) -> Tensor:
    """Average LPIPS over the axial slices (last axis) of two volumes, as the paper reports it, channel by channel.

    Args:
        adv: attacked volumes of shape ``(B, C, H, W, D)``, in [-1, 1].
        clean: clean volumes of the same shape.
        network: LPIPS network of two RGB batches; a slice of one channel is repeated in its three channels.

    Returns:
        Distances of shape ``(B,)``; 0 for equal volumes.
    """
    distances = []
    with torch.no_grad():
        for pair in zip(adv, clean, strict=True):
            first, second = (  # -> (C D, 3, H, W)
                volume.movedim(-1, 1).flatten(0, 1)[:, None].expand(-1, 3, -1, -1).float() for volume in pair
            )
            distances.append(torch.cat([network(*batch).flatten() for batch in _chunks(first, second)]).mean())
    return torch.stack(distances)


def _chunks(first: Tensor, second: Tensor, size: int = 32) -> zip:
    """Pair the slices in batches that fit into memory."""
    return zip(first.split(size), second.split(size), strict=True)

"""Import of the published weights of UNETR++."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vafa_monai.networks.unetrpp import PRESETS, UNETRPP

__all__ = ["load_official_unetrpp"]

PREFIX = "module."  # of a network that was trained on several GPUs


def load_official_unetrpp(state_dict: Mapping[str, Tensor], axes: str = "zyx") -> UNETRPP:
    """Build the published UNETR++ of a state dict, with its weights, in eval mode.

    The published networks are those for Synapse and ACDC of https://github.com/Amshaker/unetr_plus_plus; names and
    shapes of the tensors say which. Names are the same here. Where keys and values share a projection it is stored
    twice, and ``F`` is what counts.

    Args:
        state_dict: every published tensor and no other; names may begin with ``module.``.
        axes: order of the spatial axes of the volumes that the network shall take: the published ``"zyx"``, or
            ``"xyz"``, MONAI's (H, W, D), for the same function of volumes with reversed axes.

    Returns:
        The network, on the CPU in float32; it shares no memory with ``state_dict``.

    Raises:
        ValueError: if a tensor is missing, unknown, of another shape, or not real and finite.
    """
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in state_dict.items()}
    with torch.device("meta"):  # shapes alone: nothing is drawn at random
        networks = {variant: UNETRPP.preset(variant, axes) for variant in PRESETS}
    differences = {variant: _differences(tensors, network.state_dict()) for variant, network in networks.items()}
    nearest = min(differences, key=lambda variant: len(differences[variant]))
    if differences[nearest]:
        count, first = len(differences[nearest]), differences[nearest][0]
        raise ValueError(
            f"state_dict must hold the published tensors, got {count} that differ from {nearest!r}, first {first}."
        )
    network = networks[nearest].to_empty(device="cpu")
    network.load_state_dict(tensors)
    return network.eval()


def _differences(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Describe the tensors that are missing, of another shape or unknown."""
    missing = [f"{name!r}, which is missing" for name in expected if name not in tensors]
    shapes = {name: tuple(getattr(tensor, "shape", ())) for name, tensor in tensors.items()}
    other = [
        f"{name!r} of shape {shapes[name]} instead of {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]
    other += [
        f"{name!r}, which is not real and finite"
        for name, tensor in tensors.items()
        if name in expected and not _is_usable(tensor, expected[name])
    ]
    return missing + other + [f"{name!r}, which is unknown" for name in tensors if name not in expected]


def _is_usable(tensor: Tensor, expected: Tensor) -> bool:
    """Tell whether a tensor has finite real numbers where such are wanted."""
    if tensor.is_complex() or (expected.is_floating_point() and not tensor.is_floating_point()):
        return False
    return tensor.is_meta or bool(torch.isfinite(tensor).all())

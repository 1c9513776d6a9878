"""Import of UNETR weights that an older MONAI wrote, the published ones among them."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["convert_unetr_weights"]

POSITIONS = "vit.patch_embedding.position_embeddings"
UNUSED = re.compile(r"vit\.patch_embedding\.cls_token|vit\.blocks\.\d+\.cross_attn\..+")
SHORTCUT = re.compile(r"((?:encoder|decoder)\d\..+)\.conv3\.conv\.weight")
ATTENTION_NORM = re.compile(r"(vit\.blocks\.\d+)\.norm1\.(weight|bias)")


def convert_unetr_weights(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Map the state dict of a UNETR of an older MONAI to that of ``monai.networks.nets.UNETR`` of MONAI 1.6.

    Names, shapes and axis order are the same in all versions, and so are both patch embeddings: what was ``pos_embed``
    is ``proj_type`` now. What differs is never computed with. Networks of MONAI 0.7 and 0.8 also hold a class token,
    and ``conv3`` and ``norm3`` of residual blocks that keep the number of channels; those of 1.4 and 1.5 also hold a
    cross-attention. Every block of the network of 1.6 has a ``norm_cross_attn``, which came with 1.4. Networks of MONAI
    0.7.0, 0.8.1, 0.9.1, 1.0.1, 1.3.0, 1.4.0 and 1.5.0 with random weights gave the same outputs as that of 1.6.1 with
    the converted ones, to the last bit.

    Args:
        state_dict: tensors by their names in UNETR; those of MONAI 1.6 are returned as they are.

    Returns:
        The tensors by name, not copied; weights of one and biases of zero for the layers that the file does not know.

    Raises:
        ValueError: if the tensors are not those of a UNETR.
    """
    if POSITIONS not in state_dict:
        first = next(iter(state_dict), None)
        raise ValueError(
            f"state_dict must hold {POSITIONS!r} of a UNETR, got {len(state_dict)} tensors, first {first!r}."
        )
    unused = _unused_shortcuts(state_dict)
    converted: dict[str, Tensor] = {}
    for name, tensor in state_dict.items():
        if UNUSED.fullmatch(name) or name.startswith(unused):
            continue
        converted[name] = tensor
        converted.update(_missing_norm(name, tensor, state_dict))
    return converted


def _unused_shortcuts(state_dict: Mapping[str, Tensor]) -> tuple[str, ...]:
    """List how the names of shortcuts begin that keep the number of channels: the block adds its input itself."""
    blocks = [
        match[1]
        for name, weight in state_dict.items()
        if (match := SHORTCUT.fullmatch(name)) and weight.shape[0] == weight.shape[1]
    ]
    return tuple(f"{block}.{layer}." for block in blocks for layer in ("conv3", "norm3"))


def _missing_norm(name: str, tensor: Tensor, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the norm of a block's cross-attention, like that of its attention, if there is none."""
    match = ATTENTION_NORM.fullmatch(name)
    if match is None or (missing := f"{match[1]}.norm_cross_attn.{match[2]}") in state_dict:
        return {}
    return {missing: torch.ones_like(tensor) if match[2] == "weight" else torch.zeros_like(tensor)}

"""What the handlers do to the batch of an engine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from monai.data import decollate_batch, list_data_collate
from monai.utils import StrEnum, convert_to_dst_type
from torch import Tensor, nn

from vafa_monai.handlers.room import Room, attack_in_room
from vafa_monai.inferers import PassCounter, evaluating, whole_network

__all__ = ["AdversarialKeys", "AttackedBatch", "append_to_batch", "attack_batch"]


class AdversarialKeys(StrEnum):
    """Keys of a batch under attack, beside MONAI's ``image``, ``label`` and ``pred``.

    An evaluation in the grid of the files keeps the prediction of the network's grid and the untouched label.
    """

    CLEAN_IMAGE = "clean_image"
    GRID_PRED = "grid_pred"
    NATIVE_LABEL = "native_label"


class AttackedBatch(NamedTuple):
    """Clean and attacked volumes ``(B, C, H, W, D)``, and what the attack did.

    Args:
        details: one dictionary a sample of what the attack tells of it.
        cost: windows that it ran through the network, ``forward`` and ``backward``.
    """

    clean: Tensor
    adv: Tensor
    details: list[dict[str, Any]]
    cost: dict[str, int]


def attack_batch(
    engine: Any, attack: Callable[..., Tensor], windows_per_gradient: int | None = None, compiled: bool = False
) -> AttackedBatch:
    """Attack the batch of ``engine`` through its own inferer and network in eval mode.

    Through a sliding window the attack meets the blended logits of the whole volume, at the memory of one batch of
    windows, or a few windows drawn at random for each gradient; see :class:`vafa_monai.inferers.SlidingWindowNetwork`.
    Where memory runs out, less is attacked at once, here and in the batches to come; see
    :func:`vafa_monai.handlers.room.attack_in_room`.

    Args:
        engine: trainer or evaluator.
        attack: attack of :mod:`vafa_monai.attacks`.
        windows_per_gradient: number of windows of a cheap gradient.
        compiled: attack the network through :func:`torch.compile`.

    Returns:
        The inputs ``(B, C, H, W, D)`` as the engine prepares them, their attacked version, and what the attack did.

    Raises:
        TypeError: if the batch is no dictionary.
        ValueError: if ``windows_per_gradient`` is given, but the inferer is no sliding window.
        RuntimeError: if memory is too small for one window of one volume.
    """
    batch = engine.state.batch
    if not isinstance(batch, dict):
        raise TypeError(f"batch must be a dictionary of volumes and labels, got {type(batch).__name__}.")
    inputs, targets = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)[:2]
    network = _compiled(engine) if compiled else _own_network(engine)
    whole = whole_network(network, engine.inferer, windows_per_gradient)
    precision = (
        torch.autocast("cuda", **engine.amp_kwargs) if engine.amp and torch.cuda.is_available() else nullcontext()
    )
    with evaluating(whole), precision, PassCounter(network) as passes:
        room: Room | None = getattr(engine.state, "attack_room", None)
        adv, details, engine.state.attack_room = attack_in_room(attack, inputs, targets, whole, room)
    cost = {"forward": passes.forward, "backward": passes.backward}
    return AttackedBatch(inputs, convert_to_dst_type(adv, dst=inputs)[0], details, cost)


def _own_network(engine: Any) -> nn.Module:
    """Return the network without the wrapper of DDP: an attack stays on its own rank."""
    network: nn.Module = getattr(engine.network, "module", engine.network)
    return network


def _compiled(engine: Any) -> nn.Module:
    """Return the network compiled, once for all batches of a run; its weights are the network's."""
    if getattr(engine.state, "compiled_network", None) is None:
        engine.state.compiled_network = torch.compile(_own_network(engine))
    network: nn.Module = engine.state.compiled_network
    return network


def append_to_batch(batch: dict[str, Any], image_key: str, adv: Tensor) -> dict[str, Any]:
    """Return the batch followed by itself with ``adv`` as its images: ``[clean; adversarial]``, metadata doubled."""
    image = batch[image_key]
    attacked = {**batch, image_key: adv.to(image.device)}
    return list_data_collate([*decollate_batch(batch), *decollate_batch(attacked)])

"""How much of a batch is attacked at once, and less of it where memory is short."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from vafa_monai.attacks import Attack
from vafa_monai.inferers import InferredNetwork, SlidingWindowNetwork, checkpointed

__all__ = ["Room", "attack_in_room"]

CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch says in its RuntimeError where the CPU has no memory left
Attacked = tuple[Tensor, list[dict[str, Any]]]


@dataclass(frozen=True)
class Room:
    """What fits into memory at once.

    Args:
        samples: number of volumes attacked together.
        windows: number of windows the network sees at once; 1 without a sliding window.
        checkpointing: whether the parts of the network are run again in the backward pass instead of kept.
    """

    samples: int
    windows: int = 1
    checkpointing: bool = False

    def smaller(self) -> Room | None:
        """Return the next smaller room: fewer volumes, then fewer windows, then checkpointing; ``None`` is the end.

        Example:
            >>> Room(1, 2).smaller(), Room(1, 1, checkpointing=True).smaller()
            (Room(samples=1, windows=1, checkpointing=False), None)
        """
        if self.samples > 1:
            return replace(self, samples=self.samples // 2)
        if self.windows > 1:
            return replace(self, windows=self.windows // 2)
        return None if self.checkpointing else replace(self, checkpointing=True)

    def __str__(self) -> str:
        """Say what it is in words."""
        kept = ", its activations computed again" if self.checkpointing else ""
        return f"{self.samples} volume(s), {self.windows} window(s) at once{kept}"


def attack_in_room(
    attack: Callable[..., Tensor],
    inputs: Tensor,
    targets: Tensor,
    whole: InferredNetwork | SlidingWindowNetwork,
    room: Room | None = None,
) -> tuple[Tensor, list[dict[str, Any]], Room]:
    """Attack a batch, and again in a smaller room for as long as memory runs out.

    Nothing changes but rounding: every sample of a batch is attacked by itself, with the same random numbers.

    Args:
        attack: the attack.
        inputs: volumes ``(B, C, H, W, D)``.
        targets: class indices ``(B, 1, H, W, D)``.
        whole: the pipeline.
        room: what fitted the last time; ``None`` is the whole batch.

    Returns:
        Attacked volumes, what the attack tells of each sample, and the room that was enough.

    Raises:
        RuntimeError: if one window of one volume is too much.
    """
    windows = whole.inferer.sw_batch_size if isinstance(whole, SlidingWindowNetwork) else 1
    room = Room(len(inputs), windows) if room is None else room
    while True:
        found = _attack(attack, inputs, targets, whole, room)
        if found is not None:
            return *found, room
        smaller = room.smaller()
        if smaller is None:
            shape = tuple(inputs.shape[1:])
            raise RuntimeError(f"roi_size must be small enough for memory, got an attack on {shape} in {room}.")
        logging.getLogger(__name__).warning("out of memory with %s; going on with %s", room, smaller)
        room = smaller
        gc.collect()
        if inputs.is_cuda:
            torch.cuda.empty_cache()


def _attack(
    attack: Callable[..., Tensor],
    inputs: Tensor,
    targets: Tensor,
    whole: InferredNetwork | SlidingWindowNetwork,
    room: Room,
) -> Attacked | None:
    """Attack part after part, or return nothing if there is no memory for one."""
    if isinstance(whole, SlidingWindowNetwork):
        whole.inferer.sw_batch_size = room.windows
    volumes, details = [], []
    try:
        with checkpointed(whole.network) if room.checkpointing else nullcontext():
            for some, truth in zip(inputs.split(room.samples), targets.split(room.samples), strict=True):
                found = attack.run(some, truth, whole) if isinstance(attack, Attack) else None
                volumes.append(_called(attack, some, truth, whole) if found is None else found.adv)
                details += [{} for _ in some] if found is None else found.details()
    except RuntimeError as error:  # handled outside, where the frames of the error hold no tensors any more
        if not (isinstance(error, torch.OutOfMemoryError) or CPU_ALLOCATOR in str(error)):
            raise
        return None
    return (volumes[0] if len(volumes) == 1 else torch.cat(volumes)), details


def _called(attack: Callable[..., Tensor], inputs: Tensor, targets: Tensor, whole: nn.Module) -> Tensor:
    """Call an attack that is none of ours, with copies; refuse a result that no network could be given."""
    adv = attack(inputs.clone(), targets.clone(), whole)
    if not isinstance(adv, Tensor) or adv.shape != inputs.shape:
        found = f"shape {tuple(adv.shape)}" if isinstance(adv, Tensor) else type(adv).__name__
        raise ValueError(f"attack must return volumes of shape {tuple(inputs.shape)}, got {found}.")
    if not adv.isfinite().all():
        raise ValueError("attack must return finite volumes, got NaN or infinity.")
    return adv

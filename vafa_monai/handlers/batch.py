"""What the handlers do to the batch of an engine."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, cast

import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from monai.inferers import SimpleInferer
from monai.utils import StrEnum, convert_to_dst_type
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from vafa_monai.attacks.ascent import isolated, require_tensor
from vafa_monai.attacks.attack import Attack
from vafa_monai.inferers.inferred_network import InferredNetwork, PassCounter, checkpointed, evaluating
from vafa_monai.inferers.sliding_window_network import SlidingWindowNetwork
from vafa_monai.inferers.whole_network import whole_network
from vafa_monai.losses.output import Output, require_channels

__all__ = [
    "AdversarialKeys",
    "AttackTarget",
    "attack_batch",
    "attack_record",
    "engine_precision",
    "joined_batch",
    "part_of_batch",
    "prepared_batch",
]

CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch says in its RuntimeError where the CPU has no memory left
Attacked = tuple[Tensor, list[dict[str, Any]]]


@dataclass(frozen=True)
class MemoryPlan:
    """What fits into memory at once.

    Args:
        samples: number of volumes attacked together.
        windows: number of windows the network sees at once; 1 without a sliding window.
        checkpointing: whether the parts of the network are run again in the backward pass instead of kept.
    """

    samples: int
    windows: int = 1
    checkpointing: bool = False

    def smaller(self) -> MemoryPlan | None:
        """Return the next smaller room: fewer volumes, then fewer windows, then checkpointing; ``None`` is the end.

        Example:
            >>> MemoryPlan(1, 2).smaller(), MemoryPlan(1, 1, checkpointing=True).smaller()
            (MemoryPlan(samples=1, windows=1, checkpointing=False), None)
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


def attack_within_memory(
    attack: Callable[..., Tensor],
    inputs: Tensor,
    targets: Tensor,
    whole: InferredNetwork | SlidingWindowNetwork,
    room: MemoryPlan | None = None,
) -> tuple[Tensor, list[dict[str, Any]], MemoryPlan]:
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
    room = MemoryPlan(len(inputs), windows) if room is None else room
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
    room: MemoryPlan,
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


FULL_PRECISION = 1e-3  # of the largest logit: another order of sums, a compiler, TF32


class AdversarialKeys(StrEnum):
    """Keys of a batch under attack, beside MONAI's ``image``, ``label`` and ``pred``.

    An evaluation in the grid of the files keeps the prediction of the network's grid and the untouched label.
    """

    CLEAN_IMAGE = "clean_image"
    GRID_PRED = "grid_pred"
    NATIVE_LABEL = "native_label"


class AttackTarget(StrEnum):
    """What an attack leads away from: the truth, or what the network says of the clean volume."""

    LABEL = "label"
    PREDICTION = "prediction"


@dataclass
class AttackRecord:
    """What the attacks of a run leave on ``engine.state.attack_record``.

    Args:
        details: of the batch at hand, one dictionary a sample.
        cost: windows of the batch at hand, ``forward`` and ``backward``.
        windows_per_gradient: number of windows of a cheap gradient.
        compiled: whether the network was attacked through :func:`torch.compile`.
        plan: how little is attacked at once, since memory ran out.
        compared: network and inferer whose logits were found to be those that the attack met.
        compiled_network: the compiled network.
    """

    details: list[dict[str, Any]] | None = None
    cost: dict[str, int] = field(default_factory=dict)
    windows_per_gradient: int | None = None
    compiled: bool = False
    plan: MemoryPlan | None = None
    compared: tuple[Any, Any] = (None, None)
    compiled_network: nn.Module | None = None


def attack_record(engine: Any) -> AttackRecord:
    """Return the record of a run, an empty one if there was no attack yet."""
    if not isinstance(getattr(engine.state, "attack_record", None), AttackRecord):
        engine.state.attack_record = AttackRecord()
    record: AttackRecord = engine.state.attack_record
    return record


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
    engine: Any,
    attack: Callable[..., Tensor],
    windows_per_gradient: int | None = None,
    compiled: bool = False,
    target: AttackTarget = AttackTarget.LABEL,
) -> AttackedBatch:
    """Attack the batch of ``engine`` through its own inferer and network in eval mode.

    Through a sliding window the attack meets the blended logits of the whole volume, at the memory of one batch of
    windows, or a few windows drawn at random for each gradient; see :class:`vafa_monai.inferers.SlidingWindowNetwork`.
    Where memory runs out, less is attacked at once, here and in the batches to come; see
    :func:`vafa_monai.handlers.batch.attack_within_memory`.

    Args:
        engine: trainer or evaluator.
        attack: attack of :mod:`vafa_monai.attacks`.
        windows_per_gradient: number of windows of a cheap gradient.
        compiled: attack the network through :func:`torch.compile`.
        target: what the attack is given as targets: the labels, or the logits of the clean volumes.

    Returns:
        The inputs ``(B, C, H, W, D)`` as the engine prepares them, their attacked version, and what the attack did.

    Raises:
        TypeError: if the batch is no dictionary.
        ValueError: if ``windows_per_gradient`` is given, but the inferer is no sliding window, or if the engine gives
            its network more than volumes, or if a prediction is the target and has one channel of a softmax.
        RuntimeError: if memory is too small for one window of one volume, or if what is attacked and what is evaluated
            give different logits of the first volume.
    """
    inputs, targets = prepared_batch(engine)
    network = _compiled(engine) if compiled else _own_network(engine)
    whole = whole_network(network, engine.inferer, windows_per_gradient)
    if getattr(attack, "asks_network", True):
        _require_same_network(engine, whole)
    with evaluating(whole), engine_precision(engine), PassCounter(network) as passes:
        if target == AttackTarget.PREDICTION:
            targets = _predicted(whole, inputs, getattr(attack, "output", "softmax"))
        record = attack_record(engine)
        adv, details, record.plan = attack_within_memory(attack, inputs, targets, whole, record.plan)
    cost = {"forward": passes.forward, "backward": passes.backward}
    return AttackedBatch(inputs, convert_to_dst_type(adv, dst=inputs)[0], details, cost)


def _predicted(whole: nn.Module, inputs: Tensor, output: Output | str) -> Tensor:
    """Return the logits of clean volumes as targets that are no class indices."""
    with torch.no_grad(), isolated(whole, inputs.device):
        logits = require_tensor(whole(_plain(inputs).clone())).detach()
    require_channels(logits.shape[1], output=output)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _require_same_network(engine: Any, whole: nn.Module) -> None:
    """Refuse an attack on another network than the one whose predictions count, once for each of a run.

    The first volume of the batch goes through what the attack meets, and through inferer and network as the engine runs
    them; a trainer's network in eval mode. Weights, running statistics and random generators stay as they were.
    """
    parts, compared = (engine.network, engine.inferer), attack_record(engine).compared
    if all(one is other for one, other in zip(parts, compared, strict=True)):
        return
    volume, mode = prepared_batch(engine)[0][:1], getattr(engine, "mode", evaluating)
    with (
        evaluating(engine.network),  # puts back the mode of every part, which the engine's does not
        mode(engine.network),
        torch.no_grad(),
        engine_precision(engine),
        isolated(engine.network, volume.device),
    ):
        as_given = _plain(volume) if getattr(engine, "compile", False) else volume
        evaluated = _on_cpu((engine.inferer or SimpleInferer())(as_given.clone(), engine.network))
    with evaluating(whole), torch.no_grad(), engine_precision(engine), isolated(whole, volume.device):
        attacked = _on_cpu(whole(_plain(volume).clone()))
    weights = [weight.dtype for weight in engine.network.parameters()]
    amp = [engine.amp_kwargs.get("dtype", torch.float16)] if engine.amp else []
    _require_equal(attacked, evaluated, [attacked.dtype, evaluated.dtype, *weights, *amp])
    attack_record(engine).compared = parts


def _require_equal(attacked: Tensor, evaluated: Tensor, dtypes: list[torch.dtype]) -> None:
    """Refuse logits that differ by more than their precision explains."""
    if attacked.shape != evaluated.shape:
        shapes = f"{tuple(attacked.shape)} and {tuple(evaluated.shape)}"
        raise RuntimeError(f"network must give attack and evaluation the same logits, got those of shapes {shapes}.")
    rounding = max([FULL_PRECISION, *(4 * torch.finfo(dtype).eps for dtype in dtypes if dtype.is_floating_point)])
    differences, scale = [], 0.0
    for pair in zip(attacked.unbind(1), evaluated.unbind(1), strict=True):
        one, other = (logits.double() for logits in pair)  # a channel at a time
        equal = torch.isclose(one, other, rtol=0, atol=0, equal_nan=True)  # infinite ones, too
        differences.append((one - other).abs().masked_fill(equal, 0).amax())
        scale = max(scale, other.where(other.isfinite(), 0).abs().max().item())
    largest = torch.stack(differences).amax().item()
    if not largest <= rounding * scale:  # NaN fails
        raise RuntimeError(
            "network must give attack and evaluation the same logits, got a largest difference of "
            f"{largest:.4g} on a clean volume, where logits reach {scale:.4g}; is there a wrapper, mode or inferer "
            "that only one of them goes through?"
        )


def _on_cpu(logits: Any) -> Tensor:
    """Return logits where two of them cost no memory of a device; refuse what are none."""
    return _plain(require_tensor(logits)).detach().cpu()


def _plain(volume: Tensor) -> Tensor:
    """Strip the metadata."""
    return volume.as_tensor() if isinstance(volume, MetaTensor) else volume


def prepared_batch(engine: Any) -> tuple[Tensor, Tensor]:
    """Return volumes and labels of the batch as the engine prepares them."""
    batch = engine.state.batch
    if not isinstance(batch, dict):
        raise TypeError(f"batch must be a dictionary of volumes and labels, got {type(batch).__name__}.")
    prepared = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    inputs, targets, *more = prepared
    if any(more):
        kinds = [type(argument).__name__ for part in more for argument in part]
        raise ValueError(f"prepare_batch must give the network volumes alone, as attacks do, got {kinds} beside them.")
    return inputs, targets


def engine_precision(engine: Any) -> AbstractContextManager[Any]:
    """Return the autocast of the engine, which is that of CUDA."""
    return torch.autocast("cuda", **engine.amp_kwargs) if engine.amp and torch.cuda.is_available() else nullcontext()


def _own_network(engine: Any) -> nn.Module:
    """Return the network without the wrapper of several GPUs: an attack stays on its own rank.

    Whatever else holds a network in an attribute ``module``, such as an average of weights, stays around it.
    """
    wrapped = type(engine.network) in (DataParallel, DistributedDataParallel)
    network: nn.Module = engine.network.module if wrapped else engine.network
    return InferredNetwork(network) if isinstance(network, torch.jit.ScriptModule) else network  # it takes no hooks


def _compiled(engine: Any) -> nn.Module:
    """Return the network compiled, once for all batches of a run; its weights are the network's."""
    record = attack_record(engine)
    if record.compiled_network is None:
        record.compiled_network = cast(nn.Module, torch.compile(_own_network(engine)))
    return record.compiled_network


def part_of_batch(batch: dict[str, Any], first: int, last: int) -> dict[str, Any] | None:
    """Return the cases from ``first`` to before ``last``, the whole batch as it is; nothing if there are none."""
    cases = decollate_batch(batch)
    if first == 0 and last == len(cases):
        return batch
    return list_data_collate(cases[first:last]) if first < last else None


def joined_batch(kept: dict[str, Any] | None, attacked: dict[str, Any], image_key: str, adv: Tensor) -> dict[str, Any]:
    """Return clean cases followed by attacked ones, with ``adv`` as the images of these: ``[clean; adversarial]``."""
    changed = {**attacked, image_key: adv.to(attacked[image_key].device)}
    return list_data_collate([*(decollate_batch(kept) if kept else []), *decollate_batch(changed)])

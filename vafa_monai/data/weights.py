"""The weights in a checkpoint: in which dictionary, behind which prefix, of which kind, and whether they fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vafa_monai.data.checkpoint import read_checkpoint
from vafa_monai.data.files import oversize

__all__ = ["FoundWeights", "check_checkpoint", "difference", "extract_weights", "find_weights", "flaw", "read_weights"]

WEIGHT_KEYS = ("model", "state_dict", "model_state_dict", "network_weights")  # what MONAI's loader takes comes first
WRAPPERS = {"", "module", "_orig_mod", "model", "net", "network"}  # several GPUs, compilation, a class around a network
BESIDE = re.compile(r"n_averaged|[^.]*(loss|criterion|metric|ema|averag)", re.IGNORECASE)  # not part of a network
HEADS = ("out.", "out1.", "out2.", "out3.")  # of UNETR and UNETR++: their first axis is that of the classes
SHOWN = 5


@dataclass(frozen=True, kw_only=True)
class FoundWeights:
    """A state dict as it was found.

    Args:
        entry: key of the dictionary that was taken; empty if the whole file is it.
        others: keys of the dictionaries that were not taken.
        prefix: what all names begin with and those of the network do not.
        beside: names without the prefix, such as buffers of a loss, which belong to no network.
        weights: the tensors by their names without the prefix.
    """

    entry: str
    others: tuple[str, ...]
    prefix: str
    beside: tuple[str, ...]
    weights: dict[str, Tensor]

    @property
    def place(self) -> str:
        """Where the weights are, as the end of a sentence; empty if there is nothing to say."""
        parts = [f"under {self.entry!r}"] if self.entry else []
        parts += [f"not those under {_listed(self.others)}"] if self.others else []
        parts += [f"with names that begin with {self.prefix!r}"] if self.prefix else []
        parts += [f"without {_listed(self.beside)}"] if self.beside else []
        return ", ".join(parts)


def extract_weights(checkpoint: Any, entry: str | None = None) -> dict[str, Tensor]:
    """Return the state dict of a checkpoint: the whole of it, or the entry that holds it.

    Args:
        checkpoint: what :func:`read_checkpoint` returned. An entry ``"model"``, ``"state_dict"``,
            ``"model_state_dict"`` or ``"network_weights"`` comes first; another one is taken if no other holds named
            tensors only.
        entry: the entry to take, whichever others there are.

    Raises:
        ValueError: if there is no state dict, or more than one.

    Example:
        >>> extract_weights({"epoch": 3, "state_dict": {"bias": torch.ones(1)}})
        {'bias': tensor([1.])}
    """
    return find_weights(checkpoint, (), entry).weights


def find_weights(checkpoint: Any, names: Collection[str], entry: str | None = None) -> FoundWeights:
    """Find the tensors that a network calls ``names`` in a checkpoint, behind any prefix that a wrapper put before.

    Args:
        checkpoint: what :func:`read_checkpoint` returned.
        names: names that tell the weights of the network; where several entries hold weights, those with such names
            come first.
        entry: the entry to take; ``None`` to choose, see :func:`extract_weights`.

    Raises:
        ValueError: if there is no state dict or more than one, if its names begin with more than one prefix, or if it
            holds more than the network and what losses, metrics and averages keep.
    """
    wanted = set(names)
    dictionaries = _dictionaries(checkpoint)
    chosen = _choose(checkpoint, dictionaries, wanted, entry)
    weights = dictionaries[chosen]
    if reason := oversize(sum(tensor.nbytes for tensor in weights.values()), _stored(weights)):
        raise ValueError(f"checkpoint must hold tensors that fit into memory, got some {reason}.")
    prefix = _prefix(weights, wanted)
    beside = tuple(name for name in weights if not name.startswith(prefix))
    counts = _prefixes(weights, wanted)
    copies = tuple(start for start, count in counts.items() if start and 2 * count >= counts[prefix])
    foreign = [name for name in beside if not BESIDE.match(name) and not name.startswith(copies)]
    if foreign:
        raise ValueError(
            f"checkpoint must hold one network, got names that begin with {prefix!r} and {_listed(foreign)} beside; "
            "save the state dict of the network alone."
        )
    inner = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    others = tuple(key for key in dictionaries if key != chosen)
    return FoundWeights(entry=chosen, others=others, prefix=prefix, beside=beside, weights=inner)


def read_weights(path: str | Path, network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a file that ``network`` takes as they are, as MONAI's ``CheckpointLoader`` finds them.

    Args:
        path: file with a state dict, bare or under ``"model"``; read as data.
        network: the network that is to get the weights; it may be on the device ``"meta"``.

    Raises:
        ValueError: if the file is missing, damaged or no data, or holds weights of another network, of another form,
            or that are not real, dense and finite.
    """
    path, name = Path(path), type(network).__name__
    if not path.is_file():
        raise ValueError(f"checkpoint must be a file, got {str(path)!r}; train the model first.")
    wanted = network.state_dict()
    content = read_checkpoint(path)
    try:
        found = find_weights(content, wanted)
    except ValueError as error:
        raise ValueError(f"checkpoint must hold the weights of this {name}, got {str(path)!r}: {error}") from error
    if wrong := difference(found.weights, wanted):
        raise ValueError(f"checkpoint must hold the weights of this {name}, got {str(path)!r}, {wrong}.")
    if found.entry not in ("", "model") or found.prefix:
        raise ValueError(
            f"checkpoint must hold the weights of this {name} bare or under 'model', got {str(path)!r}, which has them "
            f"{found.place}; let 'vafa-monai convert' write them as they are to be."
        )
    if wrong := flaw(found.weights, wanted):
        raise ValueError(f"checkpoint must hold real and finite weights, got {str(path)!r}, {wrong}.")
    return found.weights


def check_checkpoint(path: str | Path, network: nn.Module, exit_on_error: bool = False) -> None:
    """Refuse a checkpoint whose weights ``network`` does not take, with one sentence; see :func:`read_weights`.

    Args:
        path: file with a state dict, bare or under ``"model"``; read as data.
        network: the network that is to get the weights.
        exit_on_error: end the process with the sentence and exit code 1, as configs do, instead of raising.

    Raises:
        ValueError: if the checkpoint does not fit.
    """
    try:
        read_weights(path, network)
    except ValueError as error:
        if exit_on_error:
            raise SystemExit(str(error)) from None
        raise


def difference(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Tell how names and shapes differ from those of a network, as the end of a sentence; empty if they do not."""
    found, expected = ({name: tuple(tensor.shape) for name, tensor in tensors.items()} for tensors in (weights, wanted))
    wrong = [name for name in {**expected, **found} if found.get(name) != expected.get(name)]
    if not wrong:
        return ""
    first = wrong[0]
    missing, unknown = ([name for name in wrong if name not in shapes] for shapes in (found, expected))
    counts = {"missing": len(missing), "unknown": len(unknown), "of another shape": len(wrong)}
    counts["of another shape"] -= len(missing) + len(unknown)
    told = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    near = get_close_matches(first, unknown, 1) if first in missing else []
    hint = f"; the file has {near[0]!r}" if near else ""
    if not missing and not unknown and all(name.startswith(HEADS) for name in wrong):
        hint = f"; the file has {found[first][0]} classes, so build the network with as many"
    return (
        f"in which {len(wrong)} tensors differ, first {first!r} with shape {found.get(first)} where "
        f"{expected.get(first)} is wanted ({told}){hint}"
    )


def flaw(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Tell of weights that a network would take and give nonsense with, as the end of a sentence; empty if none.

    Args:
        weights: tensors with the names and shapes of ``wanted``.
        wanted: the state dict of the network.
    """
    broken = {name: kind for name, tensor in weights.items() if (kind := _kind_of_flaw(tensor, wanted[name].dtype))}
    if not broken:
        return ""
    first = next(iter(broken))
    return f"in which {len(broken)} tensors are not, first {first!r}, which is {broken[first]}"


def _kind_of_flaw(tensor: Tensor, dtype: torch.dtype) -> str:
    """Tell what is wrong with a tensor that is to become one of ``dtype``."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        return "not a dense tensor with values"
    real = tensor.is_floating_point() or (not dtype.is_floating_point and not tensor.is_complex())
    if not real:
        return f"of type {tensor.dtype} where {dtype} is wanted"
    if not torch.isfinite(tensor).all() or not torch.isfinite(tensor.to(dtype)).all():
        return f"not finite in {dtype}"
    if not dtype.is_floating_point and not torch.equal(tensor.to(dtype).to(tensor.dtype), tensor):
        return f"not whole where {dtype} is wanted"
    return ""


def _dictionaries(checkpoint: Any) -> dict[str, dict[str, Tensor]]:
    """Return every state dict by its key; that of the whole has an empty one."""
    if _is_state_dict(checkpoint):
        return {"": dict(checkpoint)}
    entries = checkpoint if isinstance(checkpoint, Mapping) else {}
    return {str(key): dict(content) for key, content in entries.items() if _is_state_dict(content)}


def _stored(weights: Mapping[str, Tensor]) -> int:
    """Return the bytes behind the tensors: those of one value that is shown a million times are those of one."""
    return sum(tensor.untyped_storage().nbytes() for tensor in weights.values() if tensor.layout == torch.strided)


def _is_state_dict(content: Any) -> bool:
    """Tell whether this maps names to tensors, and to nothing else."""
    named = isinstance(content, Mapping) and len(content) > 0
    return named and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _choose(
    checkpoint: Any, dictionaries: Mapping[str, Mapping[str, Tensor]], wanted: set[str], entry: str | None
) -> str:
    """Return the key of the state dict to take."""
    rule = "checkpoint must hold one state dict, a dictionary of named tensors"
    if entry is not None:
        if entry not in dictionaries:
            raise ValueError(f"entry must be one of {list(dictionaries)}, got {entry!r}.")
        return entry
    fitting = [key for key, weights in dictionaries.items() if _prefixes(weights, wanted)] or list(dictionaries)
    chosen = [key for key in WEIGHT_KEYS if key in fitting][:1] or fitting
    if len(chosen) == 1:
        return chosen[0]
    if chosen:
        raise ValueError(f"{rule}, got a {type(checkpoint).__name__} with {chosen}; say which as entry.")
    keys = list(checkpoint)[:SHOWN] if isinstance(checkpoint, Mapping) else []
    hint = f"; its entries are {_listed(map(str, keys))}" if keys else ""
    raise ValueError(f"{rule}, got a {type(checkpoint).__name__} with none{hint}.")


def _prefixes(weights: Mapping[str, Tensor], wanted: set[str]) -> Counter[str]:
    """Count for every beginning how many names have it before a name of the network."""
    counts: Counter[str] = Counter()
    for name in weights:
        starts = [0, *(match.end() for match in re.finditer(r"\.", name))]
        counts.update(name[:start] for start in starts if name[start:] in wanted)
    return counts


def _prefix(weights: Mapping[str, Tensor], wanted: set[str]) -> str:
    """Return the one beginning that most names of the network have, if wrappers put it there or most names have it."""
    counts = _prefixes(weights, wanted)
    likely = {
        start: count
        for start, count in counts.items()
        if _is_wrapper(start) or 2 * count >= len(wanted)  # else names that are alike by chance
    }
    best = [start for start, count in likely.items() if count == max(likely.values())]
    usual = [start for start in best if _is_wrapper(start)] or best
    if len(usual) > 1 and "" not in usual:
        raise ValueError(f"checkpoint must hold one network, got names that begin with {_listed(usual)}.")
    return "" if "" in usual or not usual else usual[0]


def _is_wrapper(prefix: str) -> bool:
    """Tell whether a beginning is made of the names that wrappers use."""
    return set(prefix.split(".")) <= WRAPPERS


def _listed(names: Any) -> str:
    """Write a few names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more

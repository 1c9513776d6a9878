"""The states of all that draws random numbers in a training, as data that a checkpoint may hold."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from torch.utils.data import Dataset

__all__ = ["random_states", "set_random_states"]


def random_states(trainer: Any) -> dict[str, Any]:
    """Return the states of all that draws random numbers, as tensors and numbers."""
    version, words, gauss = random.getstate()
    cuda = trainer.state.device.type == "cuda"
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(trainer.state.device) if cuda else None,
        "numpy": _numbers(np.random.get_state()),  # noqa: NPY002 - MONAI's transforms draw from it
        "python": [version, torch.tensor(words), gauss],
        "transforms": [_numbers(one.R.get_state()) for one in _drawing(trainer.data_loader.dataset)],
    }


def set_random_states(states: Mapping[str, Any], trainer: Any) -> None:
    """Undo :func:`random_states`."""
    torch.set_rng_state(states["torch"])
    if states["cuda"] is not None and trainer.state.device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], trainer.state.device)
    np.random.set_state(_legacy(states["numpy"]))  # noqa: NPY002 - as above
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    for one, state in zip(_drawing(trainer.data_loader.dataset), states["transforms"], strict=True):
        one.R.set_state(_legacy(state))


def _numbers(state: Any) -> list[Any]:
    """Return numpy's state with its words as a tensor, which a checkpoint that is data may hold."""
    kind, words, *rest = state
    return [kind, torch.from_numpy(words.astype(np.int64)), *rest]


def _legacy(state: Sequence[Any]) -> tuple[Any, ...]:
    kind, words, *rest = state
    return (kind, words.numpy().astype(np.uint32), *rest)


def _drawing(one: Any) -> Iterator[Any]:
    """Yield the dataset and the transforms that draw with a random state of their own, in a fixed order."""
    if isinstance(one, (list, tuple)):
        for item in one:
            yield from _drawing(item)
    elif isinstance(one, (Dataset, Transform)):
        if isinstance(getattr(one, "R", None), np.random.RandomState):
            yield one
        for item in vars(one).values():
            yield from _drawing(item)

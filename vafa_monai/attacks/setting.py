"""Checks of the settings of an attack, and their description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = ["as_python", "describe", "require_at_least", "require_block_size", "require_count", "require_range"]


def as_python(value: Any) -> Any:
    """Return numbers of NumPy and tensors of one number as those of Python, in sequences too; all else as it is.

    Example:
        >>> as_python((np.float32(0.5), np.int64(3))), as_python(np.array([8, 8]))
        ((0.5, 3), [8, 8])
    """
    if isinstance(value, (np.generic, np.ndarray)) or (isinstance(value, Tensor) and value.ndim == 0):
        return value.tolist()
    if type(value) in (list, tuple):
        return type(value)(as_python(item) for item in value)
    return value


def require_at_least(name: str, value: float, lowest: float) -> None:
    """Refuse a number below ``lowest``, or none at all."""
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not lowest <= value < float("inf"):  # NaN fails
        raise ValueError(f"{name} must be at least {lowest:g} and finite, got {value!r}.")


def require_count(name: str, value: int) -> None:
    """Refuse what is no whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}.")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}.")


def require_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return two finite numbers, the lower first; refuse anything else."""
    numbers = isinstance(value, Sequence) and all(isinstance(bound, (int, float)) for bound in value)
    if not numbers or len(value) != 2 or not float("-inf") < value[0] < value[1] < float("inf"):
        raise ValueError(f"{name} must be two finite numbers, the lower first, got {value!r}.")
    return float(value[0]), float(value[1])


def require_block_size(value: Sequence[int], name: str = "block_size") -> tuple[int, int, int]:
    """Return three edges as a tuple; refuse what is not three whole numbers from 1 on."""
    edges = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(edges) != 3 or not all(type(edge) is int and edge >= 1 for edge in edges):
        raise ValueError(f"{name} must be three edges (h, w, d) of at least 1 voxel, got {value!r}.")
    return edges


def describe(attack: Any) -> dict[str, Any]:
    """Return what an attack is as JSON: its import path and its settings, and so for the losses and attacks in them.

    Example:
        >>> from vafa_monai.attacks import GaussianNoise
        >>> describe(GaussianNoise(std=0.5))
        {'_target_': 'vafa_monai.attacks.GaussianNoise', 'value_range': [0.0, 1.0], 'std': 0.5, 'seed': 0}
    """
    return {"_target_": _path(type(attack)), **_settings(attack)}


def _path(kind: Any) -> str:
    """Return the import path of a class or function; the public one of what is ours."""
    module, name = kind.__module__, getattr(kind, "__qualname__", type(kind).__qualname__)
    parts = module.split(".")
    return f"{'.'.join(parts[:2]) if parts[0] == 'vafa_monai' else module}.{name}"


def _settings(value: Any) -> dict[str, Any]:
    """Return the fields of a dataclass; the public attributes and the tensors and parts of a module."""
    if is_dataclass(value):
        return {item.name: _as_json(getattr(value, item.name)) for item in fields(value)}
    plain = {name: item for name, item in vars(value).items() if not name.startswith("_") and name != "training"}
    held = {**dict(value.named_buffers(recurse=False)), **dict(value.named_children())}
    return {name: _as_json(item) for name, item in sorted({**plain, **held}.items())}


def _as_json(value: Any) -> Any:
    """Return a number, text, list or mapping; the description of an attack or loss; the path of a function."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Tensor):
        return value.tolist()
    if isinstance(value, (tuple, list)):
        return [_as_json(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, partial):
        return {"_target_": _path(value.func), **_as_json(value.keywords)}
    if isinstance(value, nn.Module) or (is_dataclass(value) and not isinstance(value, type)):
        return describe(value)
    return _path(value) if callable(value) and hasattr(value, "__module__") else type(value).__name__

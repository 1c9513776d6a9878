"""What an attack or loss is, as JSON that builds it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from vafa_monai.attacks.validation import as_python
from vafa_monai.losses.output import Output, OutputKind

__all__ = ["describe"]


def describe(attack: Any) -> dict[str, Any]:
    """Return what an attack is as JSON: its import path and its settings, and so for the losses and attacks in them.

    An output of softmax and channels that are all of them are not named: what was written before there were others
    describes the same attack.

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
        return {
            item.name: _as_json(getattr(value, item.name)) for item in fields(value) if not _usual(value, item.name)
        }
    plain = {name: item for name, item in vars(value).items() if not name.startswith("_") and name != "training"}
    held = {**dict(value.named_buffers(recurse=False)), **dict(value.named_children())}
    return {name: _as_json(item) for name, item in sorted({**plain, **held}.items()) if not _usual(value, name)}


def _usual(value: Any, name: str) -> bool:
    """Tell whether a setting is the output of softmax, or that of no choice of channels."""
    found = getattr(value, name)
    return (name == "output" and found in (Output(), OutputKind.SOFTMAX)) or (name == "channels" and found is None)


def _short(value: Any) -> Any:
    """Return a number as one of Python, and an output that its kind alone says by that."""
    plain = isinstance(value, Output) and value == Output(value.kind)
    return value.kind if plain else as_python(value)


def _as_json(value: Any) -> Any:
    """Return a number, text, list or mapping; the description of an attack or loss; the path of a function."""
    value = _short(value)
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

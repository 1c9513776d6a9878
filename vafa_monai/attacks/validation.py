"""Checks of the settings of an attack, and their units."""

from __future__ import annotations

import inspect
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import numpy as np
from torch import Tensor

__all__ = [
    "LEVELS",
    "RANGE_TOLERANCE",
    "as_python",
    "require_at_least",
    "require_block_size",
    "require_count",
    "require_in_range",
    "require_range",
    "require_strength",
    "settle",
    "strength",
    "warn",
    "warn_of_step",
]


LEVELS = 255.0
RANGE_TOLERANCE = 1e-4  # of the width of value_range: resampling and float32 round a little beyond it
SUSPICIOUS = 0.5  # of the range: more is no small perturbation, but probably a number of gray levels
ROUNDING = 1e-6
AMOUNT = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\W\d_][^\d/]*?)\s*")
GRAY = re.compile(r"gr[ea]y([ _-]?levels?)?", re.IGNORECASE)


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


def strength(
    value: float | str,
    physical_range: Sequence[float] | None = None,
    physical_unit: str | None = None,
    name: str = "value",
) -> float:
    """Return a strength such as ``eps`` as a fraction of the intensity range, whatever its unit.

    Args:
        value: a fraction, or text with a unit: ``"8 gray"`` (also ``gray levels``, ``grey``), of which 255 are the
            range, or ``"4 HU"`` in the physical unit.
        physical_range: what lowest and highest intensity mean, such as -175 and 250 HU.
        physical_unit: their unit.
        name: what the strength is called in errors.

    Raises:
        TypeError: if ``value`` is no number, nor text with a unit.
        ValueError: if the unit is unknown, or the range is not two numbers.

    Example:
        >>> [round(strength(eps, (-175, 250), "HU"), 6) for eps in (4 / 255, "4 gray", "6.8 HU")]
        [0.015686, 0.015686, 0.016]
    """
    if not isinstance(value, str):
        return require_at_least(name, value, 0)
    found = AMOUNT.fullmatch(value)
    if found is None:
        raise TypeError(f'{name} must be a number, got {value!r}; text needs a unit, such as "8 gray".')
    amount, unit = float(found[1]), found[2]
    if GRAY.fullmatch(unit):
        return require_at_least(name, amount, 0) / LEVELS
    if physical_range is None or not physical_unit:
        remedy = f'vafa_monai.attacks.strength({value!r}, (-175, 250), "HU") makes a fraction of a range in HU'
        raise ValueError(f"{name} must be a fraction or in gray levels, got {value!r}; {remedy}.")
    if unit.casefold() != physical_unit.casefold():
        raise ValueError(f"{name} must be a fraction, in gray levels or in {physical_unit}, got {value!r}.")
    low, high = require_range("physical_range", physical_range)
    return require_at_least(name, amount, 0) / (high - low)


def require_strength(name: str, value: float | str) -> float:
    """Return a fraction of the range, given as one or as gray levels; warn of one that is no small perturbation."""
    share = strength(value, name=name)
    if share > SUSPICIOUS:
        remedy = f'{share:g} gray levels are {name}="{share:g} gray"'
        warn(f"{name} is {share:g}, which is {share:.0%} of the whole intensity range; {remedy}.")
    return share


def warn_of_step(step_size: float, farthest: float, words: str) -> None:
    """Warn of a step that is longer than the longest way between two points that an attack may reach."""
    if 0 < farthest * (1 + ROUNDING) < step_size:
        warn(f"step_size is {step_size:g}, but no step goes further than {words} = {farthest:g}.")


def warn(sentence: str) -> None:
    """Warn of a setting, at the line outside the attacks that gave it."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("vafa_monai.attacks"):
        frame, level = frame.f_back, level + 1
    warnings.warn(sentence, stacklevel=level)


def settle(attack: Any) -> None:
    """Turn numbers of numpy in the fields of a dataclass to those of Python; refuse what is no truth value for one.

    Raises:
        TypeError: if a field of truth values holds anything else: the text ``"false"`` would count as true.
        ValueError: if ``seed`` is negative.
    """
    for item in fields(attack):
        if not hasattr(attack, item.name):
            continue
        value = as_python(getattr(attack, item.name))
        if item.type in ("bool", bool) and not isinstance(value, bool):
            raise TypeError(f"{item.name} must be true or false, got {value!r}.")
        if item.name == "seed":
            require_count("seed", value)
        object.__setattr__(attack, item.name, value)


def require_at_least(name: str, value: float, lowest: float) -> float:
    """Return a number; refuse one below ``lowest``, or none at all."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not lowest <= value < math.inf:  # NaN fails
        raise ValueError(f"{name} must be at least {lowest:g} and finite, got {value!r}.")
    return int(value) if isinstance(value, Integral) else float(value)


def require_count(name: str, value: int) -> int:
    """Return a whole number from 0 on; refuse anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be a whole number, got {value!r}.")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}.")
    return int(value)


def require_range(name: str, value: Sequence[float]) -> tuple[float, float]:
    """Return two finite numbers, the lower first; refuse anything else."""
    bounds = as_python(value)
    numbers = isinstance(bounds, Sequence) and all(isinstance(one, Real) and type(one) is not bool for one in bounds)
    if not numbers or len(bounds) != 2 or not -math.inf < bounds[0] < bounds[1] < math.inf:
        raise ValueError(f"{name} must be two finite numbers, the lower first, got {value!r}.")
    return float(bounds[0]), float(bounds[1])


def require_block_size(value: Sequence[int], name: str = "block_size") -> tuple[int, int, int]:
    """Return three edges as a tuple; refuse what is not three whole numbers from 1 on."""
    plain = as_python(value)
    edges = tuple(plain) if isinstance(plain, Sequence) else (plain,)
    if len(edges) != 3 or not all(type(edge) is int and edge >= 1 for edge in edges):
        raise ValueError(f"{name} must be three edges (h, w, d) of at least 1 voxel, got {value!r}.")
    return edges


def require_in_range(name: str, volume: Tensor, value_range: Sequence[float]) -> None:
    """Refuse a volume that is not finite or lies outside the intensities that it is to be clipped to.

    Raises:
        ValueError: if a voxel is NaN, infinite, or outside by more than 1e-4 of the width.
    """
    low, high = (bound.item() for bound in volume.aminmax()) if volume.numel() else value_range
    slack = RANGE_TOLERANCE * (value_range[1] - value_range[0])
    if not (value_range[0] - slack <= low and high <= value_range[1] + slack):  # NaN fails both
        raise ValueError(
            f"{name} must be finite and lie in value_range {tuple(value_range)}, got {low:.4g} to {high:.4g}; "
            "scale and clip them in the preprocessing, or set value_range."
        )

"""The strength of an attack in grey levels and in physical units, such as Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vafa_monai.attacks.attack import Attack
from vafa_monai.attacks.range_adapter import RangeAdapter
from vafa_monai.attacks.wrapper import AttackWrapper

__all__ = ["intensity_range", "physical_width", "strengths"]

GREY_LEVELS = 255.0
FRACTIONS = ("eps", "std")
GREY = ("q", "q_min", "q_max")


def strengths(
    attack: Any, physical_range: Sequence[float] | None = None, physical_unit: str | None = None
) -> dict[str, dict[str, float]]:
    """Return how strong an attack is, argument by argument, in every unit that is known.

    Args:
        attack: an attack; one around another is asked for the one inside.
        physical_range: what lowest and highest intensity of ``value_range`` mean, such as -175 and 250 HU.
        physical_unit: their unit.

    Returns:
        For each of ``eps``, ``std``, ``step_size``, ``q``, ``q_min``, ``q_max`` that the attack has:
        ``fraction`` of the range, ``grey_levels`` (255 a range), and the physical unit by its name.

    Raises:
        ValueError: if only one of ``physical_range`` and ``physical_unit`` is given, or the range is not two numbers.

    Example:
        >>> from vafa_monai.attacks import PGD
        >>> strengths(PGD(eps=4 / 255), (-175, 250), "HU")
        {'eps': {'fraction': 0.015686, 'grey_levels': 4.0, 'HU': 6.666667}}
    """
    width = physical_width(physical_range, physical_unit)
    while isinstance(attack, AttackWrapper):
        attack = attack.attack
    if not isinstance(attack, Attack):
        return {}
    found = {name: _fraction(attack, name) for name in (*FRACTIONS, "step_size", *GREY)}
    return {name: _in_units(share, width, physical_unit) for name, share in found.items() if share is not None}


def intensity_range(attack: Any) -> tuple[float, float] | None:
    """Return the intensities that an attack is made for; ``None`` if they are those of each sample.

    Example:
        >>> from vafa_monai.attacks import FGSM, RangeAdapter
        >>> intensity_range(FGSM(value_range=(-1, 3))), intensity_range(RangeAdapter(attack=FGSM()))
        ((-1.0, 3.0), None)
    """
    inside = attack
    while isinstance(inside, AttackWrapper):
        if isinstance(inside, RangeAdapter):
            return None
        inside = inside.attack
    low, high = getattr(inside, "value_range", (0.0, 1.0))
    return low, high


def physical_width(physical_range: Sequence[float] | None, physical_unit: str | None) -> float | None:
    """Return the width of the physical range; nothing without one.

    Example:
        >>> physical_width((-175, 250), "HU")
        425.0
    """
    if (physical_range is None) != (not physical_unit):
        raise ValueError(f"physical_unit must come with physical_range, got {physical_unit!r} and {physical_range!r}.")
    if physical_range is None:
        return None
    if len(physical_range) != 2 or not physical_range[0] < physical_range[1]:
        raise ValueError(f"physical_range must be two numbers, the lower first, got {physical_range!r}.")
    return float(physical_range[1] - physical_range[0])


def _fraction(attack: Attack, name: str) -> float | None:
    """Return an argument as a fraction of the range; nothing if the attack has it not, or chooses it itself."""
    value = getattr(attack, name, None)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    in_grey = name in GREY or (name == "step_size" and hasattr(attack, "block_size"))
    return value / GREY_LEVELS if in_grey else float(value)


def _in_units(share: float, width: float | None, physical_unit: str | None) -> dict[str, float]:
    """Return a fraction of the range in all units."""
    units = {"fraction": share, "grey_levels": GREY_LEVELS * share}
    if width is not None:
        units[str(physical_unit)] = width * share
    return {name: round(value, 6) for name, value in units.items()}

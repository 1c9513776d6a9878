"""The settings of an attack in words, from what its result recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["setting_text"]

LEVELS = 255


def setting_text(settings: Mapping[str, Any], strength: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """Write what strength, steps and blocks an attack had; an attack inside another is described itself.

    Args:
        settings: what :func:`vafa_monai.attacks.describe` gave, as a result holds it.
        strength: what :func:`vafa_monai.attacks.unit.strengths` gave, for physical units.

    Example:
        >>> setting_text({"eps": 4 / 255, "steps": 20, "step_size": 0.01, "random_start": True})
        'ε 4/255, 20 steps of 0.01, random start'
        >>> setting_text({"eps": 4 / 255}, {"eps": {"fraction": 0.015686, "grey_levels": 4.0, "HU": 6.666667}})
        'ε 4/255 (6.67 HU)'
    """
    inner = settings.get("attack")
    if isinstance(inner, Mapping):
        tiled = str(settings.get("_target_", "")).endswith("TiledAttack")
        parts = (_goal(settings.get("goal")), setting_text(inner, strength), "tile by tile" if tiled else "")
        return ", ".join(text for text in parts if text)
    name = [str(settings["name"])] if "name" in settings else []
    return ", ".join([*name, *_strength(settings, strength or {}), *_search(settings)])


def _goal(goal: Any) -> str:
    """Return an anatomical target: its name, and its own settings."""
    if not isinstance(goal, Mapping):
        return ""
    name = str(goal.get("_target_", "")).rpartition(".")[2]
    return " ".join(
        [name, *(f"{key} {value}" for key, value in goal.items() if key != "_target_" and value is not None)]
    )


def _strength(settings: Mapping[str, Any], strength: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return radius, standard deviation, quantization and blocks."""
    parts = [
        f"{sign} {LEVELS * settings[name]:g}/{LEVELS}{_physical(strength.get(name, {}))}"
        for name, sign in (("eps", "\N{GREEK SMALL LETTER EPSILON}"), ("std", "\N{GREEK SMALL LETTER SIGMA}"))
        if name in settings
    ]
    parts += [f"q {settings['q']:g}"] if "q" in settings else []
    parts += [f"q {settings['q_min']:g} to {settings['q_max']:g}"] if "q_max" in settings else []
    parts += (
        ["block " + "\N{MULTIPLICATION SIGN}".join(map(str, settings["block_size"]))]
        if "block_size" in settings
        else []
    )
    return parts


def _physical(units: Mapping[str, float]) -> str:
    """Return a strength in its physical unit, in brackets; nothing without one."""
    found = [f"{value:.3g} {unit}" for unit, value in units.items() if unit not in ("fraction", "grey_levels")]
    return f" ({', '.join(found)})" if found else ""


def _search(settings: Mapping[str, Any]) -> list[str]:
    """Return the steps, where they start and how the image ends."""
    parts = [_steps(settings)] if "steps" in settings else []
    parts += [f"start at q_{settings['q_init']}"] if settings.get("q_init") in ("min", "max") else []
    parts += ["random start"] if settings.get("random_start") else []
    parts += ["no SSIM term"] if settings.get("ssim_weight") == 0 else []
    parts += ["slices stretched"] if settings.get("output_norm") == "slice_minmax" else []
    return parts


def _steps(settings: Mapping[str, Any]) -> str:
    count, size = settings["steps"], settings.get("step_size")
    if count == 1:
        return "1 step"
    return f"{count} steps" + ("" if size is None else f" of {size:g}")

"""The attacks of the paper's tables as declarations: which overlay of a bundle, and what is changed in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vafa_monai.reports.attack_name import CLEAN

__all__ = ["BLOCK", "SIGMA", "SMALL_BLOCK", "STEPS", "STEPS_2D", "Measurement", "clean", "noise", "stretch", "uniform"]
__all__ += ["vafa", "vafa_2d", "voxels"]

SIGMA = "\N{GREEK SMALL LETTER SIGMA}"
STEPS, STEPS_2D, STEP_SIZE = 20, 10, 0.01
SMALL_BLOCK, BLOCK = 8, 32


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One attack of a table.

    Args:
        name: name of its result.
        title: what a reader is shown.
        overlay: its file in ``configs/attacks``.
        overrides: config ids and the values that the table sets.
        key: its row, in Table 6 its column, among the paper's values; ``None`` for what is not in the paper.
        gradients: number of gradients that it takes, which is most of its cost.
    """

    name: str
    title: str
    overlay: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    gradients: int = 0


def clean() -> Measurement:
    """Return the run without attack."""
    return Measurement(name=CLEAN, title="Clean", overlay=CLEAN, key="clean")


def voxels(overlay: str, levels: int, key: str | None, **names: str) -> Measurement:
    """Return PGD, BIM or FGSM as published: the last of 20 steps of 0.01 without a random start, or one step.

    Args:
        overlay: ``"pgd"``, ``"bim"`` or ``"fgsm"``.
        levels: radius in grey levels.
        key: its row among the paper's values.
        **names: ``name`` and ``title`` other than those of the attack.
    """
    steps = 1 if overlay == "fgsm" else STEPS
    overrides: dict[str, Any] = {"eps": f"${levels} / 255"}
    if overlay != "fgsm":
        overrides |= {"attack_steps": steps, "attack#step_size": STEP_SIZE}
    if overlay == "pgd":
        overrides |= {"attack#random_start": False}
    names = {"name": overlay, "title": overlay.upper()} | names
    return Measurement(overlay=overlay, overrides=overrides, key=key, gradients=steps, **_texts(names))


def noise(levels: int, key: str | None = None, **names: str) -> Measurement:
    """Return Gaussian noise of a standard deviation in grey levels."""
    names = {"name": "gaussian_noise", "title": f"Gaussian noise ({SIGMA} = {levels})"} | names
    return Measurement(overlay="gaussian_noise", overrides={"eps": f"${levels} / 255"}, key=key, **_texts(names))


def vafa(q_max: int, block: int, key: str | None, steps: int = STEPS, **names: str) -> Measurement:
    """Return VAFA with the preset of the published code."""
    overrides = {"q_max": q_max, "block_size": [block] * 3, "attack_steps": steps}
    names = {"name": key or "vafa_authors", "title": "VAFA"} | names
    return Measurement(overlay="vafa_authors", overrides=overrides, key=key, gradients=steps, **_texts(names))


def vafa_2d(steps: int, key: str | None, **names: str) -> Measurement:
    """Return VAFA-2D with the preset of the published code."""
    overrides = {"q_max": 20, "attack#block_size": [SMALL_BLOCK, SMALL_BLOCK, 1], "attack_steps": steps}
    names = {"name": "vafa_2d", "title": "VAFA-2D"} | names
    return Measurement(overlay="vafa_2d", overrides=overrides, key=key, gradients=steps, **_texts(names))


def stretch() -> Measurement:
    """Return the control that stretches every slice as the published VAFA does, and does nothing else."""
    return Measurement(name="identity_stretch", title="Slice stretch only", overlay="identity_stretch")


def uniform(q_max: int, block: int, ending: str = "", words: str = "") -> Measurement:
    """Return the control that quantizes every coefficient by ``q_max``; ``ending`` and ``words`` tell it apart."""
    overrides = {"q_max": q_max, "block_size": [block] * 3}
    names = {"name": f"uniform_quantization{ending}", "title": f"Uniform quantization{words}"}
    return Measurement(overlay="uniform_quantization", overrides=overrides, **_texts(names))


def _texts(names: Mapping[str, str]) -> dict[str, Any]:
    """Refuse a name that no measurement has."""
    if set(names) != {"name", "title"}:
        raise TypeError(f"names must be name and title, got {sorted(names)!r}.")
    return dict(names)

"""The threat model of an attack: which changes it may make. Numbers of unlike threat models do not compare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from monai.utils import StrEnum

from vafa_monai.attacks.pgd import VoxelAttack
from vafa_monai.attacks.square_attack import SquareAttack
from vafa_monai.attacks.validation import LEVELS

__all__ = ["Threat", "threat_of"]


ROUNDING = 1e-5  # a document holds six digits of a budget
QUANTIZATIONS = ("VAFA", "UniformQuantization", "RandomQuantization")


class Change(StrEnum):
    """What may be changed, in words that take the size of the change."""

    NOTHING = "no change"
    LINF = "voxels within {} (L-inf)"
    L2 = "voxels within {} root mean square (L2)"
    BOX = "box of DCT coefficients, q_max {}"
    QUANTIZATION = "quantization up to q {}, no stretch"
    QUANTIZATION_AND_STRETCH = "quantization up to q {}, then slice stretch"
    STRETCH = "slice stretch alone"
    NOISE = "noise of standard deviation {}, blind to the network"
    OTHER = "{}"


@dataclass(frozen=True)
class Threat:
    """Which changes an attack may make: of one kind and size, or of any of several.

    Args:
        changes: kind and size: fractions of the width of the intensities for voxels and noise, gray levels for
            coefficients; the name of the attack where nothing else is known of it.
        targeted: whether it aims at a segmentation of its own instead of away from the truth.
        channels: the channels that it may change; ``None`` is all.
    """

    changes: tuple[tuple[Change, float | str], ...]
    targeted: bool = False
    channels: tuple[int, ...] | None = None

    def __str__(self) -> str:
        """Name it for a reader."""
        where = "" if self.channels is None else f", in channels {', '.join(map(str, self.channels))}"
        what = ", or ".join(_words(change, size) for change, size in self.changes)
        return "targeted, " * self.targeted + what + where

    def covers(self, other: Threat) -> bool:
        """Tell whether every change that ``other`` may make is one that this may make, too, wherever it aims."""
        everywhere = self.channels is None or set(other.channels or [-1]) <= set(self.channels)
        return everywhere and all(any(_contains(mine, one) for mine in self.changes) for one in other.changes)

    def exceeded_by(self, other: Threat) -> bool:
        """Tell whether ``other`` makes the same kinds of changes, larger ones."""
        kinds = {change for change, _ in self.changes}
        same = self.channels == other.channels and {change for change, _ in other.changes} <= kinds
        return same and not self.covers(other)


def threat_of(settings: Mapping[str, Any]) -> Threat:
    """Return the threat model of an attack from its description.

    Args:
        settings: what :func:`vafa_monai.attacks.describe` gave, as a result holds it.

    Example:
        >>> str(threat_of({"_target_": "vafa_monai.attacks.PGD", "eps": 4 / 255}))
        'voxels within 4/255 (L-inf)'
    """
    inner = settings.get("attack")
    if isinstance(inner, Mapping):
        threat = threat_of(inner)
        return Threat(threat.changes, threat.targeted or "goal" in settings, threat.channels)
    channels = settings.get("channels")
    chosen = None if channels is None else tuple(sorted(channels))
    return Threat(_changes(settings), settings.get("targeted") is True, chosen)


def _changes(settings: Mapping[str, Any]) -> tuple[tuple[Change, float | str], ...]:
    """Return kinds and sizes of the changes of one attack."""
    name = str(settings.get("_target_", "unknown")).rpartition(".")[2]
    eps, q_max = settings.get("eps"), settings.get("q_max", settings.get("q"))
    stretched = settings.get("output_norm") == "slice_minmax"
    if name == "Identity":
        return ((Change.STRETCH if stretched else Change.NOTHING, 0.0),)
    if name in _voxel_attacks() and eps is not None:
        return ((Change.L2 if settings.get("norm") == "l2" else Change.LINF, float(eps)),)
    if name in QUANTIZATIONS and q_max is not None:
        return ((Change.QUANTIZATION_AND_STRETCH if stretched else Change.QUANTIZATION, float(q_max)),)
    if name == "FrequencyPGD" and q_max is not None:
        return ((Change.BOX, float(q_max)),)
    if name == "GaussianNoise" and "std" in settings:
        return ((Change.NOISE, float(settings["std"])),)
    if name == "AttackEnsemble" and eps is not None and q_max is not None:
        return ((Change.LINF, float(eps)), (Change.BOX, float(q_max)), (Change.QUANTIZATION, float(q_max)))
    return ((Change.OTHER, name),)


def _voxel_attacks() -> set[str]:
    """Return the names of the attacks of the package whose ``eps`` is the radius of a ball of voxels."""
    kinds = [one for one in _descendants(VoxelAttack) if one.excess is VoxelAttack.excess]  # no budget of its own
    return {one.__name__ for one in (*kinds, SquareAttack) if one.__module__.startswith(f"{__package__}.")}


def _descendants(kind: Any) -> Iterator[Any]:
    for one in kind.__subclasses__():
        yield one
        yield from _descendants(one)


def _words(change: Change, size: float | str) -> str:
    """Name one kind of change with its size."""
    if isinstance(size, str):
        return change.value.format(size)
    in_levels = change in (Change.LINF, Change.L2, Change.NOISE)
    return change.value.format(f"{round(LEVELS * size, 3):g}/{LEVELS:g}" if in_levels else f"{size:g}")


def _contains(outer: tuple[Change, float | str], inner: tuple[Change, float | str]) -> bool:
    """Tell whether changes of one kind and size hold those of another."""
    if outer[0] != inner[0] or isinstance(outer[1], str) or isinstance(inner[1], str):
        return outer == inner
    return inner[1] <= outer[1] * (1 + ROUNDING)

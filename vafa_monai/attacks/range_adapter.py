"""Attacks on networks whose input is normalized case by case, in the units of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Attack, AttackWrapper, Network
from vafa_monai.attacks.intensity import ValueRange, is_one_range

__all__ = ["RangeAdapter", "intensity_range", "physical_width", "sample_range", "strengths"]


def sample_range(volume: Tensor) -> tuple[Tensor, Tensor]:
    """Return lowest intensity and width of every channel of every sample, each ``(B, C, 1, 1, 1)``.

    Args:
        volume: shape ``(B, C, H, W, D)``.

    Example:
        >>> low, width = sample_range(torch.tensor([-1.0, 0.0, 3.0]).view(1, 1, 1, 1, 3))
        >>> low.item(), width.item()
        (-1.0, 4.0)
    """
    low, high = (part(dim=(2, 3, 4), keepdim=True) for part in (volume.amin, volume.amax))
    return low, high - low


@dataclass(frozen=True)
class RangeAscent(Ascent):
    """What the attacks on the samples found, in the intensities of the network."""

    told: Sequence[dict[str, Any]] = ()

    def details(self) -> list[dict[str, Any]]:
        """Return what the attack inside tells of every sample."""
        return [dict(one) for one in self.told]


@dataclass(frozen=True, kw_only=True)
class RangeAdapter(AttackWrapper):
    """Attack volumes whose intensities have no common range, such as images scaled to mean 0 and deviation 1.

    The lowest and highest intensity of each clean sample, channel by channel, are what ``value_range`` of the attack
    inside is to another network: ``eps=4 / 255`` is 4/255 of the width of that sample's own intensities, and the attack
    stays inside them. So the same image, scaled to [0, 1] for one network and standardized for another, is attacked by
    the same amount. Inputs of one fixed range, Hounsfield units or a standardization of a whole dataset, need no
    adapter but the attack's ``value_range``.

    Samples are attacked one by one. A channel of one intensity stays as it is, and so does one that is none of the
    ``channels`` of the attack inside, which has one range for all of them.

    Args:
        attack: the attack.
        value_range: that of ``attack``; the network never sees it.

    Raises:
        TypeError: if ``attack`` is no attack.
        ValueError: if ``value_range`` is not that of ``attack``, or one of each channel.

    Example:
        >>> from vafa_monai.attacks import PGD
        >>> volume, label = torch.linspace(-2, 3, 60).view(1, 1, 3, 4, 5), torch.zeros(1, 1, 3, 4, 5)
        >>> adv = RangeAdapter(attack=PGD(eps=0.1, steps=5))(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).abs().max().item(), 4), adv.min().item() >= -2
        (0.5, True)
    """

    def __post_init__(self) -> None:
        """Refuse ranges of channels, which those of each sample would take the place of."""
        super().__post_init__()
        if not is_one_range(self.value_range):
            raise ValueError(f"value_range must be one pair in a RangeAdapter, got {self.value_range}.")

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> RangeAscent:
        """Find the attacked volumes."""
        found = [self._attack(*pair, network) for pair in zip(inputs.split(1), targets.split(1), strict=True)]
        return RangeAscent(torch.cat([adv for adv, _ in found]), told=[one for _, details in found for one in details])

    def _attack(self, volume: Tensor, labels: Tensor, network: Network) -> tuple[Tensor, list[dict[str, Any]]]:
        """Attack one sample."""
        units = _Units(volume, self.one_range)
        scaled = units.scaled(volume)
        found = self.attack.run(scaled, labels, lambda candidate: network(units.native(candidate)))
        adv = units.native(found.adv).clamp(units.low, units.low + units.width)
        return torch.where(found.adv == scaled, volume, adv), found.details()  # what is not changed stays to the bit

    def limits(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return lowest and highest intensity allowed."""
        low, width = sample_range(clean)
        return low, low + width

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        units = _Units(clean, self.one_range)
        scale = units.width.flatten(1).amax(1) / units.span
        return scale * self.attack.beyond(units.scaled(clean), units.scaled(adv))

    def _check(self, inputs: Tensor, targets: Tensor) -> None:
        """Refuse what cannot be attacked; every finite intensity is allowed."""
        if inputs.ndim == 5 and inputs.is_floating_point() and inputs.numel() and inputs.isfinite().all():
            super()._check(torch.full_like(inputs, self.one_range[0]), targets)
        else:
            super()._check(inputs, targets)


class _Units:
    """The intensities of one sample, and those of the attack on it."""

    def __init__(self, volume: Tensor, value_range: tuple[float, float]) -> None:
        self.low, self.width = sample_range(volume)
        self.start, self.span = value_range[0], value_range[1] - value_range[0]

    def scaled(self, volume: Tensor) -> Tensor:
        """Return the intensities of the attack; the lowest one of a constant channel."""
        share = (volume - self.low) / self.width.where(self.width > 0, 1)
        return self.start + self.span * share

    def native(self, scaled: Tensor) -> Tensor:
        """Return the intensities of the sample."""
        return self.low + self.width * ((scaled - self.start) / self.span)


GRAY_LEVELS = 255.0
FRACTIONS = ("eps", "std")
GRAY = ("q", "q_min", "q_max")


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
    found = {name: _fraction(attack, name) for name in (*FRACTIONS, "step_size", *GRAY)}
    return {name: _in_units(share, width, physical_unit) for name, share in found.items() if share is not None}


def intensity_range(attack: Any) -> ValueRange | None:
    """Return the intensities that an attack is made for, one pair or a pair a channel; ``None`` if each sample's own.

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
    found: ValueRange = getattr(inside, "value_range", (0.0, 1.0))
    return found


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
    in_gray = name in GRAY or (name == "step_size" and hasattr(attack, "block_size"))
    return value / GRAY_LEVELS if in_gray else float(value)


def _in_units(share: float, width: float | None, physical_unit: str | None) -> dict[str, float]:
    """Return a fraction of the range in all units."""
    units = {"fraction": share, "grey_levels": GRAY_LEVELS * share}
    if width is not None:
        units[str(physical_unit)] = width * share
    return {name: round(value, 6) for name, value in units.items()}

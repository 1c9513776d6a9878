"""Attacks on networks whose input is normalized case by case, in the units of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Network
from vafa_monai.attacks.wrapper import AttackWrapper

__all__ = ["RangeAdapter", "RangeAscent", "sample_range"]


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

    Samples are attacked one by one. A channel of one intensity stays as it is.

    Args:
        attack: the attack.
        value_range: that of ``attack``; the network never sees it.

    Raises:
        TypeError: if ``attack`` is no attack.
        ValueError: if ``value_range`` is not that of ``attack``.

    Example:
        >>> from vafa_monai.attacks import PGD
        >>> volume, label = torch.linspace(-2, 3, 60).view(1, 1, 3, 4, 5), torch.zeros(1, 1, 3, 4, 5)
        >>> adv = RangeAdapter(attack=PGD(eps=0.1, steps=5))(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).abs().max().item(), 4), adv.min().item() >= -2
        (0.5, True)
    """

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> RangeAscent:
        found = [self._attack(*pair, network) for pair in zip(inputs.split(1), targets.split(1), strict=True)]
        return RangeAscent(torch.cat([adv for adv, _ in found]), told=[one for _, details in found for one in details])

    def _attack(self, volume: Tensor, labels: Tensor, network: Network) -> tuple[Tensor, list[dict[str, Any]]]:
        """Attack one sample."""
        units = _Units(volume, self.value_range)
        scaled = units.scaled(volume)
        found = self.attack.run(scaled, labels, lambda candidate: network(units.native(candidate)))
        adv = units.native(found.adv).clamp(units.low, units.low + units.width)
        return torch.where(found.adv == scaled, volume, adv), found.details()  # what is not changed stays to the bit

    def _limits(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        low, width = sample_range(clean)
        return low, low + width

    def _excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        units = _Units(clean, self.value_range)
        scale = units.width.flatten(1).amax(1) / units.span
        return scale * self.attack._excess(units.scaled(clean), units.scaled(adv))

    def _check(self, inputs: Tensor, targets: Tensor) -> None:
        """Refuse what cannot be attacked; every finite intensity is allowed."""
        if inputs.ndim == 5 and inputs.is_floating_point() and inputs.numel() and inputs.isfinite().all():
            super()._check(torch.full_like(inputs, self.value_range[0]), targets)
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

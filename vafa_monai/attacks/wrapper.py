"""What attacks around another attack have in common."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vafa_monai.attacks.attack import Attack

__all__ = ["AttackWrapper"]


@dataclass(frozen=True, kw_only=True)
class AttackWrapper(Attack):
    """An attack that runs another one, in the same intensities.

    Args:
        attack: the attack inside.
        value_range: that of ``attack``, which is taken where none is given.

    Raises:
        TypeError: if ``attack`` is no attack.
        ValueError: if ``value_range`` is not that of ``attack``.
    """

    attack: Attack

    def __post_init__(self) -> None:
        """Refuse what is no attack, and other intensities."""
        if not isinstance(self.attack, Attack):
            raise TypeError(f"attack must be an attack of vafa_monai.attacks, got {type(self.attack).__name__}.")
        super().__post_init__()
        if self.value_range not in (self.attack.value_range, Attack.value_range):
            raise ValueError(f"value_range must be that of attack, {self.attack.value_range}, got {self.value_range}.")
        object.__setattr__(self, "value_range", self.attack.value_range)

    @property
    def asks_network(self) -> bool:
        """Whether the attack inside does."""
        return self.attack.asks_network

    def _excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        return self.attack._excess(clean, adv)

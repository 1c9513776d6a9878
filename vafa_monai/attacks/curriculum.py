"""Which attack a batch of a training meets."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from vafa_monai.attacks.attack import Attack, AttackWrapper
from vafa_monai.attacks.validation import require_at_least, require_count

__all__ = ["Curriculum"]

STRENGTHS = ("eps", "std", "q", "step_size")  # in proportion; q_max begins at q_min where there is one


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Draw an attack for every batch, with a new random start, and let it grow.

    It has no memory: the attack is a function of the number of the batch, so that a training that was interrupted meets
    the same ones. All processes of a training meet the same kind of attack at a time, each from a start of its own.

    Args:
        attacks: what is drawn from.
        weights: how often each is drawn, in any unit; ``None`` draws all alike.
        warmup: number of batches over which every strength (``eps``, ``q_max``, ``std``, ``q``, and with it
            ``step_size``) grows linearly to its own; 0 begins with it.
        steps: pairs ``(batch, steps)``: from that batch on an attack has so many steps; ``None`` leaves its own.
        seed: seed of the draws and of the random starts.

    Raises:
        TypeError: if one of ``attacks`` is none.
        ValueError: if there is no attack, weights do not fit, or an attack cannot have the steps.

    Example:
        >>> from vafa_monai.attacks import PGD
        >>> growing = Curriculum(attacks=[PGD(eps=0.1, steps=1)], warmup=4, steps=[(2, 3)])
        >>> [(growing.at(batch).eps, growing.at(batch).steps) for batch in (0, 1, 3, 9)]
        [(0.025, 1), (0.05, 1), (0.1, 3), (0.1, 3)]
    """

    attacks: Sequence[Attack]
    weights: Sequence[float] | None = None
    warmup: int = 0
    steps: Sequence[Sequence[int]] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        for attack in self.attacks:
            if not isinstance(attack, Attack):
                raise TypeError(f"attacks must be attacks of vafa_monai.attacks, got {type(attack).__name__}.")
        for name in ("warmup", "seed"):
            require_count(name, getattr(self, name))
        weights = [1.0] * len(self.attacks) if self.weights is None else list(self.weights)
        for weight in weights:
            require_at_least("weights", weight, 0)
        if len(weights) != len(self.attacks) or not sum(weights):
            raise ValueError(f"weights must be one for each of {len(self.attacks)} attacks, not all 0, got {weights}.")
        object.__setattr__(self, "weights", weights)
        pairs = sorted(
            (require_count("steps", first), require_count("steps", count)) for first, count in self.steps or ()
        )
        object.__setattr__(self, "steps", pairs)
        for _, count in pairs:  # refused now rather than at that batch
            for attack in self.attacks:
                _changed(attack, steps=count)

    def at(self, batch: int, rank: int = 0) -> Attack:
        """Return the attack of a batch.

        Args:
            batch: number of the batch, from 0 on.
            rank: number of the process.
        """
        draw = random.Random(f"{self.seed} {batch}")
        attack = draw.choices(self.attacks, self.weights)[0]
        start = random.Random(f"{self.seed} {batch} {rank}").getrandbits(31)
        counts = [count for first, count in self.steps or () if first <= batch]
        attack = _changed(attack, seed=start, **({"steps": counts[-1]} if counts else {}))
        return _weakened(attack, (batch + 1) / self.warmup) if batch + 1 < self.warmup else attack


def _has(attack: Attack, name: str) -> bool:
    return any(item.init and item.name == name for item in fields(attack))


def _changed(attack: Attack, **settings: Any) -> Attack:
    """Return the attack with those settings that it has, and so for the one inside of it."""
    own = {name: value for name, value in settings.items() if _has(attack, name)}
    if isinstance(attack, AttackWrapper):
        own["attack"] = _changed(attack.attack, **settings)
    return replace(attack, **own)


def _weakened(attack: Attack, share: float) -> Attack:
    """Return the attack at a share of its strength."""
    if isinstance(attack, AttackWrapper):
        return replace(attack, attack=_weakened(attack.attack, share))
    own = {name: getattr(attack, name) for name in STRENGTHS if _has(attack, name)}
    weaker = {name: share * value for name, value in own.items() if value is not None}
    if _has(attack, "q_max"):
        least = getattr(attack, "q_min", 0)
        weaker["q_max"] = least + share * (attack.q_max - least)  # type: ignore[attr-defined]
    return replace(attack, **weaker)

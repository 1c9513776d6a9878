"""The budgets and sizes of an audit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vafa_monai.attacks.validation import require_at_least, require_block_size, require_count, require_strength, settle

__all__ = ["AuditSettings"]


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """How hard an audit tries.

    Args:
        eps: radius of the attacks on voxels, L-inf, as a fraction of the width of the intensity range, or as text in
            gray levels, such as ``"4 gray"``.
        q_max: width of the box of coefficients, and largest quantization step, in gray levels.
        block_size: block edges ``(h, w, d)`` of the attacks on coefficients, in voxels.
        steps: number of steps of the attacks that climb.
        queries: how often the attack without gradient asks the network.
        restarts: number of seeds that must agree.
        eps_curve: radii of the curve over the budget, rising, as fractions; the last must be 1, no budget at all.
        steps_curve: numbers of steps of the curve over steps, rising.
        seed: random seed.
        stated_dice: mean foreground DSC without attack that is stated of the model, in [0, 1]; ``None`` if none is.

    Raises:
        ValueError: if a setting is impossible.

    Example:
        >>> AuditSettings(steps=10).steps
        10
    """

    eps: float = 4 / 255
    q_max: float = 20
    block_size: Sequence[int] = (32, 32, 32)
    steps: int = 20
    queries: int = 200
    restarts: int = 3
    eps_curve: Sequence[float] = (0, 1 / 255, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 64 / 255, 1)
    steps_curve: Sequence[int] = (1, 5, 10, 20, 40)
    seed: int = 0
    stated_dice: float | None = None

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        object.__setattr__(self, "block_size", require_block_size(self.block_size))
        settle(self)
        object.__setattr__(self, "eps", require_strength("eps", self.eps))
        require_at_least("q_max", self.q_max, 1)
        for name, lowest in (("steps", 1), ("queries", 1), ("restarts", 2), ("seed", 0)):
            require_count(name, getattr(self, name))
            require_at_least(name, getattr(self, name), lowest)
        if self.stated_dice is not None:
            require_at_least("stated_dice", self.stated_dice, 0)
            if self.stated_dice > 1:
                raise ValueError(f"stated_dice must be at most 1, got {self.stated_dice!r}.")
        for name in ("eps_curve", "steps_curve"):
            values = tuple(getattr(self, name))
            if len(values) < 2 or sorted(set(values)) != list(values) or values[0] < 0:
                raise ValueError(f"{name} must be at least two rising numbers from 0 on, got {values!r}.")
            object.__setattr__(self, name, values)
        if self.eps_curve[-1] != 1:
            raise ValueError(f"eps_curve must end with 1, no budget at all, got {self.eps_curve!r}.")

"""Projected gradient descent on the DCT coefficients of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, Iterate, climb
from vafa_monai.attacks.attack import GradientAttack, Network
from vafa_monai.attacks.norm import SteepestMove
from vafa_monai.attacks.pgd import STEP_SHARE
from vafa_monai.attacks.quantization_table import CoefficientBox
from vafa_monai.attacks.validation import (
    require_at_least,
    require_block_size,
    require_count,
    require_range,
    warn_of_step,
)

__all__ = ["FrequencyPGD"]


@dataclass(frozen=True, kw_only=True)
class FrequencyPGD(GradientAttack):
    """Climb the loss by signed steps on the block DCT, no coefficient further than half of ``q_max``.

    That box holds every volume that quantization by steps up to ``q_max`` can make, so the attack searches what
    :class:`VAFA` can reach, without going through a table and a rounding. A band of frequencies may be chosen; the
    frequency of a coefficient is the highest of its shares ``i/h``, ``j/w``, ``k/d``.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels.
        q_max: width of the box, in gray levels of a 0-255 range; the strength of the attack.
        band: lowest and highest frequency that may change, in [0, 1]; ``(0, c)`` and ``(c, 1)`` share no coefficient.
        steps: number of steps.
        step_size: length of a step, in gray levels; ``None`` is ``2.5 * (q_max / 2) / steps``.
        random_start: start at a random point of the box instead of the clean volume.
        seed: seed of that point; the same for every sample.
        iterate: ``"best"``, sample by sample, or ``"last"``.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if a setting is impossible.

    Example:
        >>> import torch
        >>> volume, label = torch.full((1, 1, 4, 4, 4), 0.5), torch.zeros(1, 1, 4, 4, 4)
        >>> attack = FrequencyPGD(block_size=(4, 4, 4), q_max=10, steps=5)
        >>> attack.run(volume, label, torch.nn.Conv3d(1, 2, 1)).variable.abs().max().item()
        5.0
    """

    block_size: Sequence[int] = (32, 32, 32)
    q_max: float = 20
    band: Sequence[float] = (0.0, 1.0)
    steps: int = 20
    step_size: float | None = None
    random_start: bool = False
    seed: int = 0
    iterate: Iterate | str = Iterate.BEST

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "block_size", require_block_size(self.block_size))
        object.__setattr__(self, "iterate", look_up_option(self.iterate, Iterate))
        object.__setattr__(self, "band", require_range("band", self.band))
        if self.band[0] < 0 or self.band[1] > 1:
            raise ValueError(f"band must lie in [0, 1], got {self.band!r}.")
        require_at_least("q_max", self.q_max, 0)
        require_count("steps", self.steps)
        if self.step_size is not None:
            require_at_least("step_size", self.step_size, 0)
            warn_of_step(self.step_size, self.q_max, "q_max")

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        box = self._box(inputs)
        step_size = STEP_SHARE * box.radius / max(self.steps, 1) if self.step_size is None else self.step_size
        return climb(
            box,
            self.objective(targets, network),
            SteepestMove(box, step_size),
            steps=self.steps,
            iterate=self.iterate,
        )

    def _box(self, inputs: Tensor) -> CoefficientBox:
        """Return what may change."""
        start = self.seed if self.random_start else None
        return CoefficientBox(inputs, self.one_range, self.block_size, self.q_max / 2, self.band, start)

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        return self._box(clean).excess(adv)

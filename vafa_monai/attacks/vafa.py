"""VAFA: the volumetric adversarial frequency attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from monai.utils import StrEnum, look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import (
    Ascent,
    Iterate,
    LossObjective,
    PenalizedObjective,
    best_run,
    climb,
    require_restarts,
)
from vafa_monai.attacks.attack import GradientAttack, Network
from vafa_monai.attacks.intensity import GrayScale, OutputNorm
from vafa_monai.attacks.norm import SteepestMove
from vafa_monai.attacks.quantization_table import QuantizationTable, Rounding
from vafa_monai.attacks.validation import require_at_least, require_block_size, require_count, warn_of_step
from vafa_monai.losses.block_ssim import block_statistics, ssim_to_blocks

__all__ = ["VAFA"]


class VAFAPreset(StrEnum):
    """Where the settings come from."""

    AUTHORS = "authors"
    PAPER = "paper"
    AUDIT = "audit"


PRESETS: Mapping[VAFAPreset, Mapping[str, Any]] = MappingProxyType(
    {
        VAFAPreset.AUTHORS: {
            "q_min": 5,
            "q_init": "max",
            "rounding": Rounding.SOFT,
            "output_norm": OutputNorm.SLICE_MINMAX,
            "iterate": Iterate.LAST_EVALUATED,
        },
        VAFAPreset.PAPER: {
            "q_min": 1,
            "q_init": "min",
            "rounding": Rounding.SOFT,
            "output_norm": OutputNorm.CLIP,
            "iterate": Iterate.LAST_EVALUATED,
        },
        VAFAPreset.AUDIT: {"ssim_weight": 0, "step_size": None},
    }
)


@dataclass(frozen=True, kw_only=True)
class VAFA(GradientAttack):
    """Learn a table of quantization steps for the block DCT of a volume that breaks its segmentation.

    Raises ``L(network(adv), targets) - ssim_weight * (1 - SSIM(inputs, adv))`` over tables between ``q_min`` and
    ``q_max`` by signed steps (Hanif et al., MICCAI 2023, Eq. 2 and Algorithm 1, https://arxiv.org/abs/2307.07269).
    A table has one step for every coefficient of every block, sample and channel. Volumes of any size are padded to
    whole blocks and cropped again. ``block_size=(8, 8, 1)`` is the 2D form, every (H, W) slice by itself.

    The defaults are the preset ``audit`` with the structural-similarity term of Eq. 2 and the published step of one
    gray level. What the paper prints and what its authors published differ; see :meth:`preset`.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels.
        q_min: smallest step, in gray levels of a 0-255 range, > 0.
        q_max: largest step, in gray levels; the strength of the attack.
        q_init: step at the start: ``"max"``, ``"min"`` or a number between them.
        steps: number of ascent steps.
        step_size: how far a step moves the table, in gray levels; ``None`` is ``(q_max - q_min) / steps``, which just
            crosses the whole range.
        restarts: number of runs, of which the best counts, sample by sample; each but the first starts at a random
            table.
        seed: seed of those tables.
        shared_table: learn one table for all blocks of a volume, as a codec has, instead of one for each.
        ssim_weight: weight of the structural-similarity term, >= 0.
        rounding: ``"soft"``, or ``"straight_through"``: true rounding with the soft one's derivative.
        output_norm: ``"clip"`` to ``value_range``, or ``"slice_minmax"``: stretch every (H, W) slice to fill it.
        iterate: ``"best"``, ``"last"`` or ``"last_evaluated"`` (the image before the last update of the table).
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if a setting is impossible.

    Example:
        >>> [(attack.q_min, str(attack.output_norm)) for attack in (VAFA.preset("authors"), VAFA())]
        [(5, 'slice_minmax'), (1, 'clip')]
    """

    block_size: Sequence[int] = (32, 32, 32)
    q_min: float = 1
    q_max: float = 20
    q_init: float | str = "max"
    steps: int = 20
    step_size: float | None = 1
    restarts: int = 1
    seed: int = 0
    shared_table: bool = False
    ssim_weight: float = 1
    rounding: Rounding | str = Rounding.STRAIGHT_THROUGH
    output_norm: OutputNorm | str = OutputNorm.CLIP
    iterate: Iterate | str = Iterate.BEST

    @classmethod
    def preset(cls, name: VAFAPreset | str, **overrides: Any) -> VAFA:
        """Build the attack with the settings of a source; ``overrides`` replace any of them.

        ``"authors"`` reproduces the published code: start at ``q_max``, never below 5, soft rounding, every slice
        stretched to full contrast, the image before the last update. ``"paper"`` follows Algorithm 1 as printed: start
        at 1, clip to 1 and ``q_max``. ``"audit"`` is the strongest honest form: no stretch, true rounding, the best
        iterate, a step that scales with ``q_max``, and no structural-similarity term, which only holds an attack back.

        Raises:
            ValueError: if ``name`` is unknown.
        """
        settings = PRESETS[look_up_option(name, VAFAPreset)]
        return cls(**{**settings, **overrides})

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        for name, options in (("rounding", Rounding), ("output_norm", OutputNorm), ("iterate", Iterate)):
            object.__setattr__(self, name, look_up_option(getattr(self, name), options))
        object.__setattr__(self, "block_size", require_block_size(self.block_size))
        for name in ("q_min", "q_max", "ssim_weight"):
            require_at_least(name, getattr(self, name), 0)
        require_count("steps", self.steps)
        if self.step_size is not None:
            require_at_least("step_size", self.step_size, 0)
            warn_of_step(self.step_size, self.q_max - self.q_min, "q_max - q_min")
        if not 0 < self.q_min <= self.q_max:
            raise ValueError(f"q_min must be positive and at most q_max={self.q_max!r}, got {self.q_min!r}.")
        if self.q_init not in ("min", "max") and not isinstance(self.q_init, (int, float)):
            raise ValueError(f'q_init must be "max", "min" or a number, got {self.q_init!r}.')
        if not self.q_min <= self.first_step <= self.q_max:
            raise ValueError(f"q_init must lie in [{self.q_min!r}, {self.q_max!r}], got {self.q_init!r}.")
        require_restarts(self.restarts)
        if self.restarts > 1 and self.iterate != Iterate.BEST:
            raise ValueError(f'iterate must be "best" with several restarts, got {str(self.iterate)!r}.')

    @property
    def first_step(self) -> float:
        """The quantization step that the table starts with, in gray levels."""
        return float({"min": self.q_min, "max": self.q_max}.get(str(self.q_init), self.q_init))

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        if self.steps == 0:
            return Ascent(self.clip(inputs))
        step_size = (self.q_max - self.q_min) / self.steps if self.step_size is None else self.step_size
        objective = self._with_similarity(inputs, self.objective(targets, network))
        first = self._table(inputs)

        def run(number: int) -> Ascent:
            table = replace(first, start_seed=self.seed + number) if number else first
            return climb(table, objective, SteepestMove(table, step_size), steps=self.steps, iterate=self.iterate)

        return best_run(run, self.restarts)

    def _table(self, inputs: Tensor) -> QuantizationTable:
        """Return what may change."""
        return QuantizationTable(
            clean=inputs,
            value_range=self.one_range,
            block_size=self.block_size,
            q_min=self.q_min,
            q_max=self.q_max,
            q_init=self.first_step,
            steps=self.steps,
            rounding=Rounding(self.rounding),
            output_norm=OutputNorm(self.output_norm),
            shared=self.shared_table,
        )

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        return self._table(clean).excess(adv)

    def _with_similarity(self, inputs: Tensor, objective: LossObjective) -> LossObjective | PenalizedObjective:
        """Subtract the dissimilarity of Eq. 2; the statistics of the clean volume are computed once."""
        if self.ssim_weight == 0:
            return objective
        scale = GrayScale(self.one_range)
        clean = block_statistics(scale.to_unit(inputs), self.block_size)
        return PenalizedObjective(
            objective, lambda adv: self.ssim_weight * (1 - ssim_to_blocks(scale.to_unit(adv), clean))
        )

"""The control of VAFA: the same lossy compression with a random table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Attack, Network
from vafa_monai.attacks.grey_level import OutputNorm
from vafa_monai.attacks.quantization_table import QuantizationTable, Rounding
from vafa_monai.attacks.setting import require_at_least, require_block_size

__all__ = ["RandomQuantization"]


@dataclass(frozen=True, kw_only=True)
class RandomQuantization(Attack):
    """Quantize every DCT coefficient by a random step of its own, with true rounding; the network is not asked.

    Steps are uniform between ``q_min`` and ``q_max``: a table that VAFA may end with, chosen by no gradient.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels.
        q_min: smallest step, in grey levels of a 0-255 range, > 0.
        q_max: largest step, in grey levels.
        seed: seed of the table; every sample of every call gets the same.
        output_norm: ``"clip"`` to ``value_range``, or ``"slice_minmax"``, as in VAFA.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if a setting is impossible.

    Example:
        >>> volume = torch.rand(1, 1, 4, 4, 4)
        >>> table = RandomQuantization(block_size=(4, 4, 4), q_min=5).run(volume, volume * 0, network=None).variable
        >>> bool(5 <= table.min() < table.max() <= 20)
        True
    """

    block_size: Sequence[int] = (32, 32, 32)
    q_min: float = 1
    q_max: float = 20
    seed: int = 0
    output_norm: OutputNorm | str = OutputNorm.CLIP

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "output_norm", look_up_option(self.output_norm, OutputNorm))
        object.__setattr__(self, "block_size", require_block_size(self.block_size))
        for name in ("q_min", "q_max"):
            require_at_least(name, getattr(self, name), 0)
        if not 0 < self.q_min <= self.q_max:
            raise ValueError(f"q_min must be positive and at most q_max={self.q_max!r}, got {self.q_min!r}.")

    @property
    def asks_network(self) -> bool:
        """No."""
        return False

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        table = self._table(inputs)
        with torch.no_grad():
            steps = table.start()
            return Ascent(table.apply(steps, 0), steps)

    def _excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        return self._table(clean).excess(adv)

    def _table(self, inputs: Tensor) -> QuantizationTable:
        """Return what is done."""
        return QuantizationTable(
            clean=inputs,
            value_range=self.value_range,
            block_size=self.block_size,
            q_min=self.q_min,
            q_max=self.q_max,
            q_init=self.q_max,
            steps=0,
            rounding=Rounding.STRAIGHT_THROUGH,
            output_norm=OutputNorm(self.output_norm),
            start_seed=self.seed,
        )

"""The control of VAFA: the same lossy compression with one step everywhere."""

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

__all__ = ["UniformQuantization"]


@dataclass(frozen=True, kw_only=True)
class UniformQuantization(Attack):
    """Quantize every DCT coefficient by the same step, with true rounding; the network is not asked.

    What an attack by VAFA does beyond this is what its gradient chose.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels.
        q: quantization step, in grey levels of a 0-255 range, > 0.
        output_norm: ``"clip"`` to ``value_range``, or ``"slice_minmax"``, as in VAFA.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if a setting is impossible.

    Example:
        >>> volume = torch.tensor([0.0, 0.4, 0.6, 1.0]).view(1, 1, 1, 2, 2)
        >>> adv = UniformQuantization(block_size=(1, 1, 1), q=255)(volume, volume * 0, network=None)
        >>> [round(value, 3) for value in adv.flatten().tolist()]  # one voxel a block: levels -255, clipped, and 0
        [0.0, 0.502, 0.502, 0.502]
    """

    block_size: Sequence[int] = (32, 32, 32)
    q: float = 20
    output_norm: OutputNorm | str = OutputNorm.CLIP

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "output_norm", look_up_option(self.output_norm, OutputNorm))
        object.__setattr__(self, "block_size", require_block_size(self.block_size))
        require_at_least("q", self.q, 0)
        if self.q == 0:
            raise ValueError(f"q must be positive, got {self.q!r}.")

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
            q_min=self.q,
            q_max=self.q,
            q_init=self.q,
            steps=0,
            rounding=Rounding.STRAIGHT_THROUGH,
            output_norm=OutputNorm(self.output_norm),
        )

"""The control of every attack: nothing is done."""

from __future__ import annotations

from dataclasses import dataclass

from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Attack, Network
from vafa_monai.attacks.grey_level import GreyScale, OutputNorm, stretch_slices

__all__ = ["Identity"]


@dataclass(frozen=True, kw_only=True)
class Identity(Attack):
    """Return the clean volume, or the clean volume with the contrast change that VAFA ``authors`` ends with.

    Args:
        output_norm: ``"clip"`` changes nothing; ``"slice_minmax"`` stretches every (H, W) slice to fill
            ``value_range``, the part of that attack that no gradient chose.
        value_range: lowest and highest intensity that the network's input can have.

    Example:
        >>> import torch
        >>> volume = torch.rand(1, 1, 4, 5, 6)
        >>> torch.equal(Identity()(volume, volume * 0, network=None), volume)
        True
    """

    output_norm: OutputNorm | str = OutputNorm.CLIP

    def __post_init__(self) -> None:
        """Refuse unknown settings."""
        super().__post_init__()
        object.__setattr__(self, "output_norm", look_up_option(self.output_norm, OutputNorm))

    @property
    def asks_network(self) -> bool:
        """No."""
        return False

    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        scale = GreyScale(self.value_range)
        stretch = self.output_norm == OutputNorm.SLICE_MINMAX
        return Ascent(scale.from_unit(stretch_slices(scale.to_unit(inputs))) if stretch else inputs.clone())

    def _excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        stretch = self.output_norm == OutputNorm.SLICE_MINMAX
        return super()._excess(clean, adv) if stretch else (adv - clean).abs().flatten(1).amax(1)

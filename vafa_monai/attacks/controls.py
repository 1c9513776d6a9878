"""Controls: what changes a volume without asking the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Attack, Network
from vafa_monai.attacks.intensity import GrayScale, OutputNorm, stretch_slices
from vafa_monai.attacks.norm import gaussian_like
from vafa_monai.attacks.quantization_table import QuantizationTable, Rounding
from vafa_monai.attacks.validation import require_at_least, require_block_size, require_strength

__all__ = ["GaussianNoise", "Identity", "RandomQuantization", "UniformQuantization"]


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

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        scale = GrayScale(self.one_range)
        stretch = self.output_norm == OutputNorm.SLICE_MINMAX
        return Ascent(scale.from_unit(stretch_slices(scale.to_unit(inputs))) if stretch else inputs.clone())

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        stretch = self.output_norm == OutputNorm.SLICE_MINMAX
        return super().excess(clean, adv) if stretch else (adv - clean).abs().flatten(1).amax(1)


@dataclass(frozen=True, kw_only=True)
class GaussianNoise(Attack):
    """Add Gaussian noise and clip; the network is not asked.

    Args:
        std: standard deviation, as a fraction of the width of ``value_range``, or as text in gray levels, such as
            ``"4 gray"``; clipping makes the change of dark and bright voxels smaller.
        seed: seed of the noise; every sample of every call gets the same noise.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``std`` is negative.

    Example:
        >>> import torch
        >>> volume = torch.full((1, 1, 20, 20, 20), 0.5)
        >>> round((GaussianNoise(std=0.02)(volume, volume * 0, network=None) - volume).std().item(), 3)
        0.02
    """

    std: float = 4 / 255
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "std", require_strength("std", self.std))

    @property
    def asks_network(self) -> bool:
        """No."""
        return False

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        return Ascent(self.clip(inputs + self.std * self.width * gaussian_like(inputs, self.seed)))


@dataclass(frozen=True, kw_only=True)
class _QuantizationControl(Attack):
    """What a table of quantization steps does that no network was asked for; a subclass says which table."""

    block_size: Sequence[int] = (32, 32, 32)
    output_norm: OutputNorm | str = OutputNorm.CLIP

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "output_norm", look_up_option(self.output_norm, OutputNorm))
        object.__setattr__(self, "block_size", require_block_size(self.block_size))

    @property
    def asks_network(self) -> bool:
        """No."""
        return False

    @property
    def _steps(self) -> dict[str, float | int]:
        """Return the smallest and the largest step, the one to start with, and the seed of a random start."""
        raise NotImplementedError

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        table = self._table(inputs)
        with torch.no_grad():
            steps = table.start()
            return Ascent(table.apply(steps, 0), steps)

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        return self._table(clean).excess(adv)

    def _table(self, inputs: Tensor) -> QuantizationTable:
        """Return what is done."""
        return QuantizationTable(
            clean=inputs,
            value_range=self.one_range,
            block_size=self.block_size,
            steps=0,
            rounding=Rounding.STRAIGHT_THROUGH,
            output_norm=OutputNorm(self.output_norm),
            **self._steps,  # type: ignore[arg-type]
        )


@dataclass(frozen=True, kw_only=True)
class UniformQuantization(_QuantizationControl):
    """Quantize every DCT coefficient by the same step, with true rounding; the network is not asked.

    What an attack by VAFA does beyond this is what its gradient chose.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels.
        q: quantization step, in gray levels of a 0-255 range, > 0.
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

    q: float = 20

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        require_at_least("q", self.q, 0)
        if self.q == 0:
            raise ValueError(f"q must be positive, got {self.q!r}.")

    @property
    def _steps(self) -> dict[str, float | int]:
        return {"q_min": self.q, "q_max": self.q, "q_init": self.q}


@dataclass(frozen=True, kw_only=True)
class RandomQuantization(_QuantizationControl):
    """Quantize every DCT coefficient by a random step of its own, with true rounding; the network is not asked.

    Steps are uniform between ``q_min`` and ``q_max``: a table that VAFA may end with, chosen by no gradient.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels.
        q_min: smallest step, in gray levels of a 0-255 range, > 0.
        q_max: largest step, in gray levels.
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

    q_min: float = 1
    q_max: float = 20
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        for name in ("q_min", "q_max"):
            require_at_least(name, getattr(self, name), 0)
        if not 0 < self.q_min <= self.q_max:
            raise ValueError(f"q_min must be positive and at most q_max={self.q_max!r}, got {self.q_min!r}.")

    @property
    def _steps(self) -> dict[str, float | int]:
        return {"q_min": self.q_min, "q_max": self.q_max, "q_init": self.q_max, "start_seed": self.seed}

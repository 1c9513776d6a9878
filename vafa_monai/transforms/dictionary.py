"""The transforms on dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from monai.config import KeysCollection, NdarrayOrTensor
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from vafa_monai.transforms.adversarial import AdversarialPerturbation
from vafa_monai.transforms.frequency import BlockDCT, FrequencyPerturbation, RandFrequencyPerturbation

__all__ = ["AdversarialPerturbationd", "BlockDCTd", "FrequencyPerturbationd", "RandFrequencyPerturbationd"]

Data = Mapping[Hashable, NdarrayOrTensor]


class BlockDCTd(MapTransform):
    """Dictionary face of :class:`BlockDCT`.

    Args:
        keys: keys of the volumes.
        block_size: block edges ``(h, w, d)`` in voxels.
        allow_missing_keys: skip keys that are not there.
    """

    backend = BlockDCT.backend

    def __init__(
        self, keys: KeysCollection, block_size: Sequence[int] = (8, 8, 8), allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = BlockDCT(block_size)

    def __call__(self, data: Data) -> dict[Hashable, NdarrayOrTensor]:
        """Transform the volumes of ``data``."""
        return dict(data) | {key: self.transform(data[key]) for key in self.key_iterator(data)}

    def inverse(self, data: Data) -> dict[Hashable, NdarrayOrTensor]:
        """Transform the coefficients of ``data`` back."""
        return dict(data) | {key: self.transform.inverse(data[key]) for key in self.key_iterator(data)}


class FrequencyPerturbationd(MapTransform):
    """Dictionary face of :class:`FrequencyPerturbation`.

    Args:
        keys: keys of the volumes.
        table: quantization steps in gray levels.
        block_size: block edges ``(h, w, d)`` in voxels.
        alpha: softness of the rounding, in [0, 1).
        value_range: lowest and highest intensity.
        allow_missing_keys: skip keys that are not there.
    """

    backend = FrequencyPerturbation.backend

    def __init__(
        self,
        keys: KeysCollection,
        table: float | Sequence | Tensor,
        block_size: Sequence[int] = (8, 8, 8),
        alpha: float = 0.0,
        value_range: Sequence[float] = (0.0, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = FrequencyPerturbation(table, block_size, alpha, value_range)

    def __call__(self, data: Data) -> dict[Hashable, NdarrayOrTensor]:
        """Perturb the volumes of ``data``."""
        return dict(data) | {key: self.transform(data[key]) for key in self.key_iterator(data)}


class RandFrequencyPerturbationd(RandomizableTransform, MapTransform):
    """Dictionary face of :class:`RandFrequencyPerturbation`; all keys share one table.

    Args:
        keys: keys of the volumes.
        prob: probability of a perturbation.
        q_min: smallest step, in gray levels of a 0-255 range, > 0.
        q_max: largest step.
        block_size: block edges ``(h, w, d)`` in voxels.
        value_range: lowest and highest intensity.
        allow_missing_keys: skip keys that are not there.
    """

    backend = RandFrequencyPerturbation.backend

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.1,
        q_min: float = 1.0,
        q_max: float = 20.0,
        block_size: Sequence[int] = (8, 8, 8),
        value_range: Sequence[float] = (0.0, 1.0),
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = RandFrequencyPerturbation(prob, q_min, q_max, block_size, value_range)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> RandFrequencyPerturbationd:
        """Seed the transform."""
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed, state)
        return self

    def __call__(self, data: Data) -> dict[Hashable, NdarrayOrTensor]:
        """Perturb the volumes of ``data``, or leave them."""
        self.transform.randomize()
        return dict(data) | {key: self.transform(data[key], randomize=False) for key in self.key_iterator(data)}


class AdversarialPerturbationd(MapTransform):
    """Dictionary face of :class:`AdversarialPerturbation`.

    Args:
        keys: keys of the volumes.
        attack: attack of :mod:`vafa_monai.attacks`.
        network: the attacked network.
        label_key: key of the class indices, the truth or the goal of a targeted attack.
        allow_missing_keys: skip keys that are not there.
    """

    backend = AdversarialPerturbation.backend

    def __init__(
        self,
        keys: KeysCollection,
        attack: Callable[..., Tensor],
        network: Callable[[Tensor], Tensor],
        label_key: str = "label",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.transform = AdversarialPerturbation(attack, network)
        self.label_key = label_key

    def __call__(self, data: Data) -> dict[Hashable, NdarrayOrTensor]:
        """Attack the volumes of ``data``."""
        label = data[self.label_key]
        return dict(data) | {key: self.transform(data[key], label) for key in self.key_iterator(data)}

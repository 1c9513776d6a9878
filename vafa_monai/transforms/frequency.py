"""Frequency transforms of one volume, as arrays."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.config import NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import RandomizableTransform, Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor

from vafa_monai.attacks.intensity import GrayScale
from vafa_monai.attacks.validation import require_at_least, require_block_size, require_in_range, require_range
from vafa_monai.frequency.block_dct import block_dct, block_idct, pad_to_blocks
from vafa_monai.frequency.quantization import quantize

__all__ = ["BlockDCT", "FrequencyPerturbation", "RandFrequencyPerturbation"]


def _plain_batch(img: NdarrayOrTensor) -> Tensor:
    """Return ``(C, H, W, D)`` as a plain float tensor ``(1, C, H, W, D)``."""
    volume = convert_to_tensor(img, track_meta=False)
    if volume.ndim != 4:
        raise ValueError(f"img must have shape (C, H, W, D), got {tuple(volume.shape)}.")
    return (volume if volume.is_floating_point() else volume.float()).unsqueeze(0)


def _broadcasts(shape: Sequence[int], block_size: Sequence[int]) -> bool:
    """Tell whether a table of ``shape`` stretches to ``block_size``."""
    pairs = zip(reversed(shape), reversed(block_size), strict=False)
    return len(shape) <= len(block_size) and all(size in (1, edge) for size, edge in pairs)


class BlockDCT(Transform):
    """Transform a channel-first volume to the DCT coefficients of its blocks; face of ``block_dct``.

    Args:
        block_size: block edges ``(h, w, d)`` in voxels; each must divide its spatial size (MONAI's ``DivisiblePad``
            sees to that).

    Example:
        >>> BlockDCT((2, 2, 2))(torch.ones(1, 4, 6, 8)).shape
        torch.Size([1, 2, 3, 4, 2, 2, 2])
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(self, block_size: Sequence[int] = (8, 8, 8)) -> None:
        self.block_size = require_block_size(block_size)

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return coefficients ``(C, H/h, W/w, D/d, h, w, d)``; metadata is kept."""
        img = convert_to_tensor(img, track_meta=get_track_meta())
        coefficients = block_dct(_plain_batch(img), self.block_size)[0]
        return convert_to_dst_type(coefficients, dst=img, dtype=coefficients.dtype)[0]

    def inverse(self, coefficients: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the volume ``(C, H, W, D)`` of coefficients; metadata is kept."""
        coefficients = convert_to_tensor(coefficients, track_meta=get_track_meta())
        plain = convert_to_tensor(coefficients, track_meta=False)
        return convert_to_dst_type(block_idct(plain.unsqueeze(0))[0], dst=coefficients)[0]


class FrequencyPerturbation(Transform):
    """Quantize the block DCT of a volume by a given table, and transform back (Hanif et al., MICCAI 2023, Eq. 1).

    Args:
        table: quantization step, or steps of a shape that broadcasts with ``(h, w, d)``, in gray levels of a 0-255
            range, > 0.
        block_size: block edges ``(h, w, d)`` in voxels; volumes of any size are padded, and cropped again.
        alpha: softness of the rounding, in [0, 1); 0 rounds truly.
        value_range: lowest and highest intensity that a volume may have; the result is clipped to it.

    Raises:
        ValueError: if a step is not positive, the table does not fit the block, or another setting is impossible; and
            at a volume that is not finite or lies outside ``value_range``, as attacks refuse it.

    Example:
        >>> volume = torch.rand(1, 5, 6, 7)
        >>> change = FrequencyPerturbation(table=2.0, block_size=(1, 1, 1))(volume) - volume
        >>> bool(change.abs().max() <= 1.001 / 255)  # half a step
        True
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        table: float | Sequence | Tensor,
        block_size: Sequence[int] = (8, 8, 8),
        alpha: float = 0.0,
        value_range: Sequence[float] = (0.0, 1.0),
    ) -> None:
        self.block_size = require_block_size(block_size)
        self.table = torch.as_tensor(table, dtype=torch.float32)
        self.alpha = alpha
        self.value_range = require_range("value_range", value_range)
        if not 0 <= alpha < 1:
            raise ValueError(f"alpha must lie in [0, 1), got {alpha!r}.")
        if not bool((self.table > 0).all()):
            raise ValueError(f"table must hold positive steps, got {self.table.min().item()!r} as its smallest.")
        if not self.table.isfinite().all():
            raise ValueError(f"table must hold finite steps, got {self.table.max().item()!r} as its largest.")
        if not _broadcasts(self.table.shape, self.block_size):
            shapes = f"{tuple(self.table.shape)} for blocks of {self.block_size}"
            raise ValueError(f"table must broadcast with block_size, got {shapes}.")

    def __call__(self, img: NdarrayOrTensor) -> NdarrayOrTensor:
        """Return the perturbed volume ``(C, H, W, D)``; metadata is kept."""
        return self.perturb(img, self.table)

    def perturb(self, img: NdarrayOrTensor, table: Tensor) -> NdarrayOrTensor:
        """Perturb ``(C, H, W, D)`` by another table."""
        img = convert_to_tensor(img, track_meta=get_track_meta())
        volume = _plain_batch(img)
        require_in_range("img", volume, self.value_range)
        scale = GrayScale(self.value_range)
        coefficients = block_dct(pad_to_blocks(scale.to_levels(volume), self.block_size), self.block_size)
        height, width, depth = volume.shape[2:]
        levels = block_idct(quantize(coefficients, table.to(coefficients), self.alpha))[0, :, :height, :width, :depth]
        adv = scale.from_unit(scale.levels_to_unit(levels).clamp(0, 1))
        return convert_to_dst_type(adv, dst=img, dtype=adv.dtype)[0]


class RandFrequencyPerturbation(RandomizableTransform):
    """With probability ``prob``, quantize the block DCT of a volume by a random table: an augmentation.

    One table, drawn uniformly from ``q_min`` to ``q_max``, serves all blocks.

    Args:
        prob: probability of a perturbation.
        q_min: smallest step, in gray levels of a 0-255 range, > 0.
        q_max: largest step.
        block_size: block edges ``(h, w, d)`` in voxels.
        value_range: lowest and highest intensity that a volume may have.

    Raises:
        ValueError: if ``q_min`` is not positive or above ``q_max``; and at a volume outside ``value_range``.

    Example:
        >>> volume = torch.rand(1, 5, 6, 7)
        >>> transform = RandFrequencyPerturbation(prob=1.0)
        >>> first, again = (transform.set_random_state(seed=3)(volume) for _ in range(2))
        >>> torch.equal(first, again), torch.equal(first, volume)
        (True, False)
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(
        self,
        prob: float = 0.1,
        q_min: float = 1.0,
        q_max: float = 20.0,
        block_size: Sequence[int] = (8, 8, 8),
        value_range: Sequence[float] = (0.0, 1.0),
    ) -> None:
        RandomizableTransform.__init__(self, prob)
        if not 0 < q_min <= q_max:
            raise ValueError(f"q_min must be positive and at most q_max={q_max!r}, got {q_min!r}.")
        require_at_least("q_max", q_max, 0)
        self.q_min, self.q_max = q_min, q_max
        self.perturbation = FrequencyPerturbation(q_max, block_size, value_range=value_range)
        self.table = torch.full(self.perturbation.block_size, float(q_max))

    def randomize(self, data: object = None) -> None:
        """Draw whether to perturb and by which table."""
        super().randomize(None)
        if self._do_transform:
            self.table = torch.as_tensor(self.R.uniform(self.q_min, self.q_max, self.perturbation.block_size))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Return the perturbed volume ``(C, H, W, D)``, or the volume; metadata is kept."""
        if randomize:
            self.randomize()
        if not self._do_transform:
            return convert_to_tensor(img, track_meta=get_track_meta())
        return self.perturbation.perturb(img, self.table)

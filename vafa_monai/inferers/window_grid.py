"""Where MONAI's sliding window puts its windows, and what each of them counts in the blend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.utils import ensure_tuple_rep, fall_back_tuple
from torch import Tensor

__all__ = ["Place", "WindowGrid"]

Place = tuple[slice, ...]


@dataclass(frozen=True)
class WindowGrid:
    """The windows of a batch of volumes, in the order in which :class:`monai.inferers.SlidingWindowInferer` takes them.

    Args:
        padding: what volumes smaller than a window lack, as :func:`torch.nn.functional.pad` takes it.
        places: index of every window in the padded batch; all windows of the first volume come first.
        weight: weights of the voxels of a window, of shape ``(1, 1, *roi_size)``.
        total: sum of the weights of all windows of a padded volume, of shape ``(1, 1, H, W, D)``.
    """

    padding: list[int]
    places: list[Place]
    weight: Tensor
    total: Tensor

    @classmethod
    def of(cls, inputs: Tensor, inferer: SlidingWindowInferer) -> WindowGrid:
        """Lay the windows of ``inferer`` over volumes ``(B, C, H, W, D)``."""
        size = tuple(inputs.shape[2:])
        roi_size, padded, windows = _lay(size, inferer)
        lacks = [longer - voxels for longer, voxels in zip(padded, size, strict=True)]
        weight = compute_importance_map(roi_size, inferer.mode, inferer.sigma_scale, inputs.device, inputs.dtype)
        total = weight.new_zeros((1, 1, *padded))
        for window in windows:
            place = (slice(None), slice(None), *window)
            total[place] += weight
        places = [
            (slice(sample, sample + 1), slice(None), *window) for sample in range(len(inputs)) for window in windows
        ]
        padding = [part for lack in reversed(lacks) for part in (lack // 2, lack - lack // 2)]
        return cls(padding, places, weight[None, None], total)

    @staticmethod
    def count(inputs: Tensor, inferer: SlidingWindowInferer) -> int:
        """Return how many windows ``inferer`` lays over volumes ``(B, C, H, W, D)``."""
        return len(inputs) * len(_lay(tuple(inputs.shape[2:]), inferer)[2])

    def share(self, place: Place) -> Tensor:
        """Return which part of the blend a window is, voxel by voxel."""
        everywhere = (slice(None), slice(None), *place[2:])
        return self.weight / self.total[everywhere]


def _lay(size: Sequence[int], inferer: SlidingWindowInferer) -> tuple[tuple[int, ...], tuple[int, ...], list[Place]]:
    """Return the edges of a window, the size of a padded volume of ``size``, and where its windows lie."""
    roi_size = fall_back_tuple(inferer.roi_size, size)
    padded = tuple(max(edge, voxels) for edge, voxels in zip(roi_size, size, strict=True))
    overlaps = ensure_tuple_rep(inferer.overlap, len(size))
    steps = [
        edge if edge == voxels else max(int(edge * (1 - overlap)), 1)
        for edge, voxels, overlap in zip(roi_size, padded, overlaps, strict=True)
    ]
    return tuple(roi_size), padded, dense_patch_slices(padded, roi_size, steps)

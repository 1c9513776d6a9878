"""The sliding window of nnU-Net, differentiably."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain, combinations, product

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import Inferer
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vafa_monai.attacks.ascent import require_tensor

__all__ = ["NNUNetInferer"]

PEAK = 10.0  # of the weights, which nnU-Net keeps in half precision
SIGMA_SHARE = 1 / 8  # of the edge of a window


class NNUNetInferer(Inferer):
    """Blend windows where and as nnU-Net v2 does, in float32, with a gradient in the memory of one window.

    nnU-Net spreads its windows evenly, at most ``step_size`` of an edge apart, from one end of the volume to the other;
    weighs them by a Gaussian whose deviation is an eighth of the edge; and adds the mean over mirrored copies
    (Isensee et al., Nature Methods 2021). Where a gradient is asked for, each window is run again in the backward pass.

    Args:
        patch_size: edges of a window in voxels; smaller volumes are padded with 0 on both sides.
        step_size: distance of the windows as a share of their edge, in (0, 1].
        gaussian: weigh by the Gaussian; otherwise all voxels alike.
        mirror_axes: spatial axes that are mirrored, in all combinations, such as ``(0, 1, 2)``: 8 passes a window.

    Raises:
        ValueError: if ``step_size`` is not in (0, 1], or an axis is not one of ``patch_size``.

    Example:
        >>> whole = NNUNetInferer(patch_size=(4, 4, 4), mirror_axes=(0,))
        >>> whole(torch.zeros(1, 1, 6, 5, 3), torch.nn.Conv3d(1, 2, 1)).shape
        torch.Size([1, 2, 6, 5, 3])
    """

    def __init__(
        self,
        patch_size: Sequence[int],
        step_size: float = 0.5,
        gaussian: bool = True,
        mirror_axes: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if not 0 < step_size <= 1:
            raise ValueError(f"step_size must be in (0, 1], got {step_size!r}.")
        if not set(mirror_axes) <= set(range(len(patch_size))):
            raise ValueError(f"mirror_axes must be axes of patch_size {tuple(patch_size)}, got {tuple(mirror_axes)}.")
        self.patch_size, self.step_size, self.gaussian = tuple(patch_size), step_size, gaussian
        self.mirror_axes = tuple(mirror_axes)

    def __call__(self, inputs: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:  # type: ignore[override]
        """Map volumes ``(B, C, H, W, D)`` to logits ``(B, classes, H, W, D)``.

        Raises:
            ValueError: if ``inputs`` have not the dimensions of ``patch_size``.
            TypeError: if ``network`` returns anything but one tensor, such as the list of deep supervision.
        """
        if inputs.ndim != len(self.patch_size) + 2:
            raise ValueError(f"inputs must be a batch of {len(self.patch_size)}D volumes, got {tuple(inputs.shape)}.")
        size, all_channels = inputs.shape[2:], (slice(None), slice(None))
        lacks = [max(edge - voxels, 0) for edge, voxels in zip(self.patch_size, size, strict=True)]
        padded = F.pad(inputs, [part for lack in reversed(lacks) for part in (lack // 2, lack - lack // 2)])
        weight = self._weight.to(inputs)
        total, logits = inputs.new_zeros(padded.shape[2:]), inputs.new_zeros(0)
        for place in self._places(padded.shape[2:]):
            found = self._mirrored(padded[all_channels + place], network)
            logits = logits if logits.numel() else found.new_zeros((len(inputs), found.shape[1], *padded.shape[2:]))
            logits[all_channels + place] += weight * found
            total[place] += weight
        inside = tuple(slice(lack // 2, lack // 2 + voxels) for lack, voxels in zip(lacks, size, strict=True))
        return (logits / total)[all_channels + inside]

    def _mirrored(self, window: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the mean logits of a window over its mirrored copies."""
        axes = [axis + 2 for axis in self.mirror_axes]
        flips = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
        found = [self._run(window.flip(flip), network).flip(flip) for flip in flips]
        return torch.stack(found).mean(dim=0) if len(found) > 1 else found[0]

    @staticmethod
    def _run(window: Tensor, network: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the logits of a window; a backward pass runs it again."""
        if torch.is_grad_enabled() and window.requires_grad:
            return require_tensor(checkpoint(network, window, use_reentrant=False))
        return require_tensor(network(window))

    def _places(self, size: Sequence[int]) -> Iterator[tuple[slice, ...]]:
        """Yield where the windows lie in a volume of ``size``."""
        starts = [self._starts(voxels, edge) for voxels, edge in zip(size, self.patch_size, strict=True)]
        for place in product(*starts):
            yield tuple(slice(start, start + edge) for start, edge in zip(place, self.patch_size, strict=True))

    def _starts(self, voxels: int, edge: int) -> list[int]:
        """Return where the windows begin along one axis.

        Example:
            >>> NNUNetInferer(patch_size=(64,))._starts(110, 64)
            [0, 23, 46]
        """
        count = math.ceil((voxels - edge) / (edge * self.step_size)) + 1
        return [int(np.round((voxels - edge) / max(count - 1, 1) * number)) for number in range(count)]

    @cached_property
    def _weight(self) -> Tensor:
        """Return the weights of the voxels of a window, rounded as nnU-Net rounds them."""
        if not self.gaussian:
            return torch.ones(self.patch_size)
        center = np.zeros(self.patch_size)
        center[tuple(edge // 2 for edge in self.patch_size)] = 1
        blob = gaussian_filter(center, [edge * SIGMA_SHARE for edge in self.patch_size], mode="constant")
        weight = torch.from_numpy(blob * (PEAK / blob.max())).half()
        weight[weight == 0] = weight[weight > 0].min()  # no voxel may weigh nothing
        return weight.float()

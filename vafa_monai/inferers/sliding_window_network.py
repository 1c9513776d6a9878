"""A whole volume as one network: MONAI's sliding window, with a gradient that holds one batch of windows at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, PytorchPadMode, ensure_tuple_rep, fall_back_tuple, look_up_option
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

__all__ = ["SlidingWindowNetwork"]

Window = tuple[slice, ...]


class SlidingWindowNetwork(nn.Module):
    """Blend the logits of overlapping windows as :class:`monai.inferers.SlidingWindowInferer` does, differentiably.

    The blend ``sum_i w_i f(x_i) / sum_i w_i`` is linear in the windows' logits. So the forward pass needs no graph, and
    the backward pass runs the windows again, ``sw_batch_size`` at a time: beyond the image and the logits of the
    volume, memory does not grow with its size. An attack meets the deployed pipeline, at two forward passes and one
    backward pass a window. Gradients go to the volume, never to the weights.

    Args:
        network: maps windows ``(N, C, *roi_size)`` to logits ``(N, classes, *roi_size)``, in one tensor.
        roi_size: edges of a window in voxels; smaller volumes are padded.
        sw_batch_size: number of windows that the network sees at once.
        overlap: share of a window that its neighbor covers, one number or one for each axis, in [0, 1).
        mode: ``"constant"`` or ``"gaussian"`` weights ``w_i``.
        sigma_scale: width of the Gaussian, relative to ``roi_size``.
        padding_mode: how small volumes are padded.
        cval: value of constant padding.
        windows_per_gradient: for cheap attacks, how many windows a backward pass runs, drawn anew for every volume; the
            forward pass stays exact, and the gradient is unbiased. ``None`` runs all.
        seed: seed of that draw, which depends on nothing but the seed and the volume.

    Raises:
        ValueError: if a setting is impossible.

    Example:
        >>> whole = SlidingWindowNetwork(nn.Conv3d(1, 2, 1), roi_size=(4, 4, 4), overlap=0.5)
        >>> volume = torch.zeros(1, 1, 6, 5, 4, requires_grad=True)
        >>> logits = whole(volume)
        >>> logits.shape, torch.autograd.grad(logits.sum(), volume)[0].shape
        (torch.Size([1, 2, 6, 5, 4]), torch.Size([1, 1, 6, 5, 4]))
    """

    def __init__(  # noqa: PLR0913 - the arguments of MONAI's inferer
        self,
        network: nn.Module,
        roi_size: Sequence[int] | int,
        sw_batch_size: int = 1,
        overlap: Sequence[float] | float = 0.25,
        mode: BlendMode | str = BlendMode.CONSTANT,
        sigma_scale: Sequence[float] | float = 0.125,
        padding_mode: PytorchPadMode | str = PytorchPadMode.CONSTANT,
        cval: float = 0.0,
        windows_per_gradient: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if windows_per_gradient is not None and windows_per_gradient < 1:
            raise ValueError(f"windows_per_gradient must be at least 1 or None, got {windows_per_gradient!r}.")
        if not all(0 <= share < 1 for share in ensure_tuple_rep(overlap, 3)):
            raise ValueError(f"overlap must lie in [0, 1), got {overlap!r}.")
        self.network = network
        self.inferer = SlidingWindowInferer(
            roi_size=roi_size,
            sw_batch_size=sw_batch_size,
            overlap=overlap,
            mode=look_up_option(mode, BlendMode),
            sigma_scale=sigma_scale,
            padding_mode=look_up_option(padding_mode, PytorchPadMode),
            cval=cval,
        )
        self.windows_per_gradient = windows_per_gradient
        self.seed = seed
        self.training = network.training  # a module starts in train mode, the network may be in eval mode

    @classmethod
    def from_inferer(cls, network: nn.Module, inferer: SlidingWindowInferer, **settings: Any) -> SlidingWindowNetwork:
        """Build the network that ``inferer`` and ``network`` make together.

        Raises:
            ValueError: if the inferer does what this class cannot: hands over coordinates, or has weights of its own.
        """
        if getattr(inferer, "with_coord", False):
            raise ValueError("inferer must not have with_coord, got with_coord=True.")
        if getattr(inferer, "roi_weight_map", None) is not None and inferer.mode not in tuple(BlendMode):
            raise ValueError(f"inferer must have a mode of {[str(mode) for mode in BlendMode]}, got {inferer.mode!r}.")
        names = ("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval")
        return cls(network, **{name: getattr(inferer, name) for name in names}, **settings)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map volumes ``(B, C, H, W, D)`` to logits ``(B, classes, H, W, D)``."""
        if torch.is_grad_enabled() and inputs.requires_grad:
            return _Blend.apply(inputs, self)
        return self.blend(inputs)

    def blend(self, inputs: Tensor) -> Tensor:
        """Call MONAI's inferer; see :meth:`forward`."""
        logits: Any = self.inferer(inputs, self.network)
        return logits

    def windows(self, inputs: Tensor) -> tuple[list[int], list[Window], Tensor, Tensor]:
        """Return the padding, the windows of a padded volume, the weights of one, and those of all, summed."""
        size = tuple(inputs.shape[2:])
        roi_size = fall_back_tuple(self.inferer.roi_size, size)
        missing = [max(edge - voxels, 0) for edge, voxels in zip(roi_size, size, strict=True)]
        padding = [part for lack in reversed(missing) for part in (lack // 2, lack - lack // 2)]
        padded = tuple(voxels + lack for voxels, lack in zip(size, missing, strict=True))
        shares = ensure_tuple_rep(self.inferer.overlap, len(size))
        steps = [
            edge if edge == voxels else max(int(edge * (1 - share)), 1)
            for edge, voxels, share in zip(roi_size, padded, shares, strict=True)
        ]
        windows = dense_patch_slices(padded, roi_size, steps)
        sigma = self.inferer.sigma_scale
        weight = compute_importance_map(roi_size, self.inferer.mode, sigma, inputs.device, inputs.dtype)[None, None]
        total = torch.zeros((1, 1, *padded), dtype=inputs.dtype, device=inputs.device)
        for window in windows:
            place = (slice(None), slice(None), *window)
            total[place] += weight
        return padding, windows, weight, total

    def draw(self, inputs: Tensor, count: int) -> tuple[list[int], float]:
        """Choose which of ``count`` windows a gradient is computed of, and what each counts."""
        chosen = self.windows_per_gradient
        if chosen is None or chosen >= count:
            return list(range(count)), 1.0
        content = int(inputs.detach().to(torch.float64).sum().view(torch.int64))  # the same volume, the same windows
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B1 + content) % 2**63)
        return sorted(torch.randperm(count, generator=generator)[:chosen].tolist()), count / chosen


class _Blend(torch.autograd.Function):
    """The blended logits of all windows; the derivative runs the windows again."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, whole: SlidingWindowNetwork) -> Tensor:
        ctx.whole, ctx.state = whole, _State(inputs.device)
        ctx.save_for_backward(inputs)
        return whole.blend(inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inputs,) = ctx.saved_tensors
        whole: SlidingWindowNetwork = ctx.whole
        padding, windows, weight, total = whole.windows(inputs)
        mode, value = whole.inferer.padding_mode, whole.inferer.cval
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            padded = F.pad(leaf, padding, mode, value) if any(padding) else leaf
        by_logits = F.pad(gradient, padding) / total
        by_padded = torch.zeros_like(padded, requires_grad=False)
        chosen, factor = whole.draw(inputs, len(windows) * len(inputs))
        places = [(slice(index // len(windows), index // len(windows) + 1), slice(None), *windows[index % len(windows)])
                  for index in chosen]  # fmt: skip
        with ctx.state.again():
            for first in range(0, len(places), whole.inferer.sw_batch_size):
                batch = places[first : first + whole.inferer.sw_batch_size]
                seen = torch.cat([padded.detach()[place] for place in batch]).requires_grad_()
                with torch.enable_grad():
                    logits = whole.network(seen)
                share = torch.cat([by_logits[place] for place in batch]).mul_(weight * factor)
                (by_seen,) = torch.autograd.grad(logits, seen, share.to(logits.dtype))
                for place, part in zip(batch, by_seen.split(1), strict=True):
                    by_padded[place] += part
        return (torch.autograd.grad(padded, leaf, by_padded)[0] if any(padding) else by_padded), None


class _State:
    """Autocast and random numbers as they were in a forward pass, to run it again."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        self.numbers = torch.get_rng_state()
        self.device_numbers = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @contextmanager
    def again(self) -> Iterator[None]:
        """Put both back for a while."""
        enabled, dtype = self.autocast
        devices = [] if self.device_numbers is None else [self.device]
        with torch.random.fork_rng(devices), torch.autocast(self.device.type, dtype=dtype, enabled=enabled):
            torch.set_rng_state(self.numbers)
            if self.device_numbers is not None:
                torch.cuda.set_rng_state(self.device_numbers, self.device)
            yield

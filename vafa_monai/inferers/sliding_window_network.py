"""A whole volume as one network: MONAI's sliding window, with a gradient that holds one batch of windows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer, SlidingWindowInfererAdapt
from monai.utils import (
    BlendMode,
    PytorchPadMode,
    convert_to_dst_type,
    ensure_tuple,
    ensure_tuple_rep,
    fall_back_tuple,
    look_up_option,
)
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vafa_monai.attacks.ascent import require_tensor

__all__ = ["SlidingWindowNetwork"]

Numbers = tuple[Tensor, ...]  # the state of the generator of the CPU and, if it is another, of the device


class RepeatableCalls:
    """Call ``network``, and note before each call what decides its output beside the input.

    That is the state of the random generators, on which dropout in train mode depends, and autocast, which a backward
    pass does not inherit from its forward pass.

    Args:
        network: maps windows to logits.
        device: where it runs.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self.network = network
        self.device = device
        self.on_cpu = device.type == "cpu"
        self.generators = torch.get_device_module(device)
        self.autocast = torch.is_autocast_enabled(device.type), torch.get_autocast_dtype(device.type)
        self.before: list[Numbers] = []

    def __call__(self, windows: Tensor) -> Tensor:
        """Call the network for the first time."""
        numbers = self._numbers()
        unmoved = bool(self.before) and _equal(numbers, self.before[-1])
        self.before.append(self.before[-1] if unmoved else numbers)  # one copy for all calls that draw nothing
        return self.network(windows)

    def drew_numbers(self) -> bool:
        """Tell, right after the calls, whether any of them drew random numbers."""
        return not _equal(self.before[0], self._numbers())

    @contextmanager
    def repeating(self) -> Iterator[Callable[[int], None]]:
        """Restore autocast for a while; yield what puts the random generators where they were before a call."""
        enabled, dtype = self.autocast
        devices = [] if self.on_cpu else [self.device]
        forked = torch.random.fork_rng(devices, device_type="cuda" if self.on_cpu else self.device.type)
        with forked, torch.autocast(self.device.type, dtype=dtype, enabled=enabled):
            yield self._rewind

    def _numbers(self) -> Numbers:
        """Read the generators."""
        state = torch.get_rng_state()
        return (state,) if self.on_cpu else (state, self.generators.get_rng_state(self.device))

    def _rewind(self, call: int) -> None:
        """Set the generators."""
        state, *others = self.before[call]
        torch.set_rng_state(state)
        for other in others:
            self.generators.set_rng_state(other, self.device)


def _equal(one: Numbers, other: Numbers) -> bool:
    """Tell whether generators stand at the same place."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


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


STOCK = (SlidingWindowInferer, SlidingWindowInfererAdapt)  # the second only chooses where logits are put together
INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # of the size of a floating-point number, in bytes


class SlidingWindowNetwork(nn.Module):
    """Blend the logits of overlapping windows as :class:`monai.inferers.SlidingWindowInferer` does, differentiably.

    The blend ``sum_i w_i f(x_i) / sum_i w_i`` is linear in the logits of the windows. So the forward pass needs no
    graph, and the backward pass runs the windows again, ``sw_batch_size`` at a time, each with its share of the
    gradient: beyond the image and the logits of the volume, memory does not grow with its size. An attack meets the
    deployed pipeline, at two forward passes and one backward pass a window; where ``sw_batch_size`` windows are all
    there are, nothing is run again. Random numbers (dropout in train mode) and
    autocast are the same in both passes. The gradient goes to the volume and never to the weights: this is for attacks,
    not for training.

    Arguments and defaults are those of MONAI's inferer. Logits always stay on the device of the volume, so that a
    volume on the CPU and ``sw_device="cuda"`` keep all but the windows out of the memory of the GPU.

    Args:
        network: maps windows ``(N, C, *roi_size)`` to logits ``(N, classes, *roi_size)``, in one tensor.
        roi_size: edges of a window in voxels; smaller volumes are padded.
        sw_batch_size: number of windows that the network sees at once.
        overlap: share of a window that its neighbor covers, one number or one for each axis, in [0, 1).
        mode: ``"constant"`` or ``"gaussian"`` weights ``w_i``.
        sigma_scale: width of the Gaussian, relative to ``roi_size``.
        padding_mode: how small volumes are padded.
        cval: value of constant padding.
        sw_device: where ``network`` is; ``None`` is the device of the volume.
        windows_per_gradient: for cheap attacks, how many windows of each volume a backward pass runs. They are drawn at
            random, and their gradient is scaled up by the share that is left out. The forward pass stays exact, and so
            does the loss; the gradient is right on average, and 0 where no drawn window lies. ``None`` runs all.
        seed: seed of that draw, which depends on nothing but the seed and the intensities of the volume: every step of
            an attack draws others, and the same attack draws the same.

    Raises:
        ValueError: if a setting is impossible, or the network's logits have not the size of their window.
        TypeError: if the network returns anything but one tensor.
        RuntimeError: if ``windows_per_gradient`` meets a network whose output depends on more than its window: in train
            mode, or drawing random numbers.

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
        sw_device: torch.device | str | None = None,
        windows_per_gradient: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if sw_batch_size < 1:
            raise ValueError(f"sw_batch_size must be at least 1, got {sw_batch_size!r}.")
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
            sw_device=sw_device,
        )
        self.windows_per_gradient = windows_per_gradient
        self.seed = seed
        self.training = getattr(network, "training", False)  # a module starts in train mode

    @classmethod
    def from_inferer(cls, network: nn.Module, inferer: SlidingWindowInferer, **settings: Any) -> SlidingWindowNetwork:
        """Build the network that MONAI's ``inferer`` and ``network`` make together.

        Its ``device``, ``cpu_thresh``, ``buffer_steps`` and ``progress`` say where and how logits are put together, not
        what they are, and have no part in it. ``settings`` are the arguments that an inferer does not have.

        Raises:
            TypeError: if ``inferer`` is not MONAI's own, but a subclass, which may do anything.
            ValueError: if it hands over coordinates, or has a weight map that its ``mode`` does not give.
        """
        if type(inferer) not in STOCK:
            raise TypeError(f"inferer must be a SlidingWindowInferer itself, got {type(inferer).__name__}.")
        if inferer.with_coord:
            raise ValueError("inferer must not have with_coord, got with_coord=True.")
        if inferer.roi_weight_map is not None and not _has_stock_weights(inferer):
            shape = tuple(inferer.roi_weight_map.shape)
            raise ValueError(f"inferer must have the weights of its mode, got a roi_weight_map of its own {shape}.")
        names = ("roi_size", "sw_batch_size", "overlap", "mode", "sigma_scale", "padding_mode", "cval", "sw_device")
        return cls(network, **{name: getattr(inferer, name) for name in names}, **settings)

    @staticmethod
    def can_stand_for(inferer: Any) -> bool:
        """Tell whether :meth:`from_inferer` accepts ``inferer``."""
        return type(inferer) in STOCK and not inferer.with_coord and _has_stock_weights(inferer)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map volumes ``(B, C, H, W, D)`` to logits ``(B, classes, H, W, D)``."""
        if not (torch.is_grad_enabled() and inputs.requires_grad) or self._runs_once(inputs):
            logits: Any = self.inferer(inputs, self.predict)
            return logits
        if not isinstance(inputs, MetaTensor):
            return _Blend.apply(inputs, self)
        return convert_to_dst_type(_Blend.apply(inputs.as_tensor(), self), dst=inputs)[0]

    def _runs_once(self, inputs: Tensor) -> bool:
        """Tell whether autograd holds no more than one batch of windows anyway, and no graph of the weights."""
        fits = WindowGrid.count(inputs, self.inferer) <= self.inferer.sw_batch_size
        frozen = not any(weight.requires_grad for weight in self.network.parameters())
        return fits and frozen and self.windows_per_gradient is None

    def predict(self, windows: Tensor) -> Tensor:
        """Return the logits of windows; refuse what cannot be blended."""
        logits = require_tensor(self.network(windows.clone()))  # a view of the volume, which a network may write into
        if logits.shape[2:] != windows.shape[2:]:
            sizes = f"{tuple(logits.shape[2:])} for windows of {tuple(windows.shape[2:])}"
            raise ValueError(f"network must return logits of the size of their window, got {sizes}.")
        return logits

    def choose(self, inputs: Tensor, grid: WindowGrid) -> tuple[list[Place], float]:
        """Return the windows of ``inputs`` that a gradient is computed of, and what each of them counts."""
        count, wanted = len(grid.places) // len(inputs), self.windows_per_gradient
        if wanted is None or wanted >= count:
            return grid.places, 1.0
        chosen = []
        for sample, volume in enumerate(inputs):  # each by itself, so that a batch gets what its samples get
            content = int(volume.view(INTEGERS[volume.element_size()]).sum())
            generator = torch.Generator().manual_seed((self.seed * 0x9E3779B1 + content) % 2**63)
            drawn = torch.randperm(count, generator=generator)[:wanted].sort().values
            chosen += [grid.places[sample * count + index] for index in drawn.tolist()]
        return chosen, count / wanted


class _Blend(torch.autograd.Function):
    """The blended logits of all windows; the derivative runs the windows again."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, whole: SlidingWindowNetwork) -> Tensor:
        device = torch.device(whole.inferer.sw_device or inputs.device)
        ctx.whole, ctx.calls = whole, RepeatableCalls(whole.predict, device)
        ctx.save_for_backward(inputs)
        logits: Any = whole.inferer(inputs, ctx.calls)
        training = any(getattr(part, "training", False) for part in whole.network.modules())
        if whole.windows_per_gradient is not None and (training or ctx.calls.drew_numbers()):
            found = "train mode" if training else "random numbers"
            raise RuntimeError(f"network must be in eval mode and not random for windows_per_gradient, got {found}.")
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (inputs,), whole, device = ctx.saved_tensors, ctx.whole, ctx.calls.device
        inferer, grid = whole.inferer, WindowGrid.of(inputs, whole.inferer)
        places, factor = whole.choose(inputs, grid)
        with torch.enable_grad():
            leaf = inputs.detach().requires_grad_()
            small = any(grid.padding)
            volume = F.pad(leaf, grid.padding, inferer.padding_mode, inferer.cval) if small else leaf
        gradient = F.pad(gradient, grid.padding) if small else gradient
        found = torch.zeros_like(volume, requires_grad=False)
        with ctx.calls.repeating() as rewind:
            for call, first in enumerate(range(0, len(places), inferer.sw_batch_size)):
                batch = places[first : first + inferer.sw_batch_size]
                windows = torch.cat([volume.detach()[place] for place in batch]).to(device)
                shares = torch.cat([gradient[place] * (factor * grid.share(place)) for place in batch]).to(device)
                rewind(call if factor == 1.0 else 0)
                parts = _pull_back(whole.predict, windows, shares).to(found.device).split(1)
                for place, part in zip(batch, parts, strict=True):
                    found[place] += part
        return (torch.autograd.grad(volume, leaf, found)[0] if small else found), None


def _pull_back(network: Any, windows: Tensor, gradient: Tensor) -> Tensor:
    """Return the gradient to windows of the gradient to their logits."""
    with torch.enable_grad():
        logits = network(windows.requires_grad_())
    if logits.dtype != torch.float16:
        return torch.autograd.grad(logits, windows, gradient.to(logits.dtype))[0]
    scale = gradient.abs().amax().clamp_min(torch.finfo(gradient.dtype).tiny)  # a mean over a volume would give all 0
    return torch.autograd.grad(logits, windows, (gradient / scale).to(logits.dtype))[0] * scale


def _has_stock_weights(inferer: SlidingWindowInferer) -> bool:
    """Tell whether the weights of ``inferer`` are those of its mode."""
    cached = inferer.roi_weight_map
    if cached is None:
        return True
    expected = compute_importance_map(ensure_tuple(inferer.roi_size), inferer.mode, inferer.sigma_scale, cached.device)
    return torch.equal(cached, expected)

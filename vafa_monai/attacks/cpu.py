"""What makes attacks and trainings fast on a CPU: the convolutions of one volume, and freed memory that is kept."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["FastConvolutions", "fast_convolutions", "keep_freed_memory"]

MOST_SLOW = 20480  # batch x channels x height x width of what torch does not hand to oneDNN
LARGEST_SLOW = 3  # the same of the kernel
MMAP_MAX, TRIM_THRESHOLD, TOP_PAD = -4, -1, -2  # options of glibc's mallopt(3)
MOST_KEPT, GROWTH = 2**31 - 1, 2**26  # bytes
OWN_ALLOCATOR = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # what users set who chose how memory is kept


class FastConvolutions(TorchFunctionMode):
    """While it is on, oneDNN does the convolutions of one volume that torch would leave to its slow path.

    On a CPU torch hands a 3D convolution to oneDNN only if the batch has two volumes or more, if channels x height x
    width of the input are above 20480, or if the kernel is larger than 3. An attack of one window on a network that
    begins with few channels is below: forward and backward of a convolution of 4 channels over ``(48, 64, 48)`` then
    take about 15 times as long. Results agree to the rounding of float32. Networks that are compiled, exported or
    scripted are left as they are, and so are convolutions with a stride or in groups.

    Example:
        >>> inputs, weight = torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 3, 3, 3)
        >>> with FastConvolutions():
        ...     torch.conv3d(inputs, weight).flatten().tolist()
        [27.0, 27.0, 27.0, 27.0, 27.0, 27.0, 27.0, 27.0]
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Answer a convolution that would be slow, and pass on everything else."""
        if func is torch.conv3d and not torch.compiler.is_compiling():
            settings = _settings(*args, **(kwargs or {}))
            if settings is not None:
                return _Convolution.apply(*settings)
        return func(*args, **(kwargs or {}))


class _Convolution(torch.autograd.Function):
    """A convolution of stride 1 by oneDNN; its gradient to the input is a convolution with the flipped kernel."""

    generate_vmap_rule = True

    @staticmethod
    def forward(inputs: Tensor, weight: Tensor, bias: Tensor | None, padding: Any, dilation: Any) -> Tensor:
        return torch.mkldnn_convolution(inputs, weight, bias, padding, (1, 1, 1), dilation, 1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        volume, weight, bias, ctx.padding, ctx.dilation = inputs
        ctx.save_for_backward(volume, weight)
        ctx.bias_sizes = None if bias is None else list(bias.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        volume, weight = ctx.saved_tensors
        to_volume, to_weight, to_bias = None, None, None
        if ctx.needs_input_grad[0]:
            sizes = zip(ctx.padding, _reach(weight, ctx.dilation), strict=True)
            flipped, rest = weight.transpose(0, 1).flip(2, 3, 4), [far - pad for pad, far in sizes]
            to_volume = torch.mkldnn_convolution(gradient, flipped, None, rest, (1, 1, 1), ctx.dilation, 1)
        if any(ctx.needs_input_grad[1:3]):
            asked = [False, ctx.needs_input_grad[1], ctx.needs_input_grad[2]]
            how = ([1] * 3, ctx.padding, ctx.dilation, False, [0] * 3, 1, asked)
            _, to_weight, to_bias = torch.ops.aten.convolution_backward(gradient, volume, weight, ctx.bias_sizes, *how)
        return to_volume, to_weight, to_bias, None, None


def _settings(
    inputs: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Any, ...] | None:
    """Return the arguments of a convolution that would be slow and can be fast, or ``None``."""
    given = [one for one in (inputs, weight, bias) if one is not None]
    if any(type(one) not in (Tensor, torch.nn.Parameter) or one.dtype != torch.float32 for one in given):
        return None
    if inputs.device.type != "cpu" or not torch.backends.mkldnn.enabled or torch.is_autocast_enabled("cpu"):
        return None
    small = inputs.ndim == 5 and len(inputs) == 1 and inputs.shape[:4].numel() <= MOST_SLOW
    if not small or groups != 1 or isinstance(padding, str) or min(weight.shape[3:]) > LARGEST_SLOW:
        return None
    stride, padding, dilation = (_triple(one) for one in (stride, padding, dilation))
    sizes = zip(padding, _reach(weight, dilation), inputs.shape[2:], strict=True)
    fits = all(0 <= pad <= far < size + 2 * pad for pad, far, size in sizes) and inputs.shape[1] == weight.shape[1]
    return (inputs, weight, bias, padding, dilation) if fits and max(stride) == 1 else None


def _triple(value: Any) -> tuple[int, ...]:
    return (value,) * 3 if isinstance(value, int) else tuple(value) * (3 // len(value))


def _reach(weight: Tensor, dilation: tuple[int, ...]) -> list[int]:
    """Return how far a kernel reaches along each axis, in voxels."""
    return [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]


def fast_convolutions(device: torch.device) -> AbstractContextManager[Any]:
    """Return the mode of :class:`FastConvolutions` where it helps: on a CPU."""
    return FastConvolutions() if device.type == "cpu" else nullcontext()


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, where there is no GPU, the C library is glibc, and nobody chose.

    A step of a training or an attack frees and asks for the same hundred megabytes again and again. By default glibc
    hands large pieces back to the system each time, which clears every page of them anew: up to a quarter of the
    processor time of a step. What was reached once stays with the process until it ends. Calling it again does
    nothing more. Any of ``MALLOC_*``, ``GLIBC_TUNABLES`` and ``LD_PRELOAD`` in the environment leaves all as it is, so
    ``MALLOC_TOP_PAD_=131072``, the default of glibc, switches this off.

    Returns:
        Whether memory is kept.
    """
    chosen = any(name.startswith(OWN_ALLOCATOR) for name in os.environ)
    if chosen or not sys.platform.startswith("linux") or torch.cuda.is_available():
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and all(
        mallopt(option, value) for option, value in ((MMAP_MAX, 0), (TRIM_THRESHOLD, MOST_KEPT), (TOP_PAD, GROWTH))
    )

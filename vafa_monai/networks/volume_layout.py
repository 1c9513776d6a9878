"""How a volume of a fixed size lies in a network: axis order, patches, stages and tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["NETWORK_AXES", "STAGES", "VolumeLayout", "require_axes", "require_count", "require_counts"]

NETWORK_AXES = "zyx"  # the published order
STAGES = 4
COARSEST = 2 ** (STAGES - 1)  # edge of the last stage's voxel, in voxels of the first stage


@dataclass(frozen=True)
class VolumeLayout:
    """Size and axis order of the volumes that a network takes, and the patches that its first stage sees as voxels.

    Args:
        img_size: size of a volume in voxels, in the order ``axes``; a multiple of ``8 * stem_stride``.
        stem_stride: edges of a patch in voxels, in the order ``axes``.
        axes: order of the spatial axes, such as ``"xyz"``.

    Raises:
        ValueError: if the settings are impossible or do not fit each other.

    Example:
        >>> layout = VolumeLayout((128, 128, 64), (4, 4, 2), "xyz")
        >>> layout.stem, layout.tokens
        ((2, 4, 4), (32768, 4096, 512, 64))
    """

    img_size: Sequence[int]
    stem_stride: Sequence[int]
    axes: str

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        for name in ("img_size", "stem_stride"):
            object.__setattr__(self, name, require_counts(name, getattr(self, name), len(NETWORK_AXES)))
        require_axes(self.axes)
        unit = tuple(COARSEST * edge for edge in self.stem_stride)
        if any(size % edge for size, edge in zip(self.img_size, unit, strict=True)):
            raise ValueError(f"img_size must be a multiple of {unit} ({COARSEST} * stem_stride), got {self.img_size}.")

    @property
    def inward(self) -> list[int]:
        """The transposition of a batch ``(B, C, *img_size)`` to the network's axis order."""
        return [0, 1, *(2 + self.axes.index(axis) for axis in NETWORK_AXES)]

    @property
    def outward(self) -> list[int]:
        """The transposition back."""
        return [0, 1, *(2 + NETWORK_AXES.index(axis) for axis in self.axes)]

    @property
    def stem(self) -> tuple[int, ...]:
        """The edges of a patch in the network's axis order."""
        return tuple(self.stem_stride[self.axes.index(axis)] for axis in NETWORK_AXES)

    @property
    def tokens(self) -> tuple[int, ...]:
        """The number of voxels of each stage."""
        first = math.prod(self.img_size) // math.prod(self.stem_stride)
        return tuple(first // 8**stage for stage in range(STAGES))


def require_axes(axes: str) -> str:
    """Return ``axes`` if they are an order of x, y and z.

    Raises:
        ValueError: if they are not.
    """
    if not isinstance(axes, str) or sorted(axes) != sorted(NETWORK_AXES):
        raise ValueError(f"axes must hold each letter of 'xyz' once, got {axes!r}.")
    return axes


def require_count(name: str, value: int) -> int:
    """Return ``value`` if it is a positive whole number.

    Raises:
        ValueError: if it is something else.
    """
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} must be a positive whole number, got {value!r}.")
    return value


def require_counts(name: str, values: Sequence[int], length: int) -> tuple[int, ...]:
    """Return ``length`` positive whole numbers.

    Raises:
        ValueError: if ``values`` is something else.
    """
    if not isinstance(values, Sequence) or isinstance(values, str) or len(values) != length:
        raise ValueError(f"{name} must be {length} positive whole numbers, got {values!r}.")
    return tuple(require_count(f"every entry of {name}", value) for value in values)

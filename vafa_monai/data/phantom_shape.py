"""Shapes of the phantoms, and the abdomen in CT that is made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["Ellipsoid", "Grid", "Shape", "abdomen", "blurred_means"]

Point = tuple[float, float, float]
BLUR = 0.55  # voxels; edges mix the two tissues, as partial volumes do


class Shape(Protocol):
    """What can be painted."""

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest corner in mm."""

    def contains(self, *points: np.ndarray) -> np.ndarray:
        """Tell which of the points, given by three arrays that broadcast, lie inside."""


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid with its axes along those of the patient, cut off above ``ceiling``; mm."""

    center: Point
    radii: Point
    ceiling: float = np.inf

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest corner in mm."""
        center, radii = np.asarray(self.center), np.asarray(self.radii)
        return center - radii, np.minimum(center + radii, [np.inf, np.inf, self.ceiling])

    def contains(self, *points: np.ndarray) -> np.ndarray:
        """Tell which points lie inside."""
        x, y, z = (
            (point - middle) / radius for point, middle, radius in zip(points, self.center, self.radii, strict=True)
        )
        return x**2 + y**2 + z**2 <= 1


@dataclass(frozen=True)
class Tube:
    """All points within ``radius`` of a polyline; mm."""

    points: tuple[Point, ...]
    radius: float

    def box(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and highest corner in mm."""
        points = np.asarray(self.points)
        return points.min(0) - self.radius, points.max(0) + self.radius

    def contains(self, *points: np.ndarray) -> np.ndarray:
        """Tell which points lie inside."""
        grid = np.stack(np.broadcast_arrays(*points), axis=-1)
        inside = np.zeros(grid.shape[:-1], dtype=bool)
        for start, end in zip(np.asarray(self.points[:-1]), np.asarray(self.points[1:]), strict=True):
            along = np.clip((grid - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
            inside |= ((grid - start - along[..., None] * (end - start)) ** 2).sum(-1) <= self.radius**2
        return inside


@dataclass(frozen=True)
class Grid:
    """Voxels around the origin: how many along right, front and up, and their sizes in mm."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: Point = (0.0, 0.0, 0.0)  # the middle of the grid

    @property
    def axes(self) -> list[np.ndarray]:
        """The centers of the voxels along every axis, in mm."""
        parts = zip(self.shape, self.spacing, self.origin, strict=True)
        return [middle + size * (np.arange(count) - (count - 1) / 2) for count, size, middle in parts]

    @property
    def affine(self) -> np.ndarray:
        """Voxel index to mm, the axes to the right, to the front and up."""
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = [axis[0] for axis in self.axes]
        return affine

    def paint(self, codes: np.ndarray, shape: Shape, code: int) -> None:
        """Write ``code`` into the voxels whose centers lie in ``shape``."""
        axes, bounds = self.axes, zip(*shape.box(), strict=True)
        box = tuple(
            slice(np.searchsorted(axis, low, "left"), np.searchsorted(axis, high, "right"))
            for axis, (low, high) in zip(axes, bounds, strict=True)
        )
        inner = (axis[part] for axis, part in zip(axes, box, strict=True))
        codes[box][shape.contains(*np.meshgrid(*inner, indexing="ij", sparse=True))] = code


def blurred_means(codes: np.ndarray, means: dict[int, float]) -> np.ndarray:
    """Give every code its mean intensity and mix the tissues at their borders."""
    table = np.zeros(max(means) + 1)
    table[list(means)] = list(means.values())
    return gaussian_filter(table[codes], BLUR, mode="nearest")


VOXELS, SPACING = (81, 61, 39), (4.2, 4.2, 6.0)  # at size 1; mm
AIR, FAT, MUSCLE, BONE, LUNG = 0, 20, 21, 22, 23
TISSUE = {AIR: -1000.0, FAT: -100.0, MUSCLE: 48.0, BONE: 420.0, LUNG: -830.0}
ORGANS = {  # mean HU by label, all apart
    1: 130.0,
    2: 186.0,
    3: 202.0,
    4: 6.0,
    5: 62.0,
    6: 112.0,
    7: 24.0,
    8: 235.0,
    9: 150.0,
    10: 168.0,
    11: 94.0,
    12: 72.0,
    13: 82.0,
}
CONTRAST, NOISE = 3.0, 9.0  # HU: spread of an organ's mean from case to case, and of the noise
SHIFT, GROWTH = 2.0, 0.06  # mm and share: spread of places, range of sizes
LEAST, SMALLEST_TUBE = 1.0, 0.75  # voxels: no organ may fall between the centers of coarse voxels
RANGE = (-1024, 3071)


def abdomen(rng: np.random.Generator, size: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make a CT.

    Args:
        rng: random generator.
        size: voxels along an axis, relative to about 81 x 61 x 39; the body stays as large.

    Returns:
        The image in HU as int16 and the label as uint8, both ``(H, W, D)`` with axes to the right, to the front and up,
        and the affine.
    """
    counts = [max(8, round(count * size * rng.uniform(0.95, 1.05))) for count in VOXELS]
    spacing = [float(edge * count / now) for edge, count, now in zip(SPACING, VOXELS, counts, strict=True)]
    grid = Grid((counts[0], counts[1], counts[2]), (spacing[0], spacing[1], spacing[2]))
    codes = np.zeros(grid.shape, dtype=np.uint8)
    for code, shape in (*_body(rng.uniform(0.94, 1.02)), *_organs(rng, np.asarray(spacing))):
        grid.paint(codes, shape, code)
    means = TISSUE | {code: mean + rng.normal(0, CONTRAST) for code, mean in ORGANS.items()}
    image = blurred_means(codes, means) + rng.normal(0, NOISE, grid.shape)
    label = np.where(codes < FAT, codes, 0).astype(np.uint8)
    return np.clip(np.round(image), *RANGE).astype(np.int16), label, grid.affine


def _body(scale: float) -> Iterator[tuple[int, Shape]]:
    """Yield what is around the organs, from the outside in; x to the right, y to the front, z up."""
    long = 1e4
    yield FAT, Ellipsoid((0, 0, 0), (160 * scale, 116 * scale, long))
    yield MUSCLE, Ellipsoid((0, -4, 0), (144 * scale, 100 * scale, long))
    yield FAT, Ellipsoid((0, 4, 0), (132 * scale, 84 * scale, long))
    for side in (-1, 1):
        yield LUNG, Ellipsoid((side * 74 * scale, -8, 160), (54 * scale, 70 * scale, 62))
        yield MUSCLE, Ellipsoid((side * 34, -72, 0), (24, 20, long))
    yield BONE, Ellipsoid((0, -58, 0), (21, 18, long))
    yield BONE, Ellipsoid((0, -88, 0), (5, 16, long))
    yield MUSCLE, Ellipsoid((0, -80, 0), (8, 7, long))  # the spinal canal


def _organs(rng: np.random.Generator, spacing: np.ndarray) -> Iterator[tuple[int, Shape]]:
    """Yield the organs, small ones last, moved and grown a little at random."""
    for code, center, radii in _blobs():
        place = np.asarray(center) + rng.normal(0, SHIFT, 3)
        reach = np.maximum(np.asarray(radii) * rng.uniform(1 - GROWTH, 1 + GROWTH, 3), LEAST * spacing)
        if code == 12:  # the vessels and the pancreas lie on the large organs and below the adrenal glands
            yield from _tubes(rng, spacing)
        yield code, Ellipsoid(_point(place), _point(reach))


def _blobs() -> list[tuple[int, tuple[float, ...], tuple[float, ...]]]:
    """Return label, center and radii in mm of the compact organs."""
    return [
        (6, (64, 8, 42), (62, 60, 54)),
        (6, (12, 40, 52), (46, 26, 26)),  # its left lobe
        (1, (-92, -30, 48), (23, 32, 40)),
        (7, (-48, 36, 40), (36, 28, 36)),
        (2, (60, -46, -30), (25, 21, 43)),
        (3, (-60, -46, -16), (25, 21, 43)),
        (4, (48, 46, -8), (13, 13, 22)),
        (12, (36, -40, 32), (10, 7, 14)),
        (13, (-38, -38, 40), (10, 7, 14)),
    ]


def _tubes(rng: np.random.Generator, spacing: np.ndarray) -> Iterator[tuple[int, Shape]]:
    """Yield vessels, esophagus and pancreas."""
    ends, least = 500.0, SMALLEST_TUBE * float(spacing.max())
    lines: list[tuple[int, float, list[tuple[float, float, float]]]] = [
        (9, 12, [(23, -28, -ends), (23, -28, ends)]),
        (8, 11, [(-11, -32, -ends), (-9, -32, ends)]),
        (5, 10, [(-7, -8, ends), (-8, -8, 76), (-26, 12, 62)]),
        (10, 7, [(44, 6, 34), (14, 0, 12), (-26, -8, 22), (-74, -22, 40)]),
        (11, 11, [(32, 20, -12), (0, 24, 6), (-34, 10, 14), (-60, -6, 24)]),
    ]
    for code, radius, points in lines:
        moved = np.asarray(points) + rng.normal(0, SHIFT, 3)
        yield code, Tube(tuple(_point(point) for point in moved), max(radius, least))


def _point(values: np.ndarray) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])

"""Shapes in millimeters that are painted into voxels, and the scanner that blurs and disturbs what was painted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.ndimage import gaussian_filter

__all__ = ["Ellipsoid", "Grid", "Point", "Shape", "Tube", "blurred_means"]

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

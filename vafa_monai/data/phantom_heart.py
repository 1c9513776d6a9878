"""A synthetic heart in cine MRI: two ventricles and the myocardium in a thin stack of slices, in arbitrary units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vafa_monai.data.phantom_shape import Ellipsoid, Grid, Shape, blurred_means

__all__ = ["Heart", "group_of"]

GROUPS = ("DCM", "HCM", "MINF", "NOR", "RV")  # of patients 1 to 20, 21 to 40 and so on
ANATOMY = {  # radius of the left ventricle, thickness of its wall, radius of the right one (mm), shrinking to systole
    "DCM": (31, 8, 1.0, 0.9),
    "HCM": (21, 14, 1.0, 0.62),
    "MINF": (28, 8, 1.0, 0.86),
    "NOR": (24, 9, 1.0, 0.7),
    "RV": (22, 9, 1.25, 0.76),
}
VOXELS, SPACING = (75, 69), 1.8  # at size 1, in the plane; mm
SLICES = (8.0, 10.0)  # mm
LENGTH = 58.0  # of the left ventricle from base to apex in mm
AIR, FAT, MUSCLE, LUNG = 20, 21, 22, 23
TISSUE = {0: 110.0, AIR: 4.0, FAT: 235.0, MUSCLE: 70.0, LUNG: 16.0}
CLASSES = {1: 168.0, 2: 88.0, 3: 200.0}
CONTRAST, NOISE, BIAS = 3.0, 7.0, 0.12  # spread of means and noise at the scale of the means; share across the field


def group_of(number: int) -> str:
    """Return the disease group of a patient of the official data by number."""
    return GROUPS[(number - 1) // 20 % len(GROUPS)]


@dataclass(frozen=True)
class Heart:
    """What stays the same from frame to frame: the grid, the anatomy, the scanner."""

    grid: Grid
    radius: float
    wall: float
    right: float
    shrink: float
    means: dict[int, float]
    scale: float
    slope: np.ndarray

    @classmethod
    def draw(cls, rng: np.random.Generator, group: str, size: float) -> Heart:
        """Draw a patient.

        Args:
            rng: random generator.
            group: one of :data:`GROUPS`.
            size: voxels along an axis of the plane, relative to about 75 x 69; the number of slices stays 7 to 11.
        """
        radius, wall, right, shrink = ANATOMY[group]
        counts = [max(8, round(count * size * rng.uniform(0.94, 1.06))) for count in VOXELS]
        thickness = float(rng.choice(SLICES))
        slices = int(np.ceil((LENGTH + wall) / thickness)) + int(rng.integers(0, 3))
        edge = SPACING * VOXELS[0] / counts[0]
        top = float(rng.uniform(0, 8))  # of the uppermost slice above the base of the heart
        middle = (float(rng.normal(6, 2)), float(rng.normal(0, 2)), top - thickness * (slices - 1) / 2)
        grid = Grid((counts[0], counts[1], slices), (float(edge), float(edge), thickness), middle)
        return cls(
            grid=grid,
            radius=radius * float(rng.uniform(0.94, 1.06)),
            wall=wall * float(rng.uniform(0.94, 1.06)),
            right=right * float(rng.uniform(0.95, 1.05)),
            shrink=shrink,
            means=TISSUE | {code: mean + float(rng.normal(0, CONTRAST)) for code, mean in CLASSES.items()},
            scale=10 ** float(rng.uniform(0, 1)),
            slope=rng.uniform(-BIAS, BIAS, 3),
        )

    def frame(self, rng: np.random.Generator, systole: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return image (float32, arbitrary units) and label of the frame at end-diastole or end-systole."""
        codes = np.zeros(self.grid.shape, dtype=np.uint8)
        for code, shape in (*_chest(), *self._ventricles(self.shrink if systole else 1.0)):
            self.grid.paint(codes, shape, code)
        clean = blurred_means(codes, self.means) * self._bias()
        real, imaginary = (rng.normal(0, NOISE, clean.shape) for _ in range(2))
        image = self.scale * np.hypot(clean + real, imaginary)  # Rician noise, as of magnitude images
        return image.astype(np.float32), np.where(codes < AIR, codes, 0).astype(np.uint8)

    def _ventricles(self, shrink: float) -> Iterator[tuple[int, Shape]]:
        """Yield right ventricle, myocardium and left ventricle, cut off at the base, z = 0."""
        radius = self.radius * shrink
        wall = np.sqrt(radius**2 + (self.radius + self.wall) ** 2 - self.radius**2) - radius  # muscle keeps its area
        outer = radius + wall
        length = LENGTH * (0.85 + 0.15 * shrink)
        crescent = 0.62 * outer * self.right
        yield FAT, Ellipsoid((0, 0, 0), (outer + 6, outer + 6, length + wall + 6), 4)
        yield 1, Ellipsoid((outer + 0.1 * crescent, 6, 0), (1.1 * crescent, 1.3 * crescent, 0.85 * length), 0)
        yield 2, Ellipsoid((0, 0, 0), (outer, outer, length + 0.6 * wall), 0)
        yield 3, Ellipsoid((0, 0, 0), (radius, radius, length - 0.4 * wall), 0)

    def _bias(self) -> np.ndarray:
        """Return the receive field of the coil, linear, 1 in the middle."""
        ramps = np.meshgrid(*(np.linspace(-1, 1, count) for count in self.grid.shape), indexing="ij", sparse=True)
        return 1 + sum(slope * ramp for slope, ramp in zip(self.slope, ramps, strict=True))


def _chest() -> Iterator[tuple[int, Shape]]:
    """Yield what is around the heart."""
    long = 1e4
    yield LUNG, Ellipsoid((-70, 10, 0), (34, 60, long))
    yield LUNG, Ellipsoid((64, -64, 0), (50, 44, long))
    yield FAT, Ellipsoid((30, 88, 0), (160, 34, long))
    yield MUSCLE, Ellipsoid((30, 96, 0), (160, 34, long))

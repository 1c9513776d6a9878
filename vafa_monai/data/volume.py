"""A NIfTI volume as it lies in a file: its voxels, where they are, and whether its header agrees with itself."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = ["SPACING_TOLERANCE", "Volume", "displacement", "read_volume", "spacing_of", "storable"]

SPACING_TOLERANCE = 0.01  # relative; rounding in a header is far below, a wrong unit or a missing spacing far above


@dataclass(frozen=True)
class Volume:
    """Voxels ``(H, W, D)``, their affine (voxel index to mm), the voxel sizes in mm by ``pixdim``, the description."""

    array: np.ndarray
    affine: np.ndarray
    pixdim: tuple[float, ...]
    description: str

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel sizes in mm by the affine."""
        return spacing_of(self.affine)

    @property
    def agrees(self) -> bool:
        """Whether the affine and ``pixdim`` give the same voxel sizes."""
        return bool(np.allclose(self.spacing, self.pixdim[:3], rtol=SPACING_TOLERANCE, atol=0))

    def rescaled(self) -> np.ndarray:
        """Return the affine with its directions and origin as they are and the voxel sizes of ``pixdim``."""
        affine = self.affine.copy()
        affine[:3, :3] *= np.asarray(self.pixdim[:3]) / self.spacing
        return affine

    def settled(self, pixdim_rules: bool) -> Volume:
        """Return the volume with one spacing: that of ``pixdim`` if it rules, else that of the affine."""
        return replace(self, affine=self.rescaled()) if pixdim_rules and not self.agrees else self


def spacing_of(affine: np.ndarray) -> tuple[float, ...]:
    """Return the voxel sizes in mm of an affine."""
    return tuple(float(size) for size in np.linalg.norm(affine[:3, :3], axis=0))


def read_volume(path: Path) -> Volume:
    """Read a volume with all of its voxels.

    Raises:
        ValueError: with the reason, if it cannot be read to its end.
    """
    try:
        image: Any = nib.load(path)
        if path.suffix == ".gz":  # read to its end, because nibabel stops before the checksum
            image = type(image).from_bytes(gzip.decompress(path.read_bytes()))
        array = np.asanyarray(image.dataobj)
        description = bytes(image.header["descrip"]).rstrip(b"\0").decode("ascii", "replace")
        pixdim = tuple(float(size) for size in image.header.get_zooms())
    except Exception as error:  # nibabel, gzip and zlib raise errors of many kinds
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    return Volume(array, np.asarray(image.affine, dtype=np.float64), pixdim, description)


def displacement(image: np.ndarray, label: np.ndarray, shape: tuple[int, ...]) -> float:
    """Return how far a label's affine carries a corner voxel away from where its image's affine carries it.

    Args:
        image: affine of the image, which can be inverted.
        label: affine of the label.
        shape: size of both in voxels.

    Returns:
        The largest shift along an axis of the image over the eight corners, in voxels of that axis.

    Example:
        >>> shifted = np.diag([2.0, 2.0, 10.0, 1.0])
        >>> shifted[2, 3] = 5
        >>> displacement(np.diag([2.0, 2.0, 10.0, 1.0]), shifted, (8, 8, 4))
        0.5
    """
    corners = np.array([[*corner, 1] for corner in product(*((0, size - 1) for size in shape))], dtype=np.float64)
    moved = corners @ (np.linalg.inv(image) @ label).T
    return float(np.abs(moved - corners).max())


def storable(array: np.ndarray) -> np.ndarray:
    """Return the voxels in a type that every NIfTI reader knows: 64 bits become 32, all else stays."""
    if array.dtype.itemsize <= 4:
        return array
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)

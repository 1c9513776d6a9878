"""How the energy of a volume is spread over frequencies, whatever their direction."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

__all__ = ["HIGHEST_FREQUENCY", "radial_spectrum"]

HIGHEST_FREQUENCY = math.sqrt(3) / 2  # cycles a voxel, in the corner: half a cycle along each of the three axes


def radial_spectrum(volume: NDArray[np.floating], bins: int = 24) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the share of the energy of a volume in bands of frequency, and the share of coefficients in each band.

    The transform is the orthonormal DCT of the whole volume, so the energy is that of the voxels. Coefficient ``k``
    of an axis of ``n`` voxels has ``k / (2 n)`` cycles a voxel; the frequency of a coefficient is the length of its
    three. White noise has the share of its coefficients in every band.

    Args:
        volume: real array of shape ``(H, W, D)``.
        bins: number of bands of equal width between 0 and ``HIGHEST_FREQUENCY`` cycles a voxel.

    Returns:
        Two arrays of shape ``(bins,)``: shares of energy, which add up to 1, or are all 0 if the volume is, and
        shares of coefficients, which add up to 1.

    Example:
        >>> energy, _ = radial_spectrum(np.ones((4, 4, 4)), bins=3)  # a constant has the lowest frequency only
        >>> energy.round(6).tolist()
        [1.0, 0.0, 0.0]
    """
    energy = dctn(np.asarray(volume, dtype=np.float32), norm="ortho") ** 2
    squares = [(np.arange(n) / (2 * n)) ** 2 for n in energy.shape]
    plane = squares[1][:, None] + squares[2]
    shares, counts = np.zeros(bins), np.zeros(bins)
    for square, row in zip(squares[0], energy, strict=True):  # a row at a time, for the memory
        band = (np.sqrt(square + plane) * (bins / HIGHEST_FREQUENCY)).astype(np.int64).clip(max=bins - 1).ravel()
        shares += np.bincount(band, weights=row.ravel(), minlength=bins)
        counts += np.bincount(band, minlength=bins)
    total = shares.sum()
    return shares / total if total > 0 else shares, counts / counts.sum()

"""A volume as it lies in a file: whether that is whole, its voxels, where they are, whether its header agrees."""

from __future__ import annotations

import bz2
import gzip
import math
import zipfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import IO, Any

import nibabel as nib
import numpy as np

from vafa_monai.data.files import oversize

__all__ = ["Volume", "displacement", "read_volume", "require_whole", "storable"]

SPACING_TOLERANCE = 0.01  # relative; rounding in a header is far below, a wrong unit or a missing spacing far above

NUMPY, ZIP, GZIP = b"\x93NUMPY", b"PK\x03\x04", b"\x1f\x8b"
PACKED: dict[bytes, Any] = {GZIP: gzip.open, b"BZh": bz2.open}  # by what the files begin with
HEAD, CHUNK = 1 << 12, 1 << 20  # bytes; headers are shorter


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
        ValueError: with the reason, if it cannot be read to its end or would take too much memory.
    """
    try:
        chunks = _chunks(path)
        image: Any = nib.load(path)
        if path.suffix == ".gz":  # read to its end, because nibabel stops before the checksum
            image = type(image).from_bytes(b"".join(chunks))
        else:
            deque(chunks, maxlen=0)
        array = np.asanyarray(image.dataobj)
        description = bytes(image.header["descrip"]).rstrip(b"\0").decode("ascii", "replace")
        pixdim = tuple(float(size) for size in image.header.get_zooms())
    except Exception as error:  # nibabel, gzip and zlib raise errors of many kinds
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    return Volume(array, np.asarray(image.affine, dtype=np.float64), pixdim, description)


def require_whole(path: Path) -> None:
    """Refuse a volume whose length or checksum does not fit, or that would take too much memory or run, by its content.

    Of NIfTI and numpy files the size that the header claims is compared with the file and with
    ``VAFA_MONAI_LARGEST_GB`` before a voxel is read; what gzip or bzip2 packs is read to its checksum, piece by piece.

    Raises:
        ValueError: with the reason, as a part of a sentence.
    """
    try:
        deque(_chunks(path, numbers=True), maxlen=0)
    except Exception as error:  # gzip, bz2, zlib, zipfile, numpy and nibabel raise errors of many kinds
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _chunks(path: Path, numbers: bool = False) -> Iterator[bytes]:
    """Yield what a file holds, unpacked; raise an error if it is not what it claims, or perhaps holds no numbers."""
    packed = path.stat().st_size
    if not packed:
        raise ValueError("it is empty")
    with path.open("rb") as raw:
        start = raw.read(len(NUMPY))
        raw.seek(0)
        if start.startswith(ZIP):
            _require_arrays(raw, packed)
            return
        if (path.suffix in (".npy", ".npz") and start != NUMPY) or (path.suffix == ".gz" and start[:2] != GZIP):
            raise ValueError(f"it is no {path.suffix[1:]} file")
        file: Any = next((opener(raw) for magic, opener in PACKED.items() if start.startswith(magic)), raw)
        head = file.read(HEAD)
        claimed = _claimed_bytes(head, numbers)
        _require_room(claimed, packed)
        yield head
        total = len(head)
        while chunk := file.read(CHUNK):
            total += len(chunk)
            _require_room(total, packed)
            yield chunk
    if total < claimed:
        raise ValueError(f"it ends after {total} of {claimed} bytes")


def _require_room(size: int, packed: int) -> None:
    """Refuse a file that takes too much memory."""
    if reason := oversize(size, packed):
        raise ValueError(reason.removeprefix("which "))


def _claimed_bytes(head: bytes, numbers: bool) -> int:
    """Return how long a file is by its header, or 0 if that does not tell."""
    if head.startswith(NUMPY):
        return _array_bytes(BytesIO(head))
    kind: Any = next((kind for kind in (nib.Nifti1Header, nib.Nifti2Header) if kind.may_contain_header(head)), None)
    if kind is None:
        return 0
    header = kind.from_fileobj(BytesIO(head), check=False)
    dtype = header.get_data_dtype()
    if numbers:
        _require_numbers(dtype)
    shape = header.get_data_shape()
    if any(size < 0 for size in shape):
        raise ValueError(f"its header claims the shape {shape}")
    separate = header["magic"].item() in (b"ni1", b"ni2")  # voxels in another file
    return 0 if separate else int(header["vox_offset"]) + math.prod(map(int, shape)) * dtype.itemsize


def _array_bytes(file: IO[bytes]) -> int:
    """Return the bytes of a numpy array by its header."""
    version = np.lib.format.read_magic(file)
    read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    _require_numbers(dtype)
    return file.tell() + math.prod(shape) * dtype.itemsize


def _require_numbers(dtype: np.dtype) -> None:
    """Refuse colors, complex numbers, which a reader would cut to their real part, and objects, which would run."""
    if dtype.kind not in "biuf":
        raise ValueError(f"it must hold one real number per voxel, and its voxels are of type {dtype}")


def _require_arrays(raw: IO[bytes], packed: int) -> None:
    """Check a zip archive of numpy arrays."""
    with zipfile.ZipFile(raw) as archive:
        _require_room(sum(member.file_size for member in archive.infolist()), packed)
        if broken := archive.testzip():
            raise ValueError(f"its part {broken!r} differs from its checksum")
        for name in archive.namelist():
            with archive.open(name) as member:
                _array_bytes(BytesIO(member.read(HEAD)))


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

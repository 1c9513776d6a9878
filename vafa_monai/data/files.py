"""Files that appear whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = ["sha256", "whole_file", "write_json", "write_volume", "write_whole"]


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; rename it to ``path`` on success, remove it on failure.

    The name ends as that of ``path`` does, because writers choose their format by it.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with whole_file(path) as beside:
        ...     _ = beside.write_text("all")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('all', 1)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_whole(path: str | Path, content: bytes | str) -> Path:
    """Write bytes, or text as UTF-8; return the path."""
    with whole_file(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as JSON; NaN is refused, because no other program reads it."""
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_volume(path: str | Path, volume: np.ndarray, affine: np.ndarray) -> None:
    """Write ``(H, W, D)`` as NIfTI in its own dtype with its affine."""
    with whole_file(path) as beside:
        nib.save(nib.Nifti1Image(volume, np.asarray(affine, dtype=np.float64)), beside)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:
    """Hash an open file on Python 3.10."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: file.read(1 << 20), b""):
        digest.update(chunk)
    return digest.hexdigest()

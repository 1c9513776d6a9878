"""Whether parts of a dataset share an image, by its content."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import LoadImage

from vafa_monai.data.files import sha256

__all__ = ["require_apart"]

logger = logging.getLogger(__name__)


def require_apart(parts: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse parts that share an image: what was trained on must not select a model, nor test it.

    Images are compared by their intensities and shape, so that a copy of another name, compression or number type is
    found. Cases whose files are not here, as test cases may be kept elsewhere, are not compared, and the log says so.

    Args:
        parts: cases with a path, or a list of them, as ``"image"``, by the name of the part.

    Raises:
        ValueError: if two parts share an image; the first such pair is named.
    """
    seen: dict[str, tuple[str, str]] = {}
    for part, cases in parts.items():
        missing = 0
        for case in cases:
            files = [Path(file) for file in _listed(case["image"])]
            if not all(file.is_file() for file in files):
                missing += 1
                continue
            other, where = seen.setdefault(_content(files), (part, str(files[0])))
            if other != part:
                raise ValueError(f"parts must share no image, got {where!r} ({other}) and {str(files[0])!r} ({part}).")
        if missing:
            logger.info("%d of %d images of the part %r are not here: not compared", missing, len(cases), part)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _content(files: Sequence[Path]) -> str:
    """Return a hash of the intensities of an image, or of its bytes where MONAI has no reader for it."""
    try:
        volume = np.asarray(LoadImage(image_only=True)(list(map(str, files))), dtype=np.float32)
    except (RuntimeError, ValueError, OSError):
        return "".join(map(sha256, files))
    return hashlib.sha256(repr(volume.shape).encode() + np.ascontiguousarray(volume).tobytes()).hexdigest()

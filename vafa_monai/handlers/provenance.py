"""Where a result comes from: the names of cases and the versions of programs."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

from monai.data import MetaTensor
from torch import Tensor

import vafa_monai

__all__ = ["case_name", "versions"]


def case_name(image: Tensor) -> str:
    """Return the file name of a volume without its endings.

    Raises:
        ValueError: if the volume does not know its file.
    """
    path = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    if not path:
        raise ValueError("image must know its file, got no metadata; load it with LoadImaged.")
    name = Path(str(path)).name
    return name.removesuffix(".gz").removesuffix(".nii")


def versions() -> dict[str, str]:
    """Return the versions of the programs that made a result."""
    packages = {name: version(name) for name in ("monai", "torch", "numpy")}
    return {"vafa_monai": vafa_monai.__version__, **packages, "python": platform.python_version()}

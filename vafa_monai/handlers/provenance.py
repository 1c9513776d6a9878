"""Where a result comes from: its cases and their files, how they were evaluated, the versions of programs."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai.data import MetaTensor
from monai.utils import CommonKeys
from torch import Tensor

import vafa_monai
from vafa_monai.data import sha256
from vafa_monai.data.files import file_name

__all__ = [
    "case_files",
    "case_input",
    "case_name",
    "inferer_facts",
    "listed_names",
    "require_different",
    "versions",
]

MEANS = ("sw_batch_size", "sw_device", "device", "progress", "cpu_thresh", "buffer_steps", "buffer_dim")  # not what


def case_name(image: Tensor) -> str:
    """Return the file name of a volume without its endings.

    Raises:
        ValueError: if the volume does not know its file, or its name has no or unprintable characters.
    """
    path = _path(image)
    if path is None:
        raise ValueError("image must know its file, got no metadata; load it with LoadImaged.")
    return _printable(path)


def _printable(path: str | Path) -> str:
    """Return the name of the case of a file; refuse escape sequences, which terminals and pages would follow."""
    name = file_name(path)
    if not name or not name.isprintable():
        raise ValueError(f"a case must have a file name of printable characters, got {str(path)!r}.")
    return name


def listed_names(engine: Any) -> list[str]:
    """Return the names of the cases that an engine is to run, as far as its dataset lists their files.

    Raises:
        ValueError: if two of them are equal: one would be taken for the other, or written over it.
    """
    listed = getattr(getattr(getattr(engine.state, "dataloader", None), "dataset", None), "data", None)
    images = [case.get(CommonKeys.IMAGE) for case in (listed or ()) if isinstance(case, Mapping)]
    firsts = [image[0] if isinstance(image, (list, tuple)) and image else image for image in images]
    names = [_printable(image) for image in firsts if isinstance(image, (str, Path))]
    names += [_printable(path) for image in firsts if (path := _path(image)) is not None]
    require_different(names)
    return names


def require_different(names: Sequence[str]) -> None:
    """Refuse two cases of one name."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"cases must have file names that differ, got {twice!r} twice.")


def case_files(case: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the SHA-256 of the files of image and label of a case; ``None`` where there is no such file."""
    found = {key: _path(case.get(key)) for key in (CommonKeys.IMAGE.value, CommonKeys.LABEL.value)}
    return {key: sha256(path) if path is not None and Path(path).is_file() else None for key, path in found.items()}


def case_input(clean: Tensor) -> dict[str, Any]:
    """Return what tells apart how an image was prepared: its shape, and mean and deviation of its intensities."""
    plain = clean.detach().double()
    return {
        "shape": list(clean.shape),
        "mean": round(plain.mean().item(), 6),
        "std": round(plain.std(correction=0).item(), 6),
    }


def inferer_facts(inferer: Any) -> dict[str, Any]:
    """Return what an inferer is: its class and its plain settings, but those that change memory and speed alone.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> inferer_facts(SimpleInferer())
        {'_target_': 'monai.inferers.inferer.SimpleInferer'}
    """
    kind = type(inferer)
    kept = {name: _plain(value) for name, value in sorted(vars(inferer).items()) if name[0] != "_"}
    plain = {name: value for name, value in kept.items() if value is not None and name not in MEANS}
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **plain}


def _plain(value: Any) -> Any:
    """Return a number, a text, or several of them as JSON has them; nothing of anything else."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None


def _path(image: Any) -> str | None:
    """Return the file that a volume was loaded from, if it knows it."""
    path = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(path) if path else None


def versions() -> dict[str, str]:
    """Return the versions of the programs that made a result."""
    packages = {name: version(name) for name in ("monai", "torch", "numpy")}
    return {"vafa_monai": vafa_monai.__version__, **packages, "python": platform.python_version()}

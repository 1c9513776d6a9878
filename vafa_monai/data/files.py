"""Files that appear whole or not at all, and JSON that is read as data of strangers."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

__all__ = [
    "file_name",
    "is_finished",
    "list_hashes",
    "oversize",
    "parse_json",
    "read_json",
    "require_writable",
    "set_aside",
    "sha256",
    "whole_file",
    "whole_folder",
    "write_json",
    "write_volume",
    "write_whole",
]

PROBE = 1 << 16  # bytes
MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
LARGEST_JSON = 256 << 20  # bytes
LARGEST_VARIABLE, LARGEST_GB = "VAFA_MONAI_LARGEST_GB", 2.0  # of what a packed or hollow file becomes in memory
DEEPEST_JSON = 100  # lists and objects in each other
LARGEST_WHOLE_NUMBER = 1 << 64
JSON_KINDS: dict[type, str] = {dict: "an object", list: "a list", str: "a text"}


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Give a path beside ``path`` to write to; rename it to ``path`` on success, remove it on failure.

    The name ends as that of ``path`` does, because writers choose their format by it; it cannot be guessed, so that no
    link waits there. What killed processes of this machine left for the same ``path`` is removed. A link at ``path`` is
    replaced, not followed.

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
    for leftover in leftovers(path.parent, path.name):
        leftover.unlink(missing_ok=True)
    beside = path.with_name(f"{unfinished_mark()}{path.name}")
    try:
        yield beside
        with beside.open("rb") as written:
            os.fsync(written.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def unfinished_mark() -> str:
    """Return how the name of something unfinished begins: with this machine, this process and what nobody guesses."""
    return f".{MACHINE}.{os.getpid()}.{secrets.token_hex(8)}."


def leftovers(folder: Path, ending: str) -> list[Path]:
    """List what killed processes of this machine left unfinished in a folder under names with this ending."""
    form = re.compile(rf"\.{MACHINE}\.(\d+)\.[0-9a-f]{{16}}\.{re.escape(ending)}")
    found = ((path, form.fullmatch(path.name)) for path in folder.iterdir())
    return [path for path, match in found if match and not _runs(int(match[1]))]


def _runs(process: int) -> bool:
    """Tell whether a process of this machine runs, or may."""
    try:
        if os.name == "posix":
            os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user; no number of a process
        return True
    return True


def write_whole(path: str | Path, content: bytes | str) -> Path:
    """Write bytes, or text as UTF-8; return the path."""
    with whole_file(path) as beside:
        beside.write_bytes(content.encode() if isinstance(content, str) else content)
    return Path(path)


def require_writable(path: str | Path) -> None:
    """Refuse, before the work, a file that could not be written after it.

    Raises:
        ValueError: if the place is a folder, its nearest folder cannot be written to, or the disk is full.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise IsADirectoryError(f"{path.name} is a folder")
        folder = next(one for one in path.absolute().parents if one.exists())
        with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"0" * PROBE)
    except OSError as error:
        raise ValueError(f"output must be a place that can be written to, got {str(path)!r} ({error}).") from error


def set_aside(path: str | Path, why: str = "damaged") -> Path:
    """Rename a file that is not to be taken for what it was, and return its new name, which no other file had.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> [set_aside(write_whole(folder / "a.json", "{")).name for _ in range(2)]
        ['a.json.damaged', 'a.json.damaged-2']
    """
    path = Path(path)
    names = (f"{path.name}.{why}{f'-{number}' if number > 1 else ''}" for number in count(1))
    aside = next(path.with_name(name) for name in names if not path.with_name(name).exists())
    return path.rename(aside)


def write_json(path: str | Path, content: Any) -> None:
    """Write ``content`` as JSON; NaN is refused, because no other program reads it."""
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def oversize(unpacked: int, packed: int) -> str:
    """Tell that a file would take too much memory, as the end of a sentence; empty if not.

    A file may need as much as it has, and otherwise ``VAFA_MONAI_LARGEST_GB``, 2 by default, in GB of 10^9 bytes.

    Args:
        unpacked: bytes in memory, by what its headers say.
        packed: bytes of the file.

    Raises:
        ValueError: if the environment variable is no number above 0.

    Example:
        >>> oversize(5 * 10**9, 10**6)
        'which needs 5 GB in memory, more than 2; set VAFA_MONAI_LARGEST_GB to allow more'
    """
    value = os.environ.get(LARGEST_VARIABLE) or str(LARGEST_GB)
    try:
        largest = float(value)
    except ValueError:
        largest = math.nan
    if not 0 < largest < math.inf:
        raise ValueError(f"{LARGEST_VARIABLE} must be a number of GB above 0, got {value!r}.")
    if unpacked <= max(packed, largest * 1e9):
        return ""
    return f"which needs {unpacked / 1e9:.3g} GB in memory, more than {largest:g}; set {LARGEST_VARIABLE} to allow more"


def read_json(path: str | Path, what: str = "file", kind: type = dict, largest: int = LARGEST_JSON) -> Any:
    """Return the content of a JSON file that anyone may have written.

    Args:
        path: the file.
        what: what it is to be, in the words of the user; begins the error.
        kind: the Python type that the whole is to have.
        largest: bytes that the file may have.

    Raises:
        ValueError: in one sentence that names the file, if it is missing, too large, or refused by :func:`parse_json`.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ValueError("which is missing" if not path.exists() else "which is no file")
        if (size := path.stat().st_size) > largest:
            raise ValueError(f"which has {size} bytes, more than {largest}")
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{what} must be a readable JSON file, got {str(path)!r} ({error}).") from error
    return parse_json(content, what, str(path), kind)


def parse_json(content: bytes | str, what: str, where: str, kind: type = dict) -> Any:
    """Return what JSON text says, if programs agree on what it says.

    Refused are, besides what is no JSON in UTF-8, what Python would take and others take otherwise or break on: NaN and
    infinity, also as ``1e999``; whole numbers beyond 64 bits; a key that an object has twice; half a surrogate pair;
    lists and objects more than 100 deep.

    Args:
        content: the text.
        what: what it is to be; begins the error.
        where: the file that it is from, for the error.
        kind: the Python type that the whole is to have.

    Raises:
        ValueError: in one sentence.

    Example:
        >>> parse_json('{"eps": 0.1}', "result", "a.json")
        {'eps': 0.1}
    """
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        found = json.loads(
            text,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole_number,
            object_pairs_hook=_unique_keys,
        )
        if "\\u" in text:
            json.dumps(found, ensure_ascii=False).encode()  # fails for half a pair
        _require_flat(found)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"{what} must be readable as JSON, got {where!r} ({reason}).") from error
    if not isinstance(found, kind):
        raise ValueError(f"{what} must be {JSON_KINDS[kind]} in JSON, got {type(found).__name__} in {where!r}.")
    return found


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number; write null")


def _finite(text: str) -> float:
    """Read a number with a fraction or an exponent."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _whole_number(text: str) -> int:
    """Read a whole number; its digits are counted first, because long ones take long."""
    if len(text) > len(str(-LARGEST_WHOLE_NUMBER)) or abs(number := int(text)) > LARGEST_WHOLE_NUMBER:
        raise ValueError(f"the whole number {text[:20]}… of {len(text)} digits is too large")
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object, if no key comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _require_flat(content: Any) -> None:
    """Refuse what is nested so deep that code that follows it would break."""
    level = [content] if isinstance(content, (dict, list)) else []
    for _ in range(DEEPEST_JSON):
        inside = (node.values() if isinstance(node, dict) else node for node in level)
        level = [item for items in inside for item in items if isinstance(item, (dict, list))]
        if not level:
            return
    raise RecursionError


def file_name(path: str | Path) -> str:
    """Return the name of a volume's file without folder and endings, by which its case is known.

    Example:
        >>> file_name("imagesTs/case_03.nii.gz")
        'case_03'
    """
    return Path(str(path)).name.removesuffix(".gz").removesuffix(".nii")


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


@contextmanager
def whole_folder(path: str | Path) -> Iterator[Path]:
    """Give a folder beside ``path`` to fill; rename it to ``path`` on success, remove it on failure.

    A process that is killed leaves a hidden folder whose name ends in ``.<name>.partial``; the next call for the same
    ``path`` on this machine removes it.

    Raises:
        OSError: if ``path`` holds something.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "new"
        >>> with whole_folder(path) as beside:
        ...     _ = (beside / "a.txt").write_text("all")
        ...     path.exists()
        False
        >>> (path / "a.txt").read_text(), len(list(path.parent.iterdir()))
        ('all', 1)
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in leftovers(path.parent, f"{path.name}.partial"):
        shutil.rmtree(leftover, ignore_errors=True)
    beside = path.with_name(f"{unfinished_mark()}{path.name}.partial")
    beside.mkdir()
    try:
        yield beside
        if path.exists():
            path.rmdir()  # an empty one; not every system renames onto a folder
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def list_hashes(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below ``folder`` by relative path, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def is_finished(output: Path, manifest: str, settings: Mapping[str, Any]) -> bool:
    """Tell whether ``output`` already holds what a call with these settings writes.

    Args:
        output: the folder.
        manifest: name of the JSON file in it that records ``"settings"`` and the ``"sha256"`` of every other file.
        settings: what makes one call differ from another; JSON types only.

    Returns:
        ``False`` if the folder is absent or empty.

    Raises:
        ValueError: if it holds anything else: other files, other settings, or a file that was changed or removed.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return False
    content = _read(output / manifest)
    recorded, listed = content.get("settings"), content.get("sha256")
    if not isinstance(recorded, dict) or not isinstance(listed, dict):
        raise ValueError(f"output must be a new or empty folder, got {str(output)!r}, which holds something else.")
    differing = sorted(name for name in recorded.keys() | settings.keys() if recorded.get(name) != settings.get(name))
    if differing:
        raise ValueError(
            f"output must be a new folder or one that was made with the same settings, got {str(output)!r}, "
            f"made with another {' and '.join(differing)}."
        )
    changed = [name for name in listed if not (output / name).is_file() or sha256(output / name) != listed[name]]
    if changed:
        raise ValueError(
            f"output must hold its files as they were written, got {str(output)!r}, in which {len(changed)} of "
            f"{len(listed)} are changed or missing, first {changed[0]!r}."
        )
    return True


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file, or an empty dictionary if it is none."""
    try:
        return read_json(path)
    except ValueError:
        return {}

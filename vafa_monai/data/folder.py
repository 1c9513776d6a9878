"""Folders that appear whole or not at all, and that know what made them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vafa_monai.data.files import leftovers, read_json, sha256, unfinished_mark

__all__ = ["is_finished", "list_hashes", "whole_folder"]


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

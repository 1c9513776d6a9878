"""What a packaged bundle consists of: every file with its size and hash, and whether a folder is that."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vafa_monai.data import read_json, sha256

__all__ = [
    "MANIFEST",
    "MANIFEST_SCHEMA",
    "build_manifest",
    "folder_files",
    "folder_sha256",
    "manifest_faults",
    "read_manifest",
]

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = "vafa_monai.manifest/1"
LARGEST = 2**24  # bytes
DIGITS = 64


def folder_files(folder: Path) -> dict[str, Path]:
    """Return every file below a folder by its relative path, sorted.

    Raises:
        ValueError: if there is a link, anything that is no file or folder, or a name that cannot be printed.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ValueError(f"bundle must hold files and folders only, got {name!r}, which is a link or a device.")
        if not name.isprintable():
            raise ValueError(f"bundle must have names that can be printed, got {name!r}.")
        if path.is_file():
            found[name] = path
    return found


def folder_sha256(folder: Path) -> str:
    r"""Return one SHA-256 for a folder: that of a line ``<sha256>  <name>`` for every file, sorted by name.

    The same as ``find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`` in the folder.

    Raises:
        ValueError: if there is a link, or anything that is no file or folder.
    """
    files = sorted(folder_files(folder).items(), key=lambda item: item[0].encode())
    lines = "".join(f"{sha256(path)}  {name}\n" for name, path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def build_manifest(folder: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a folder: ``about``, and size and SHA-256 of every file but the manifest."""
    files = {name: path for name, path in folder_files(folder).items() if name != MANIFEST}
    listed = {name: {"size": path.stat().st_size, "sha256": sha256(path)} for name, path in files.items()}
    return {"schema": MANIFEST_SCHEMA, **about, "files": listed}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder.

    Raises:
        ValueError: if there is none, or it is none.
    """
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise ValueError(f"bundle must have a {MANIFEST}, got none in {folder.name!r}.")
    content = read_json(path, MANIFEST, largest=LARGEST)
    files, named = content.get("files"), all(isinstance(content.get(key), str) for key in ("name", "version"))
    good = named and isinstance(files, dict) and all(_is_entry(entry) for entry in files.values())
    if not good or content.get("schema") != MANIFEST_SCHEMA:
        raise ValueError(f"{MANIFEST} must be of the schema {MANIFEST_SCHEMA!r} and list files, got another content.")
    return dict(content)


def manifest_faults(folder: Path) -> list[str]:
    """Return in what a folder differs from its manifest, one sentence each, all at once.

    Raises:
        ValueError: if there is no manifest, or a link.
    """
    listed, found = read_manifest(folder)["files"], folder_files(folder)
    missing = [f"{name} is listed and missing." for name in sorted(listed.keys() - found.keys())]
    extra = [f"{name} is not listed." for name in sorted(found.keys() - listed.keys() - {MANIFEST})]
    changed = [
        f"{name} is not what was packaged."
        for name in sorted(listed.keys() & found.keys())
        if found[name].stat().st_size != listed[name]["size"] or sha256(found[name]) != listed[name]["sha256"]
    ]
    return [*missing, *extra, *changed]


def _is_entry(entry: Any) -> bool:
    """Tell whether an entry has a size and a hash."""
    if not isinstance(entry, dict) or not isinstance(entry.get("size"), int):
        return False
    digest = entry.get("sha256")
    return isinstance(digest, str) and len(digest) == DIGITS

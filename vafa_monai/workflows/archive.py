"""Zip files: the same bytes for the same files, and nothing outside the folder they are unpacked to."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from vafa_monai.data import whole_file
from vafa_monai.workflows.manifest import folder_files

__all__ = ["unpack_archive", "write_archive"]

EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date a zip file can hold
PERMISSIONS = (stat.S_IFREG | 0o644) << 16
MOST_BYTES = 16 * 2**30
MOST_FILES = 10_000
MOST_RATIO = 1000  # of unpacked to packed bytes; weights and JSON are far below
CHUNK = 2**20


def write_archive(folder: Path, path: Path) -> Path:
    """Write a folder as a zip file, in which all lies in one folder of its name; the same files give the same bytes."""
    with whole_file(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for name, file in folder_files(folder).items():
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", EPOCH)
            entry.external_attr, entry.create_system = PERMISSIONS, 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target, CHUNK)
    return path


def unpack_archive(path: Path, folder: Path, most_bytes: int = MOST_BYTES) -> Path:
    """Unpack a zip file into an empty folder, and return the one folder in it.

    Args:
        path: the zip file.
        folder: an empty folder.
        most_bytes: how many bytes it may become.

    Raises:
        ValueError: if it is no zip file, has names that are absolute or lead out, links, encrypted or repeated names,
            more than one folder at the top, or becomes too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _require_harmless(entries, path.stat().st_size, most_bytes)
            for entry in entries:
                _unpack_entry(archive, entry, folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError(f"source must be a whole zip file, got {path.name!r} ({error}).") from error
    (top,) = {PurePosixPath(entry.filename).parts[0] for entry in entries}
    return folder / top


def _require_harmless(entries: list[zipfile.ZipInfo], packed: int, most_bytes: int) -> None:
    """Refuse an archive by its list of contents, before anything is written."""
    names = [entry.filename for entry in entries]
    for entry in entries:
        name, mode = entry.filename, entry.external_attr >> 16
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0] or "\0" in name:
            raise ValueError(f"archive must stay inside its folder, got the name {name!r}.")
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"archive must hold files only, got {name!r}, which is a link or a device.")
        if entry.flag_bits & 1:
            raise ValueError(f"archive must not be encrypted, got {name!r}.")
    total = sum(entry.file_size for entry in entries)
    if total > most_bytes or total > MOST_RATIO * max(packed, 1) or len(entries) > MOST_FILES:
        raise ValueError(f"archive must become at most {most_bytes} bytes, got {total} in {len(entries)} files.")
    if len(set(names)) < len(names):
        raise ValueError("archive must name every file once, got a name twice.")
    tops = {PurePosixPath(name).parts[0] for name in names}
    if len(tops) != 1:
        raise ValueError(f"archive must hold one folder, got {sorted(tops)[:3]}.")


def _unpack_entry(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> None:
    """Write one file, and no byte more than its entry says."""
    target = folder / entry.filename
    if entry.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    left = entry.file_size
    with archive.open(entry) as source, target.open("xb") as file:
        while chunk := source.read(min(CHUNK, left + 1)):
            left -= len(chunk)
            if left < 0:
                raise ValueError(f"archive must be as large as it says, got more of {entry.filename!r}.")
            file.write(chunk)

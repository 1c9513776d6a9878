"""Zip files and the folders they are made in: the same bytes for the same files, nothing outside, nothing left."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from vafa_monai.data.files import read_json, sha256, whole_file
from vafa_monai.results.document import parse
from vafa_monai.results.record import MANIFEST_SCHEMA, Manifest

__all__ = [
    "MANIFEST",
    "MOST_BYTES",
    "build_manifest",
    "copy_folder",
    "folder_files",
    "folder_sha256",
    "locked",
    "manifest_faults",
    "private_folder",
    "read_manifest",
    "require_room",
    "unpack_archive",
    "write_archive",
]

MANIFEST = "manifest.json"
LARGEST = 2**24  # bytes


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


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder.

    Raises:
        ValueError: if there is none, or it is none.
    """
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise ValueError(f"bundle must have a {MANIFEST}, got none in {folder.name!r}.")
    return parse(Manifest, read_json(path, MANIFEST, largest=LARGEST), MANIFEST)


def manifest_faults(folder: Path) -> list[str]:
    """Return in what a folder differs from its manifest, one sentence each, all at once.

    Raises:
        ValueError: if there is no manifest, or a link.
    """
    listed, found = read_manifest(folder).files, folder_files(folder)
    missing = [f"{name} is listed and missing." for name in sorted(listed.keys() - found.keys())]
    extra = [f"{name} is not listed." for name in sorted(found.keys() - listed.keys() - {MANIFEST})]
    changed = [
        f"{name} is not what was packaged."
        for name in sorted(listed.keys() & found.keys())
        if found[name].stat().st_size != listed[name].size or sha256(found[name]) != listed[name].sha256
    ]
    return [*missing, *extra, *changed]


EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date a zip file can hold
PERMISSIONS = (stat.S_IFREG | 0o644) << 16
MOST_BYTES = 16 * 2**30
MOST_FILES = 10_000
MOST_RATIO = 1000  # of unpacked to packed bytes; weights and JSON are far below
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes of memory
CHUNK = 2**20


@contextmanager
def private_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder that only this user can look into, and delete it at the end.

    What killed processes of this user left is deleted first; the folder of a running process is locked, and stays.

    Raises:
        ValueError: if ``parent`` cannot be written to.
    """
    try:
        parent.mkdir(parents=True, exist_ok=True)
        for left in parent.glob(f"{prefix}*"):
            _delete_left(left)
        folder, descriptor = _new_folder(parent, prefix)
    except OSError as error:
        raise ValueError(
            f"output must be a folder that can be written to, got {str(parent)!r} ({error.strerror})."
        ) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _new_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """Make a folder and lock it, before another process takes it for one that was left."""
    while True:
        folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
        with suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            if locked(descriptor) and folder.is_dir():
                return folder, descriptor
            os.close(descriptor)


def _delete_left(folder: Path) -> None:
    """Delete a folder of this user that nobody has locked."""
    with suppress(OSError):
        about = folder.lstat()
        if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            if locked(descriptor):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Lock an open file or folder for this process, or tell that another one has; it is free when it is closed."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # of a file system without locks
        return True
    return True


def require_room(folder: Path, size: int) -> None:
    """Refuse to write more than there is room for.

    Raises:
        ValueError: if the disk of ``folder`` has less than ``size`` bytes free.
    """
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ValueError(f"output must have room for {size} bytes, got {free} free at {str(folder)!r}.")


def copy_folder(source: Path, target: Path, most_bytes: int = MOST_BYTES) -> Path:
    """Copy the files of a folder, and return the new one.

    Raises:
        ValueError: if there is a link, anything that is no file or folder, or more than ``most_bytes``.
    """
    files = folder_files(source)
    total = sum(path.stat().st_size for path in files.values())
    _require_size("source", total, len(files), most_bytes)
    require_room(target.parent, total)
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name, follow_symlinks=False)
    return target


def _require_size(what: str, total: int, files: int, most_bytes: int) -> None:
    """Refuse too many bytes, or too many files."""
    if total > most_bytes:
        raise ValueError(f"{what} must become at most {most_bytes} bytes, got {total}.")
    if files > MOST_FILES:
        raise ValueError(f"{what} must have at most {MOST_FILES} files, got {files}.")


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
            require_room(folder, sum(entry.file_size for entry in entries))
            for entry in entries:
                _unpack_entry(archive, entry, folder)
    except (zipfile.BadZipFile, EOFError, zlib.error, NotImplementedError, OSError) as error:
        raise ValueError(f"source must be a whole zip file, got {path.name!r} ({error}).") from error
    (top,) = {PurePosixPath(entry.filename).parts[0] for entry in entries}
    return folder / top


def _require_harmless(entries: list[zipfile.ZipInfo], packed: int, most_bytes: int) -> None:
    """Refuse an archive by its list of contents, before anything is written."""
    for entry in entries:
        _require_harmless_entry(entry)
    total = sum(entry.file_size for entry in entries)
    _require_size("archive", total, len(entries), most_bytes)
    if total > MOST_RATIO * max(packed, 1):
        raise ValueError(f"archive must become at most {MOST_RATIO} times its {packed} bytes, got {total}.")
    names = {PurePosixPath(entry.filename) for entry in entries}
    if len(names) < len(entries):
        raise ValueError("archive must name every file once, got a name twice.")
    tops = {name.parts[0] for name in names}
    if len(tops) != 1:
        raise ValueError(f"archive must hold one folder, got {sorted(tops)[:3]}.")


def _require_harmless_entry(entry: zipfile.ZipInfo) -> None:
    """Refuse a name that leads out or cannot be printed, a link, and what needs a password or much memory."""
    name, kind = entry.filename, stat.S_IFMT(entry.external_attr >> 16)
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or ":" in parts[0]:
        raise ValueError(f"archive must stay inside its folder, got the name {name!r}.")
    if not name.isprintable():
        raise ValueError(f"archive must have names that can be printed, got {name!r}.")
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ValueError(f"archive must hold files only, got {name!r}, which is a link or a device.")
    if entry.flag_bits & 1 or entry.compress_type not in METHODS:
        raise ValueError(f"archive must be stored or deflated and not encrypted, got {name!r}.")


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

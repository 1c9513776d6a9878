"""A bundle from somewhere else: verified before anything of it is loaded, there as a whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import os
import re
import shutil
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from monai.utils import optional_import

from vafa_monai.data.files import sha256 as hash_of
from vafa_monai.reports.table import visible
from vafa_monai.sharing.archive import (
    MOST_BYTES,
    copy_folder,
    folder_files,
    folder_sha256,
    locked,
    manifest_faults,
    private_folder,
    read_manifest,
    require_room,
    unpack_archive,
)
from vafa_monai.sharing.config_code import EVALUATES, Executable, executables
from vafa_monai.sharing.file_content import copy_limited, require_data

__all__ = ["fetch_bundle", "masked"]

SCHEMES = ("http", "https", "file")
TIMEOUT = 60
PARTIAL = 206
NOT_SATISFIABLE = 416
PASSWORD = re.compile(r"(?<=://)[^/\s'\"]*@")
QUERY = re.compile(r"(://[^\s'\"?#]*\?)[^\s'\"]+")


def masked(text: str) -> str:
    """Return a text in which addresses show neither a password nor what follows the question mark, which may be a key.

    Example:
        >>> masked("got 404 for https://eva:secret@host/a.zip?token=secret")
        'got 404 for https://***@host/a.zip?***'
    """
    return QUERY.sub(r"\1***", PASSWORD.sub("***@", text))


def download(url: str, path: Path, *, part: Path | None = None, most_bytes: int = 16 * 2**30) -> Path:
    """Download a file; what an earlier call got of it is kept beside and not fetched again.

    A password in the address is sent to its host only, and is shown nowhere. An address of ``https`` may lead on to
    ``https`` only.

    Args:
        url: address, ``http``, ``https`` or ``file``.
        path: where the file is to be.
        part: where the part that came is kept for the next call; by default ``<path>.part``.
        most_bytes: how large it may be.

    Raises:
        ValueError: if the address is of another kind, the server refuses, sends too much, or leads to a place that is
            not encrypted, the connection breaks off, or another process downloads the same.
    """
    shown = masked(url)
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError(f"source must be an address of http, https or file, got {shown!r}.")
    part = path.with_name(path.name + ".part") if part is None else part
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _own_file(part) as file:
            _fetch(url, file, most_bytes)
            part.replace(path)
    except urllib.error.HTTPError as error:
        raise ValueError(f"cannot download {shown!r}: {error.code} {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = masked(str(error))
        raise ValueError(f"cannot download {shown!r}: {reason}; the next call goes on.") from error
    return path


@contextmanager
def _own_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of ours to go on with, which is locked; a link that somebody planted there is not followed."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        raise ValueError(
            f"output must be a folder that can be written to, got {str(path)!r} ({error.strerror})."
        ) from error
    with os.fdopen(descriptor, "r+b") as file:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1:
            raise ValueError(f"output must hold no link under the name of the download, got {str(path)!r}.")
        if not locked(descriptor):
            raise ValueError(f"cannot download to {path.parent}: another process downloads the same file now.")
        file.seek(0, os.SEEK_END)
        try:
            yield file
        except BaseException:
            file.flush()
            if not os.fstat(descriptor).st_size:  # there is nothing to go on with
                path.unlink(missing_ok=True)
            raise


def _fetch(url: str, file: IO[bytes], most_bytes: int) -> None:
    """Get what is missing of a file."""
    have = file.tell()
    try:
        with _open(url, have) as answer:
            resumed = bool(have) and getattr(answer, "status", None) == PARTIAL
            have = have if resumed else 0
            expected = _length(answer.headers.get("Content-Length"), have)
            if expected is not None and expected > most_bytes:
                raise ValueError(f"download must be of at most {most_bytes} bytes, got {expected} of {masked(url)!r}.")
            file.truncate(have)
            file.seek(have)
            try:
                copy_limited(answer.read, file, most_bytes - have, "download")
            except ValueError:
                file.truncate(0)
                raise
    except urllib.error.HTTPError as error:
        if error.code != NOT_SATISFIABLE or not have:
            raise
        expected = have  # all of it came the last time
    size = file.tell()
    if expected is not None and size != expected:
        raise ValueError(
            f"the download of {masked(url)!r} broke off after {size} of {expected} bytes; the next call goes on."
        )


def _open(url: str, have: int) -> Any:
    """Open an address from a byte on; its user and password become a header for this host alone."""
    parts = urlsplit(url)
    user, found, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())
    if have:
        request.add_header("Range", f"bytes={have}-")
    if found:
        token = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return urllib.request.build_opener(_Redirects).open(request, timeout=TIMEOUT)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects that stay encrypted, and stay on the network."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Refuse an address that is less safe than the one that leads to it."""
        scheme = urlsplit(newurl).scheme
        if scheme != "https" and (scheme != "http" or urlsplit(req.full_url).scheme != "http"):
            raise ValueError(f"cannot download: a redirect leads to {masked(newurl)!r}, which is less safe.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _length(header: str | None, before: int) -> int | None:
    """Return how large the whole file is, if the server says so."""
    return before + int(header) if header is not None and header.isascii() and header.isdigit() else None


logger = logging.getLogger(__name__)

HUB = "hub:"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@[\w./-]+)?", re.ASCII)
HEXADECIMAL = re.compile(r"[0-9a-fA-F]{64}")
LEFT = ".fetch-"
SHOWN = 5


def fetch_bundle(
    source: str,
    output: str | Path,
    *,
    sha256: str | None = None,
    most_bytes: int = MOST_BYTES,
    say: Callable[[str], None] = logger.info,
) -> Path:
    """Fetch a packaged bundle, verify it, and put it into a folder of its name.

    Nothing of it is loaded or executed before its manifest holds. Weights must be readable as data, and no other file
    may be a pickle, by content. All that ``monai.bundle run`` could execute and that is not known to be harmless is
    told.

    Args:
        source: zip file, folder, address of a zip file, or ``hub:<owner>/<repository>[@<revision>]`` of Hugging Face.
        output: folder to put the bundle into.
        sha256: hash that the zip file must have, or the folder by ``folder_sha256``.
        most_bytes: how many bytes a download may have and a bundle may become.
        say: told of every step, line by line.

    Returns:
        The folder of the bundle.

    Raises:
        ValueError: if the source is not there, is not what its manifest says, holds links or pickles that are more than
            weights, is too large, or a bundle of its name is there already.
    """
    output = Path(output).resolve()
    _require_request(source, output, sha256, most_bytes)
    with private_folder(output, LEFT) as place:
        bundle, digest = _bring(source, place, output, most_bytes)
        if sha256 is not None and digest != sha256.lower():
            raise ValueError(f"source must have the sha256 {sha256}, got {digest}.")
        if isinstance(bundle, tuple):
            bundle = unpack_archive(*bundle, most_bytes)
        target = output / bundle.name
        if os.path.lexists(target):
            raise ValueError(f"output must not hold {bundle.name!r} already, got {str(target)!r}.")
        _verify(bundle)
        about = read_manifest(bundle)
        say(visible(f"verified: {about.name} {about.version}, {len(about.files)} files are what was packaged"))
        say(f"sha256: {digest}")
        for line in _warnings(executables(bundle)):
            say(line)
        bundle.replace(target)
    return target


def _require_request(source: str, output: Path, sha256: str | None, most_bytes: int) -> None:
    """Refuse what cannot be fetched, before anything is written."""
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f"source must be a zip file, a folder, an address or hub:<owner>/<name>, got {source!r}.")
    if sha256 is not None and not HEXADECIMAL.fullmatch(str(sha256)):
        raise ValueError(f"sha256 must be 64 hexadecimal digits, got {sha256!r}.")
    if isinstance(most_bytes, bool) or not isinstance(most_bytes, int) or most_bytes < 1:
        raise ValueError(f"most_bytes must be a whole number above 0, got {most_bytes!r}.")
    if source.startswith(HUB) and not REPOSITORY.fullmatch(source.removeprefix(HUB)):
        raise ValueError(f"source must be hub:<owner>/<name> or hub:<owner>/<name>@<revision>, got {source!r}.")
    folder = Path(source).resolve()
    if folder.is_dir() and output.is_relative_to(folder):
        raise ValueError(f"output must be outside of the source, got {str(output)!r} in {source!r}.")


def _bring(source: str, place: Path, output: Path, most_bytes: int) -> tuple[Path | tuple[Path, Path], str]:
    """Copy or download the source into ``place``; return the folder or (zip file, place), and its hash."""
    if source.startswith(HUB):
        folder = _from_hub(source.removeprefix(HUB), place, most_bytes)
        return folder, folder_sha256(folder)
    path = Path(source)
    if path.is_dir():
        read_manifest(path)
        folder = copy_folder(path, place / path.resolve().name, most_bytes)
        return folder, folder_sha256(folder)
    if urlsplit(source).scheme in SCHEMES:
        path = place / "bundle.zip"  # its top folder has another name than this, or is refused
        part = output / f"{LEFT}{hashlib.sha256(source.encode()).hexdigest()[:16]}.part"  # nothing else goes on with it
        download(source, path, part=part, most_bytes=most_bytes)
    if not path.is_file():
        raise ValueError(
            f"source must be a zip file, a folder, an address or hub:<owner>/<name>, got {masked(source)!r}."
        )
    unpacked = place / "unpacked"
    unpacked.mkdir()
    return (path, unpacked), hash_of(path)


def _from_hub(repository: str, place: Path, most_bytes: int) -> Path:
    """Fetch a repository of the Hugging Face hub, if it is not too large."""
    hub, found = optional_import("huggingface_hub")
    if not found:
        raise ValueError("huggingface_hub is not installed, and a hub source needs it; pip install '.[share]'.")
    name, _, revision = repository.partition("@")
    folder = place / name.rpartition("/")[2]
    try:
        tree = hub.HfApi().list_repo_tree(name, revision=revision or None, recursive=True)
        total = sum(getattr(entry, "size", None) or 0 for entry in tree)
        if total > most_bytes:
            raise ValueError(f"source must become at most {most_bytes} bytes, got {total} on the hub.")
        require_room(place, total)
        hub.snapshot_download(name, revision=revision or None, local_dir=folder)
    except ValueError:
        raise
    except Exception as error:
        reason = masked((str(error).strip().splitlines() or [type(error).__name__])[0])
        raise ValueError(f"cannot download {repository!r} from the hub: {reason}.") from error
    for extra in (".cache", ".gitattributes", "README.md"):  # what the hub adds beside the bundle
        path = folder / extra
        if path.is_dir():
            shutil.rmtree(path)
        elif extra not in read_manifest(folder).files:
            path.unlink(missing_ok=True)
    return folder


def _verify(bundle: Path) -> None:
    """Refuse a folder that is not what its manifest says, and pickles that are no weights."""
    faults = manifest_faults(bundle)
    if faults:
        more = f" And {len(faults) - SHOWN} more." if len(faults) > SHOWN else ""
        raise ValueError(f"bundle must be what its manifest says, got: {' '.join(faults[:SHOWN])}{more}")
    for name, path in folder_files(bundle).items():
        require_data(name, path)


def _warnings(found: list[Executable]) -> list[str]:
    """Return what to tell of code in a bundle: all that may run, once, expressions last."""
    if not found:
        return ["its configs execute nothing"]
    first: dict[tuple[str, str], Executable] = {}
    for one in found:
        first.setdefault((one.kind, one.text) if one.text else (one.kind, one.file), one)
    lines = sorted(first.values(), key=lambda one: one.kind == EVALUATES)
    head = f"{len(found)} values and files of it are not known to be harmless, {len(lines)} different ones; "
    return [f"{head}read them before monai.bundle run executes them:", *(f"  {one}" for one in lines)]

"""A file from an address: resumed where it broke off, no larger than allowed, whole or not there."""

from __future__ import annotations

import base64
import http.client
import os
import re
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from vafa_monai.workflows.archive import locked
from vafa_monai.workflows.file_content import copy_limited

__all__ = ["download", "masked"]

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
        raise ValueError(f"source must be there, got {error.code} {error.reason} for {shown!r}.") from error
    except (OSError, http.client.HTTPException) as error:
        reason = masked(str(error))
        raise ValueError(f"source must be reachable, got {reason} for {shown!r}; the next call goes on.") from error
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
            raise ValueError("source must not be downloaded by another process now, got one that does.")
        file.seek(0, os.SEEK_END)
        yield file


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
        raise ValueError(f"download must be of {expected} bytes, got {size} of {masked(url)!r}; the next call goes on.")


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
            raise ValueError(f"source must stay encrypted, got a redirect to {masked(newurl)!r}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _length(header: str | None, before: int) -> int | None:
    """Return how large the whole file is, if the server says so."""
    return before + int(header) if header is not None and header.isascii() and header.isdigit() else None

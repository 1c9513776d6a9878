"""A file from an address: resumed where it broke off, whole or not there."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlparse

__all__ = ["download"]

CHUNK = 2**20
TIMEOUT = 60
PARTIAL = 206
NOT_SATISFIABLE = 416


def download(url: str, path: Path) -> Path:
    """Download a file; what an earlier call got of it is kept beside and not fetched again.

    Args:
        url: address, ``http``, ``https`` or ``file``.
        path: where the file is to be.

    Raises:
        ValueError: if the address is of another kind, the server refuses, or the connection breaks off; what came is
            kept as ``<path>.part`` for the next call.
    """
    if urlparse(url).scheme not in ("http", "https", "file"):
        raise ValueError(f"source must be an address of http, https or file, got {url!r}.")
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            resumed = answer.status == PARTIAL if have and hasattr(answer, "status") else False
            expected = _length(answer.headers.get("Content-Length"), have if resumed else 0)
            with part.open("ab" if resumed else "wb") as file:
                shutil.copyfileobj(answer, file, CHUNK)
    except urllib.error.HTTPError as error:
        if error.code != NOT_SATISFIABLE or not have:
            raise ValueError(f"source must be there, got {error.code} {error.reason} for {url!r}.") from error
        expected = have  # all of it came the last time
    except OSError as error:
        raise ValueError(f"source must be reachable, got {error} for {url!r}; the next call goes on.") from error
    size = part.stat().st_size
    if expected is not None and size != expected:
        raise ValueError(f"download must be of {expected} bytes, got {size} of {url!r}; the next call goes on.")
    part.replace(path)
    return path


def _length(header: str | None, before: int) -> int | None:
    """Return how large the whole file is, if the server says so."""
    return before + int(header) if header is not None and header.isdigit() else None

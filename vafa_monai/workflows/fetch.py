"""A bundle from somewhere else: verified before anything of it is loaded, there as a whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

from monai.utils import optional_import

from vafa_monai.data import read_checkpoint
from vafa_monai.data import sha256 as hash_of
from vafa_monai.workflows.archive import MOST_BYTES, unpack_archive
from vafa_monai.workflows.config_code import Executable, executables
from vafa_monai.workflows.download import download
from vafa_monai.workflows.manifest import folder_files, manifest_faults, read_manifest

__all__ = ["fetch_bundle"]

logger = logging.getLogger(__name__)

HUB = "hub:"
WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".model", ".pkl", ".pickle")
PICKLE = b"\x80"  # how a pickle of protocol 2 and later begins
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

    Nothing of it is loaded or executed before its manifest holds. Weights must be readable as data. What its configs
    would execute is told, because ``monai.bundle run`` executes it.

    Args:
        source: zip file, folder, address of a zip file, or ``hub:<owner>/<repository>[@<revision>]`` of Hugging Face.
        output: folder to put the bundle into.
        sha256: hash that the zip file must have.
        most_bytes: how many bytes a zip file may become.
        say: told of every step, line by line.

    Returns:
        The folder of the bundle.

    Raises:
        ValueError: if the source is not there, is not what its manifest says, holds links or pickles that are more than
            weights, or a bundle of its name is there already.
    """
    output = Path(output).resolve()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".fetch-") as place:
        bundle = _bring(source, Path(place), output, sha256, most_bytes)
        target = output / bundle.name
        if target.exists():
            raise ValueError(f"output must not hold {bundle.name!r} already, got {str(target)!r}.")
        _verify(bundle)
        about = read_manifest(bundle)
        say(f"verified: {about['name']} {about['version']}, {len(about['files'])} files are what was packaged")
        for line in _warnings(executables(bundle)):
            say(line)
        bundle.replace(target)
    return target


def _bring(source: str, place: Path, output: Path, sha256: str | None, most_bytes: int) -> Path:
    """Copy or unpack the source into ``place``; return the folder of the bundle there."""
    if source.startswith(HUB):
        return _from_hub(source.removeprefix(HUB), place)
    path = Path(source)
    if path.is_dir():
        return Path(shutil.copytree(path, place / path.resolve().name, symlinks=True))
    address = urlparse(source)
    fetched = address.scheme in ("http", "https", "file")
    if fetched:
        path = output / f".{hashlib.sha256(source.encode()).hexdigest()[:16]}.zip"  # no other address goes on with it
        download(source, path)
    if not path.is_file():
        raise ValueError(f"source must be a zip file, a folder, an address or hub:<owner>/<name>, got {source!r}.")
    try:
        if sha256 is not None and hash_of(path) != sha256:
            raise ValueError(f"source must have the sha256 {sha256}, got {hash_of(path)}.")
        return unpack_archive(path, place, most_bytes)
    finally:
        if fetched:
            path.unlink()


def _from_hub(repository: str, place: Path) -> Path:
    """Fetch a repository of the Hugging Face hub."""
    snapshot_download, found = optional_import("huggingface_hub", name="snapshot_download")
    if not found:
        raise ValueError("huggingface_hub must be installed for a hub source, got no such package.")
    name, _, revision = repository.partition("@")
    folder = place / name.rpartition("/")[2]
    snapshot_download(name, revision=revision or None, local_dir=folder)
    for extra in (".cache", ".gitattributes", "README.md"):  # what the hub adds beside the bundle
        path = folder / extra
        if path.is_dir():
            shutil.rmtree(path)
        elif extra not in read_manifest(folder)["files"]:
            path.unlink(missing_ok=True)
    return folder


def _verify(bundle: Path) -> None:
    """Refuse a folder that is not what its manifest says, and pickles that are no weights."""
    faults = manifest_faults(bundle)
    if faults:
        more = f" And {len(faults) - SHOWN} more." if len(faults) > SHOWN else ""
        raise ValueError(f"bundle must be what its manifest says, got: {' '.join(faults[:SHOWN])}{more}")
    for name, path in folder_files(bundle).items():
        if path.suffix in WEIGHTS:
            read_checkpoint(path)
        elif _begins_as_pickle(path):
            raise ValueError(f"bundle must hold no pickles but weights, got {name!r}.")


def _begins_as_pickle(path: Path) -> bool:
    """Tell whether a file begins as a pickle does."""
    with path.open("rb") as file:
        return file.read(1) == PICKLE


def _warnings(found: list[Executable]) -> list[str]:
    """Return what to tell of code in a bundle: how much there is, and all that is more than an expression."""
    if not found:
        return ["its configs execute nothing"]
    files = {one.file for one in found if one.kind != "is a program"}
    evaluated = sum(one.kind == "evaluates" for one in found)
    head = f"monai.bundle run would execute {evaluated} expressions of {len(files)} configs; read them first:"
    return [head, *(f"  {one}" for one in found if one.kind != "evaluates")]

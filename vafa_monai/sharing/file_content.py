"""Files of strangers by their content, whatever their names: pickles are found, also in archives; nothing is loaded."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import pickletools
import re
import tarfile
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from vafa_monai.data.checkpoint import read_checkpoint

__all__ = ["copy_limited", "require_data"]

WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".model", ".pkl", ".pickle", ".pth.tar")  # in any case
SAFETENSORS, LARGEST_HEADER = ".safetensors", 100 * 2**20
TORCHSCRIPT = "constants.pkl"
ARCHIVES = (".npz", ".zip")  # of whose members other loaders than torch take each
CHUNK, BLOCK = 2**20, 2**12  # bytes
DEEPEST, MOST_INSIDE = 3, 2**30  # archives in each other; bytes of all that is unpacked to be seen
PROTOCOL, HIGHEST_PROTOCOL = 0x80, 5
GLOBALS = ("GLOBAL", "INST", "STACK_GLOBAL", "EXT1", "EXT2", "EXT4")
RUNS = ("REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD")
MEMO_WRITES, MEMO_READS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
IMPORTABLE = re.compile(r"[^\W\d][\w.]* [^\W\d][\w.]*")
CLOSED = {b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
COMPRESSED: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\x00": lzma.LZMAFile,
    b"\x5d\x00\x00": lzma.LZMAFile,
}
NPY = b"\x93NUMPY"
BROKEN: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
BROKEN += (tarfile.TarError, RuntimeError)  # of zipfile: a password, or a compression that is not known


def require_data(name: str, path: Path, most_bytes: int = MOST_INSIDE) -> None:
    """Refuse a file of a bundle that loaders could execute: a pickle that is more than weights, wherever it hides.

    A file of weights, by its name or by its content, must be readable with ``read_checkpoint``. Of any other file, a
    pickle of any protocol is refused, numpy's arrays of objects too, and both inside of zip, npz, tar, gzip, bzip2, xz
    and zlib. TorchScript is no pickle to Python; it is a program, and no weights.

    Args:
        name: name to tell.
        path: the file.
        most_bytes: how many bytes all that an archive holds may have.

    Raises:
        ValueError: if it is such a file, a compressed one that cannot be looked into or grows beyond ``most_bytes``, or
            a ``.safetensors`` that is none.
    """
    named = name.lower().endswith(WEIGHTS)
    with path.open("rb") as file:
        torch_archive = not name.lower().endswith(ARCHIVES) and _is_torch_archive(file)
        if name.lower().endswith(SAFETENSORS):
            _require_safetensors(name, file, path.stat().st_size)
        elif not named and torch_archive and TORCHSCRIPT in _members(file):
            return
        elif named or torch_archive or _is_pickle(file):
            _require_weights(name, path, named)
            return
        try:
            _Search(name, most_bytes).look(file, 0)
        except BROKEN as error:
            reason = f"{name!r} ({error or type(error).__name__})"
            raise ValueError(f"bundle must hold archives that can be looked into, got {reason}.") from error


def _require_weights(name: str, path: Path, named: bool) -> None:
    """Refuse what is no checkpoint of data only."""
    try:
        read_checkpoint(path)
    except ValueError as error:
        if named:
            raise
        raise ValueError(f"bundle must hold no pickles but weights, got {name!r} ({error})") from error


def copy_limited(read: Callable[[int], bytes], target: IO[bytes], most_bytes: int, what: str) -> int:
    """Copy what a reader gives until it gives nothing, and return how many bytes came.

    Raises:
        ValueError: as soon as there are more than ``most_bytes``.
    """
    size = 0
    while chunk := read(min(CHUNK, most_bytes - size + 1)):
        size += len(chunk)
        if size > most_bytes:
            raise ValueError(f"{what} must become at most {most_bytes} bytes, got more.")
        target.write(chunk)
    return size


class _Search:
    """The search for pickles in one file, which may hold others.

    Args:
        name: name to tell.
        most_bytes: how many bytes all that is unpacked may have together.
    """

    def __init__(self, name: str, most_bytes: int) -> None:
        self.name, self.left = name, most_bytes

    def look(self, file: IO[bytes], depth: int) -> None:
        """Refuse a pickle, or an archive that has one."""
        start = _start(file)
        closed = next((kind for magic, kind in CLOSED.items() if start.startswith(magic)), None)
        if closed is not None or depth > DEEPEST:
            kind = closed or f"more than {DEEPEST} archives in each other"
            raise ValueError(f"bundle must hold archives that can be looked into, got {self.name!r} ({kind}).")
        if _is_pickle(file) or (depth and _is_torch_archive(file)) or (start.startswith(NPY) and _has_objects(file)):
            where = "inside" if depth else "of objects"
            raise ValueError(f"bundle must hold no pickles but weights, got {self.name!r} with a pickle {where}.")
        for inner in self._unpacked(file, start):
            with inner:
                self.look(inner, depth + 1)

    def _unpacked(self, file: IO[bytes], start: bytes) -> Iterator[IO[bytes]]:
        """Yield what is in an archive or behind a compression; what breaks off is yielded as far as it came."""
        opener = next((COMPRESSED[magic] for magic in COMPRESSED if start.startswith(magic)), None)
        file.seek(0)
        if opener is not None:
            yield self._copied(opener(file))
        elif start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0:
            yield self._copied(_Inflated(file))
        elif zipfile.is_zipfile(file):
            yield from self._of_zip(file)
        elif _is_tar(file):
            file.seek(0)
            with suppress(tarfile.TarError, EOFError), tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    content = archive.extractfile(member) if member.isreg() else None
                    if content is not None:
                        yield self._copied(content)

    def _of_zip(self, file: IO[bytes]) -> Iterator[IO[bytes]]:
        """Yield the members of a zip file, whose sizes are known before."""
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            if total > self.left:
                raise ValueError(f"{self.name} must become at most {self.left} bytes, got {total}.")
            for entry in entries:
                yield self._copied(archive.open(entry))

    def _copied(self, source: Any) -> IO[bytes]:
        """Return a stream as a file that can be searched."""
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - closed by who asked for it
        with suppress(*BROKEN):
            copy_limited(source.read1, copy, self.left, self.name)  # which gives what came before an error
        self.left -= copy.tell()
        return copy


class _Inflated:
    """A stream behind zlib, as joblib writes it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.engine = file, zlib.decompressobj()

    def read1(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end."""
        found = b""
        while not found and not self.engine.eof:
            packed = self.engine.unconsumed_tail or self.file.read(BLOCK)
            if not packed:
                break
            found = self.engine.decompress(packed, size)
        return found


def _has_objects(file: IO[bytes]) -> bool:
    """Tell whether a file of numpy holds Python objects, which it stores as a pickle, or cannot tell."""
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        return bool(version > (2, 0) or read(file)[2].hasobject)
    except ValueError:
        return True


def _start(file: IO[bytes]) -> bytes:
    """Return the first bytes."""
    file.seek(0)
    return file.read(8)


def _is_tar(file: IO[bytes]) -> bool:
    """Tell whether the first header of this could be one of tar."""
    file.seek(0)
    with suppress(tarfile.TarError, OSError, EOFError, ValueError):
        tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
        return True
    return False


def _is_torch_archive(file: IO[bytes]) -> bool:
    """Tell whether this is a zip file of ``torch.save`` or TorchScript."""
    return "data.pkl" in _members(file)


def _members(file: IO[bytes]) -> set[str]:
    """Return the names in a zip file without their folders; none of another file."""
    with suppress(*BROKEN), zipfile.ZipFile(file) as archive:
        return {entry.filename.rpartition("/")[2] for entry in archive.infolist()}
    return set()


def _require_safetensors(name: str, file: IO[bytes], size: int) -> None:
    """Refuse a file that is not what its name says: the size of a header, the header, and tensors of that size."""
    length = int.from_bytes(_start(file), "little")
    header: Any = None
    if length <= min(LARGEST_HEADER, size - 8):
        with suppress(ValueError, RecursionError):
            header = json.loads(file.read(length).decode())
    entries = [value for key, value in header.items() if key != "__metadata__"] if isinstance(header, dict) else [{}]
    for entry in entries:
        offsets: Any = entry.get("data_offsets") if isinstance(entry, dict) else None
        whole = isinstance(offsets, list) and len(offsets) == 2 and all(isinstance(one, int) for one in offsets)
        if not whole or not 0 <= offsets[0] <= offsets[1] <= size - 8 - length:
            raise ValueError(f"bundle must hold safetensors that are such, got {name!r}.")


def _is_pickle(file: IO[bytes]) -> bool:
    """Tell whether unpickling this would get beyond its start, or, of a protocol without a mark, run something."""
    start = _start(file)
    file.seek(0)
    marked = len(start) > 1 and start[0] == PROTOCOL and start[1] <= HIGHEST_PROTOCOL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd texts; as an error it would end the search
        return any(runs or (marked and step > 1) for step, runs in enumerate(_unpickled(file)))


def _unpickled(file: IO[bytes]) -> Iterator[bool]:
    """Yield of every command of a pickle whether it runs a global, until the unpickler would fail.

    Python unpickles as it reads, so what runs before an error has run. The stack is followed as the unpickler would,
    because most texts are the first commands of some pickle.
    """
    stack: list[Any] = []
    memo: set[Any] = {None}
    names, mark = False, pickletools.markobject
    with suppress(Exception):  # where reader or stack raise, the unpickler would stop, too
        for opcode, argument, _ in pickletools.genops(file):
            name, before = opcode.name, list(opcode.stack_before)
            if name in ("GLOBAL", "INST") and not IMPORTABLE.fullmatch(str(argument)):
                return
            if name in MEMO_READS and argument not in memo:
                return
            if mark in before:
                while stack.pop() is not mark:
                    pass
                before = before[: before.index(mark)]
            taken = [stack.pop() for _ in before]
            if mark in taken and name != "POP":
                return
            stack += opcode.stack_after
            names = names or name in GLOBALS
            memo.add(argument if name in MEMO_WRITES else len(memo) if name == "MEMOIZE" else None)
            yield names and name in RUNS

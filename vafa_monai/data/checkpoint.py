"""Checkpoints read as data: only the globals of a short list are ever called, every other one is refused by name."""

from __future__ import annotations

import os
import pickletools
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import numpy as np
import torch

from vafa_monai.data.files import oversize

__all__ = ["read_checkpoint"]

STORAGES = ("BFloat16", "Bool", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")
SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")  # before and since numpy 2
ALLOWED = {
    "_codecs.encode",  # bytes
    "collections.Counter",
    "collections.OrderedDict",
    "numpy.dtype",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch.device",
    "torch.nn.parameter.Parameter",
    *SCALARS,
    *(f"{module}.{kind}Storage" for module in ("torch", "torch.cuda") for kind in STORAGES),
}
NUMBERS = [np.bool_, np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8]
ZIP = b"PK\x03\x04"
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # of a file of torch before 1.6
LARGEST_PICKLE = 256 << 20  # bytes of the names and numbers around the tensors
LEGACY_PICKLES = 5  # magic number, protocol, system, content, keys of the storages


def read_checkpoint(path: str | Path) -> Any:
    """Return the content of a file that ``torch.save`` wrote, in its zip format or that of torch before 1.6.

    The file is loaded with ``weights_only=True``, which calls nothing but the globals of a list. To what torch needs
    for tensors this adds numpy scalars, which trainers keep as losses, and no other type. All globals that the file
    names are compared with the list first, without unpickling. Of the zip format the sizes that its parts unpack to
    are read first, and every checksum is verified; the older format has none.

    Args:
        path: the file; its tensors come to the CPU.

    Raises:
        ValueError: if the file is missing, empty, damaged, no checkpoint, a TorchScript archive, would need more memory
            than itself and ``VAFA_MONAI_LARGEST_GB`` allow, or names a global that is not on the list.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint must be a file, got {str(path)!r}.")
    _require_data(path)
    try:
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, before the error that follows
            return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:  # whose text advises to load it nevertheless
        raise _refusal(path, "whose pickle is not of the kind that torch.save writes for data") from error
    except Exception as error:
        raise _refusal(path, f"which is cut off or damaged ({_first_line(error)})") from error


def _numpy_globals() -> list[Any]:
    """List what makes a numpy scalar of a number, but for what the user has allowed: it would be forbidden after."""
    scalar: Any = np.float64(0).__reduce__()[0]
    wanted = [*((scalar, name) for name in SCALARS), np.dtype, *(type(np.dtype(number)) for number in NUMBERS)]
    allowed = torch.serialization.get_safe_globals()
    return [item for item in wanted if item not in allowed]


def _require_data(path: Path) -> None:
    """Refuse a file that names a global outside the list, or is no checkpoint, before anything is unpickled."""
    foreign: set[str] = set()
    flaw: Exception | None = None
    try:
        foreign.update(name for name in _globals_of(path) if name not in ALLOWED)
    except Exception as error:
        flaw = error
    if foreign:
        names = " and ".join(sorted(foreign))
        raise ValueError(f"checkpoint must be data only, got {str(path)!r}, which asks for {names}; nothing of it ran.")
    if flaw is not None:
        known = isinstance(flaw, _NoCheckpointError)
        raise _refusal(path, str(flaw) if known else f"which is cut off or damaged ({_first_line(flaw)})") from flaw


def _refusal(path: Path, reason: str) -> ValueError:
    """Return the error of a file that cannot be read as a checkpoint."""
    return ValueError(f"checkpoint must be a whole file of torch.save, got {str(path)!r}, {reason}.")


class _NoCheckpointError(ValueError):
    """What a file is instead of a checkpoint, as the end of a sentence."""


def _globals_of(path: Path) -> Iterator[str]:
    """Yield the globals that the pickles of a checkpoint name; an error says what else the file is."""
    with path.open("rb") as file:
        start = file.read(len(LEGACY_START))
        file.seek(0)
        if start.startswith(ZIP):
            yield from _globals_of_archive(file)
        elif start == LEGACY_START:
            for _ in range(LEGACY_PICKLES):
                yield from _globals_of_pickle(file)
        elif start[8:9] == b"{" or start.startswith(b"\x93NUMPY"):
            kind = "a numpy array" if start.startswith(b"\x93") else "safetensors"
            raise _NoCheckpointError(f"which looks like {kind}; save a state dict by torch.save")
        else:
            with suppress(Exception):  # as far as it goes: a pickle that is none of torch.save may call functions too
                yield from _globals_of_pickle(file)
            raise _NoCheckpointError(f"which begins with {start!r}" if start else "which is empty")


def _globals_of_archive(file: IO[bytes]) -> Iterator[str]:
    """Yield the globals of every pickle in a zip archive."""
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if reason := oversize(unpacked, os.fstat(file.fileno()).st_size):
            raise _NoCheckpointError(reason)
        pickles = [member for member in archive.infolist() if member.filename.endswith(".pkl")]
        if any(Path(member.filename).name == "constants.pkl" for member in pickles):
            raise _NoCheckpointError("which is a TorchScript archive; save its state_dict() instead")
        if not pickles:
            raise _NoCheckpointError("which is an archive without a pickle")
        if any(member.file_size > LARGEST_PICKLE for member in pickles):
            raise _NoCheckpointError(f"which has a pickle of more than {LARGEST_PICKLE} bytes")
        for info in pickles:
            with archive.open(info) as member:
                yield from _globals_of_pickle(member)
        if broken := archive.testzip():
            raise _NoCheckpointError(f"which is damaged: {broken!r} differs from its checksum")


def _globals_of_pickle(file: IO[bytes]) -> Iterator[str]:
    """Yield the globals that a pickle names, by their names of Python 3, without unpickling; ends behind the pickle."""
    text: deque[Any] = deque([None, None], maxlen=2)  # what was pushed last: STACK_GLOBAL takes two
    memo: dict[int, Any] = {}
    operations: Iterator[tuple[Any, Any, Any]] = pickletools.genops(file)
    for opcode, argument, _ in operations:
        if opcode.name in ("GLOBAL", "INST"):
            yield _modern_name(*argument.split(" ", 1))
        elif opcode.name == "STACK_GLOBAL":
            yield _modern_name(*map(str, text))
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = text[-1]
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = text[-1]
        elif opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            text.append(memo.get(argument))
        else:
            text.append(argument)


def _modern_name(module: str, name: str) -> str:
    """Return the full name that a global of a pickle of Python 2 has in Python 3."""
    module, name = NAME_MAPPING.get((module, name), (module, name))
    return f"{IMPORT_MAPPING.get(module, module)}.{name}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")

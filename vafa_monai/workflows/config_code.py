"""What the configs of a bundle can execute: expressions, imports, and targets that are no library's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Executable", "executables"]

PROGRAMS = (".py", ".ts", ".so", ".sh")  # .ts is TorchScript, which runs when it is called
KNOWN = ("monai", "torch", "vafa_monai", "ignite", "numpy")  # whose classes a bundle may be expected to build


class Executable(NamedTuple):
    """One value of a config that runs code: its file, its id, its text, and what kind it is."""

    file: str
    id: str
    text: str
    kind: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.file} {self.id}: {self.kind} {self.text}"


def executables(bundle: Path) -> list[Executable]:
    """Return every value in the JSON configs of a bundle that ``monai.bundle run`` would execute, and every program.

    Nothing is executed here. Expressions begin with ``$``; a ``_target_`` of MONAI's own or of a known library builds
    what it says, any other may be any function.

    Args:
        bundle: folder of the bundle.
    """
    found = []
    for path in sorted((bundle / "configs").rglob("*.json")):
        name = path.relative_to(bundle).as_posix()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue  # no config: MONAI refuses it, too
        found += [Executable(name, *one) for one in _walk(content, "")]
    programs = sorted(path for path in bundle.rglob("*") if path.suffix in PROGRAMS)
    return [*found, *(Executable(path.relative_to(bundle).as_posix(), "", "", "is a program") for path in programs)]


def _walk(value: Any, place: str) -> Iterator[tuple[str, str, str]]:
    """Yield id, text and kind of what a value of a config executes."""
    if isinstance(value, dict):
        for key, item in value.items():
            inner = f"{place}#{key}" if place else str(key)
            if key == "_target_" and isinstance(item, str) and not item.startswith("$"):
                if "." in item and item.partition(".")[0] not in KNOWN:
                    yield inner, item, "calls"
            else:
                yield from _walk(item, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _walk(item, f"{place}#{index}")
    elif isinstance(value, str) and value.startswith("$"):
        yield place, value, "imports" if value.startswith(("$import", "$from")) else "evaluates"

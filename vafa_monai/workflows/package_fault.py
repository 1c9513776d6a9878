"""One fault of a bundle that is to be shared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["Faults", "PackageFault"]


class PackageFault(NamedTuple):
    """One fault: the file, what is wrong, and what to do."""

    file: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        """Say it in one line."""
        return f"{self.file}: {self.problem}; {self.remedy}"


Faults = Iterator[PackageFault]

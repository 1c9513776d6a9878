"""Work that is done once: items found or made, by one process or several, with the time left and what failed."""

from __future__ import annotations

import logging
import os
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from filelock import FileLock, Timeout

from vafa_monai.data.files import set_aside
from vafa_monai.runs.run_log import RunLog, sentence_of

__all__ = [
    "Item",
    "Processes",
    "TimeLeft",
    "Work",
    "WorkOutcome",
    "claimed",
    "require_own",
    "whole_or_aside",
]

T = TypeVar("T")
DAMAGES = (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile)
PATIENCE = timedelta(days=30)  # the first process waits for the others as long as they take
MEETING = timedelta(minutes=10)  # and no longer for them to begin
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells every process
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WorkOutcome:
    """What a run made.

    Args:
        files: files of its report by name; empty in all processes but the first.
        failures: cases that failed, each with model, attack, case and error.
        more: the result of each further run of a benchmark as a document, ``None`` where all cases failed.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    failures: Sequence[Mapping[str, Any]] = ()
    more: Sequence[Mapping[str, Any] | None] = ()


@dataclass(frozen=True, kw_only=True)
class Item(Generic[T]):
    """A piece of work that is done once.

    Args:
        key: its name among the failures.
        kind: items of one kind take times as their costs are.
        cost: in a unit of the kind.
        find: returns what was made before, of the same content, or nothing.
        make: does the work, and returns what it made.
        told: the line of an item that was made, given that and the time left.
        before: the line of an item that was found, given the same.
        failed: the line of an item that failed, given the sentence of the error and the time left.
    """

    key: Any
    kind: str
    cost: float = 1.0
    find: Callable[[], T | None] = lambda: None
    make: Callable[[], T]
    told: Callable[[T, TimeLeft], str]
    before: Callable[[T, TimeLeft], str] = lambda *_: "  done before"
    failed: Callable[[str, TimeLeft], str] = lambda sentence, _: f"  failed: {sentence}"


class Work:
    """Find or make items one after the other, and tell each; one that fails costs the others nothing.

    Args:
        items: all that this process is to do.
        log: told of every item; an error goes to its file with where it came from.
    """

    def __init__(self, items: Sequence[Item[Any]], log: RunLog) -> None:
        self.left = TimeLeft({one.kind: [other.cost for other in items if other.kind == one.kind] for one in items})
        self.log = log
        self.failures: dict[Any, str] = {}

    def do(self, item: Item[T]) -> T | None:
        """Return what an item is, or nothing if it fails, which is listed."""
        start = time.perf_counter()
        try:
            made = item.find()
            found = made is not None
            made = item.make() if made is None else made
        except (Exception, SystemExit) as error:
            if isinstance(error, SystemExit) and not isinstance(error.code, str):
                raise
            logger.error("%s failed", item.key, exc_info=error)
            self.give_up(item, sentence_of(error))
            self.log.say(item.failed(self.failures[item.key], self.left))
            return None
        if found:
            self.left.skip(item.kind, item.cost)
        else:
            self.left.done(item.kind, item.cost, time.perf_counter() - start)
        self.log.say((item.before if found else item.told)(made, self.left))
        return made

    def give_up(self, item: Item[Any], sentence: str) -> None:
        """List an item as failed."""
        self.failures[item.key] = sentence
        self.left.skip(item.kind, item.cost)


class TimeLeft:
    """Estimate the time of jobs that are left, kind by kind, from their costs and what was paid so far.

    Args:
        costs: cost of every job by kind, in a unit that is the same within a kind.

    Example:
        >>> left = TimeLeft({"row": [1, 2, 5]})
        >>> left.done("row", 1, seconds=10)
        >>> str(left)
        'about 70 s left'
    """

    def __init__(self, costs: Mapping[str, Sequence[float]]) -> None:
        self.left = {kind: list(jobs) for kind, jobs in costs.items()}
        self.paid = dict.fromkeys(costs, 0.0)
        self.seconds = dict.fromkeys(costs, 0.0)

    def skip(self, kind: str, cost: float) -> None:
        """Leave out a job that need not be done."""
        self.left[kind].remove(cost)

    def done(self, kind: str, cost: float, seconds: float) -> None:
        """Count a job that was done."""
        self.skip(kind, cost)
        self.paid[kind] += cost
        self.seconds[kind] += seconds

    def __str__(self) -> str:
        """Say how long, as far as it is known."""
        known = [kind for kind, jobs in self.left.items() if jobs and self.paid[kind]]
        unknown = [kind for kind, jobs in self.left.items() if jobs and not self.paid[kind]]
        total = sum(sum(self.left[kind]) * self.seconds[kind] / self.paid[kind] for kind in known)
        parts = [f"about {_duration(total)}"] if known else []
        parts += [f"{len(self.left[kind])} x {kind}" for kind in unknown]
        return f"{' and '.join(parts)} left" if parts else "nothing left"


def _duration(seconds: float) -> str:
    """Write seconds in the unit that fits."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


@dataclass(frozen=True)
class Processes:
    """The processes of one run; they are no group of torch, so that no metric gathers across them.

    Args:
        rank: the number of this one.
        ranks: how many there are.
        store: where they meet, ``None`` for one alone.
    """

    rank: int = 0
    ranks: int = 1
    store: Any = None

    @classmethod
    def launched(cls, say: Callable[[str], None]) -> Processes:
        """Return the processes that ``torchrun`` started; a part of its environment that was left over is no launch."""
        found = {name: os.environ[name] for name in LAUNCHED if name in os.environ}
        if not {"RANK", "WORLD_SIZE"} & found.keys() or found.get("WORLD_SIZE") == "1":
            return cls()
        absent = [name for name in LAUNCHED if name not in found]
        if absent:
            left = ", ".join(f"{name}={found[name]}" for name in ("RANK", "WORLD_SIZE") if name in found)
            say(f"one process does all: {left} in the environment is no launch by torchrun without {', '.join(absent)}")
            return cls()
        try:
            rank, ranks, port = (int(found[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))
        except ValueError as error:
            raise ValueError(f"RANK, WORLD_SIZE and MASTER_PORT must be whole numbers, got {found!r}.") from error
        if not 0 <= rank < ranks:
            raise ValueError(f"RANK must be at least 0 and below WORLD_SIZE, got {rank} for {ranks}.")
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # by the launcher, else by the first process
        host = rank == 0 and not hosted
        store = torch.distributed.TCPStore(found["MASTER_ADDR"], port, ranks, host, MEETING, wait_for_workers=False)
        return cls(rank, ranks, store)

    def meet(self, point: str, begins: bool = False) -> None:
        """Wait until every process has come to a point; at the end only the first one waits."""
        if self.store is None:
            return
        prefix = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{point}"
        self.store.set(f"{prefix}/{self.rank}", "here")
        if point == "end" and self.rank != 0:
            return
        try:
            self.store.wait([f"{prefix}/{rank}" for rank in range(self.ranks)], MEETING if begins else PATIENCE)
        except RuntimeError as error:
            raise ValueError(f"not all of the {self.ranks} processes of the launch (WORLD_SIZE) have come.") from error


@contextmanager
def claimed(folder: Path, what: str, rank: int | None = None) -> Iterator[None]:
    """Hold a folder for this process alone, each rank by a lock of its own; refuse one that another process holds."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / (f".{what}.lock" if rank is None else f".{what}.{rank}.lock"), timeout=0):
            yield
    except Timeout:
        raise ValueError(f"another {what} runs in {str(folder)!r} now; a folder takes one.") from None


def require_own(folder: Path, what: str, mark: Path) -> None:
    """Refuse a folder that holds something else: no mark of the work, but more than what killed processes hid."""
    there = folder.iterdir() if folder.is_dir() and not mark.exists() else ()
    if any(not path.name.startswith(".") for path in there):
        raise ValueError(f"output must be a new or empty folder or that of a {what}, got {str(folder)!r}.")


def whole_or_aside(path: Path, read: Callable[[Path], T], say: Callable[[str], None]) -> T | None:
    """Return what a file holds, if it is there; one that is damaged is set aside, which is told, and made again."""
    try:
        return read(path) if path.is_file() else None
    except DAMAGES as error:
        say(f"set aside: {set_aside(path)}, to be made again ({error})")
        return None

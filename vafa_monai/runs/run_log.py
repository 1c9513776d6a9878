"""What a chain of bundle runs tells: lines to the caller, everything else to a file."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from ignite.engine import Events
from torch import nn

from vafa_monai.data.files import read_json, write_json
from vafa_monai.inferers.inferred_network import PassCounter
from vafa_monai.runs.bundle_run import BundleRun

__all__ = ["CostTally", "RunLog", "sentence_of"]


COST = ("iterations", "seconds", "forward", "backward")


class CostTally:
    """What the iterations of a training cost, without its validations; kept in a file, epoch by epoch.

    Args:
        path: the file; a part that a killed process left there counts.
        made_of: what the training is made of; the file of another one is replaced.
    """

    def __init__(self, path: Path, made_of: str) -> None:
        self.path, self.made_of = path, made_of
        try:
            found = read_json(path, "cost") if path.is_file() else {}
        except ValueError:  # what a cost was nobody knows then
            found = {}
        mine = found.get("made_of") == made_of
        self.sums: dict[str, float] = {name: found["cost"][name] if mine else 0 for name in COST}
        self._start, self._passes = 0.0, PassCounter(nn.Identity())

    def attach(self, trainer: Any) -> None:
        """Come behind the handlers that belong to an iteration."""
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self._begin)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self._end)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def total(self) -> dict[str, float] | None:
        """Return the sums, or ``None`` if nothing was counted."""
        return dict(self.sums) if self.sums["iterations"] else None

    def _begin(self, trainer: Any) -> None:
        self._start, self._passes = time.perf_counter(), PassCounter(trainer.network)
        self._passes.__enter__()

    def _end(self, trainer: Any) -> None:
        self._passes.__exit__(None, None, None)
        spent = (1, time.perf_counter() - self._start, self._passes.forward, self._passes.backward)
        self.sums = {name: self.sums[name] + more for name, more in zip(COST, spent, strict=True)}

    def _write(self, trainer: Any) -> None:
        write_json(self.path, {"made_of": self.made_of, "cost": self.sums})


class RunLog:
    """A log file, open while the chain runs, and the commands that it stands for.

    Args:
        path: the file; lines are appended.
        say: what is told of every step, line by line.
    """

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self.path = path
        self.say = say
        self.commands: list[str] = []

    def __enter__(self) -> RunLog:
        """Open the file; log records go there, and nowhere else, until it is closed."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file, root = self.path.open("a", encoding="utf-8"), logging.getLogger()
        self._before = root.handlers[:], root.level
        handler = logging.StreamHandler(self._file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(message)s"))
        root.handlers[:] = [handler]
        root.setLevel(logging.INFO)
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file; whoever logs into it, MONAI's handlers among them, lets go of it."""
        root = logging.getLogger()
        root.handlers[:] = self._before[0]
        root.setLevel(self._before[1])
        for one in [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]:
            for handler in [handler for handler in one.handlers if getattr(handler, "stream", None) is self._file]:
                one.removeHandler(handler)
        self._file.close()

    def detail(self, line: str) -> None:
        """Tell something of what was announced before."""
        self.say(f"  {line}")

    def announce(self, run: BundleRun) -> None:
        """Tell the command of a run."""
        self.commands.append(run.command())
        self.say(f"$ {run.command()}")

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Let what is printed go to the file."""
        with redirect_stdout(self._file), redirect_stderr(self._file):
            yield

    def run(self, run: BundleRun, progress: str, watch: Callable[[Any], object] | None = None) -> Any:
        """Run with a progress bar on a terminal; what the engines print goes to the file."""
        with self.taking():
            return run.run(progress=progress) if watch is None else run.run(progress=progress, watch=watch)


def sentence_of(error: BaseException) -> str:
    """Return the sentence of the first error of an input that another came from, or else of the very first.

    Example:
        >>> try:
        ...     raise RuntimeError("outer") from ValueError("eps must be at least 0, got -1.")
        ... except RuntimeError as error:
        ...     sentence_of(error)
        'eps must be at least 0, got -1.'
    """
    while error.__cause__ is not None and not isinstance(error, ValueError):
        error = error.__cause__
    return str(error) or type(error).__name__

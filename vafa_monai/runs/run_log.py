"""What a chain of bundle runs tells: lines to the caller, everything else to a file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from vafa_monai.runs.bundle_run import BundleRun

__all__ = ["RunLog", "TimeLeft", "sentence_of"]


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
        parts += [f"{len(self.left[kind])} {kind}{'s' * (len(self.left[kind]) != 1)}" for kind in unknown]
        return f"{' and '.join(parts)} left" if parts else "nothing left"


def _duration(seconds: float) -> str:
    """Write seconds in the unit that fits."""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.1f} days"


logger = logging.getLogger(__name__)


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
        """Open the file; log records go there."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._file = self._stack.enter_context(self.path.open("a", encoding="utf-8"))
        form = "%(asctime)s %(name)s %(message)s"
        logging.basicConfig(stream=self._file, level=logging.INFO, format=form, force=True)
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file; whoever logs into it, MONAI's handlers among them, lets go of it."""
        named = [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]
        for one in (logging.getLogger(), *named):
            for handler in [handler for handler in one.handlers if getattr(handler, "stream", None) is self._file]:
                one.removeHandler(handler)
        self._stack.close()

    def announce(self, run: BundleRun) -> None:
        """Tell the command of a run."""
        self.commands.append(run.command())
        self.say(f"$ {run.command()}")

    def run(self, run: BundleRun, progress: str) -> Any:
        """Run with a progress bar on a terminal; what the engines print goes to the file."""
        with redirect_stdout(self._file), redirect_stderr(self._file):
            return run.run(progress=progress)

    def fail(self, error: BaseException) -> str:
        """Log an error with where it came from and tell its sentence."""
        logger.error("failed", exc_info=error)
        self.say(f"  failed: {sentence_of(error)}")
        return sentence_of(error)


def sentence_of(error: BaseException) -> str:
    """Return the sentence of the error that another came from.

    Example:
        >>> try:
        ...     raise RuntimeError("outer") from ValueError("eps must be at least 0, got -1.")
        ... except RuntimeError as error:
        ...     sentence_of(error)
        'eps must be at least 0, got -1.'
    """
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__

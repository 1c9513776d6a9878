"""What the commands print: the only file that prints."""

from __future__ import annotations

import logging
import sys

__all__ = ["clean", "complain", "log", "say"]


def say(line: str) -> None:
    """Print a line at once, so that a log file shows how far a run is."""
    print(clean(line), flush=True)


def complain(line: str) -> None:
    """Print a line to where errors go."""
    print(clean(line), file=sys.stderr, flush=True)


def clean(text: str) -> str:
    r"""Return a text that shows no password of an address and cannot steer a terminal.

    Example:
        >>> clean("got https://eva:secret@host\x1b[2J")
        'got https://***@host\\x1b[2J'
    """
    if text.isprintable() and "://" not in text:
        return text
    from vafa_monai.reports.table import visible
    from vafa_monai.sharing.fetch import masked

    return "\n".join(visible(line) for line in masked(text).split("\n"))


class OneLine(logging.Formatter):
    """Records without tracebacks; an error that ends a command is told at its end."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name is Python's
        """Leave the traceback out."""
        return ""

    def format(self, record: logging.LogRecord) -> str:
        """Show no password, and nothing that steers a terminal."""
        return clean(super().format(record))


def log(level: int = logging.INFO, form: str = "%(asctime)s %(levelname)s %(message)s") -> None:
    """Show log records on the terminal from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(form))
    logging.basicConfig(level=level, handlers=[handler])

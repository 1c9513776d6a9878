"""What the commands print: the only file that prints."""

import logging
import sys

__all__ = ["complain", "log", "say"]


def say(line: str) -> None:
    """Print a line at once, so that a log file shows how far a run is."""
    print(line, flush=True)


def complain(line: str) -> None:
    """Print a line to where errors go."""
    print(line, file=sys.stderr, flush=True)


class OneLine(logging.Formatter):
    """Records without tracebacks; an error that ends a command is told at its end."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - the name is Python's
        """Leave the traceback out."""
        return ""


def log(level: int = logging.INFO, form: str = "%(asctime)s %(levelname)s %(message)s") -> None:
    """Show log records on the terminal from now on."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine(form))
    logging.basicConfig(level=level, handlers=[handler])

"""The command ``vafa-monai``: thin faces over bundles, data and reports, one function a command."""

from __future__ import annotations

import logging
import signal
import sys
import traceback
from collections.abc import Callable
from importlib.metadata import metadata
from threading import current_thread, main_thread
from types import FrameType

import click

from vafa_monai.cli.audit_command import audit, audit_nnunet
from vafa_monai.cli.command import Commands
from vafa_monai.cli.data_command import convert, phantom, prepare
from vafa_monai.cli.report_command import compare, demo, leaderboard, report, reproduce
from vafa_monai.cli.run_command import attack, benchmark, evaluate, harden, study, train
from vafa_monai.cli.say import clean, complain
from vafa_monai.cli.share_command import adopt, bundle, fetch, label_app, package, wrap

__all__ = [
    "adopt",
    "attack",
    "audit",
    "audit_nnunet",
    "benchmark",
    "bundle",
    "compare",
    "convert",
    "demo",
    "evaluate",
    "fetch",
    "harden",
    "label_app",
    "leaderboard",
    "main",
    "package",
    "phantom",
    "prepare",
    "report",
    "reproduce",
    "study",
    "train",
    "wrap",
]

CHAPTERS: dict[str, tuple[Callable[..., None], ...]] = {
    "Try it": (demo, phantom),
    "Prepare": (bundle, adopt, wrap, prepare, convert),
    "Train and attack": (train, harden, evaluate, attack, benchmark, study),
    "Audit": (audit, audit_nnunet),
    "Read": (report, compare, leaderboard, reproduce),
    "Share": (package, fetch, label_app),
}
COMMANDS = Commands(CHAPTERS)
BUGS = (AttributeError, LookupError, NameError, AssertionError, NotImplementedError, ArithmeticError, RecursionError)
LONGEST = 600  # letters of a sentence; torch lists every tensor that does not fit


class Terminated(BaseException):
    """The process was told to end; no error, so that nothing takes it for one."""


def main() -> None:
    """Run the command; bad input ends it with one sentence and exit code 1, an interrupt with one line."""
    before = signal.signal(signal.SIGTERM, _terminate) if current_thread() is main_thread() else None
    try:
        with COMMANDS.make_context("vafa-monai", sys.argv[1:]) as context:
            context.command.invoke(context)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except KeyboardInterrupt:
        _end("interrupted", 128 + signal.SIGINT)
    except Terminated:
        _end("terminated", 128 + signal.SIGTERM)
    except Exception as error:
        _end_with(error)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _terminate(number: int, frame: FrameType | None) -> None:
    """Let a signal unwind the stack, so that what is half written is cleaned away."""
    raise Terminated


def _end(line: str, code: int) -> None:
    """End with a line and an exit code."""
    complain(line)
    sys.exit(code)


def _end_with(error: Exception) -> None:
    """End with the sentence of an error that input or machine can cause; with all that is known of another."""
    if isinstance(error, click.ClickException):
        sys.exit(f"error: {error.format_message()}")
    if isinstance(error, BUGS) and type(error).__module__ == "builtins":
        traceback.print_exception(error)
        _end(f"error: this is a fault of vafa-monai; please report the lines above to {_tracker()}.", 1)
    logging.getLogger(__name__).debug("bad input", exc_info=error)
    sys.exit(f"error: {_sentence(_root_cause(error))}")


def _sentence(error: BaseException) -> str:
    """Return what an error says in one line that a terminal can show."""
    words = clean(" ".join(str(error).split()))
    if not words or not isinstance(error, (ValueError, TypeError, OSError, RuntimeError, ImportError)):
        words = f"{type(error).__name__} {words}".strip()
    shown = "".join(letter if letter.isprintable() else "?" for letter in words)
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def _root_cause(error: BaseException) -> BaseException:
    """Return the error of the user's input that MONAI's config errors came from, or the first of all."""
    while error.__cause__ is not None and not isinstance(error, (ValueError, TypeError, OSError)):
        error = error.__cause__
    return error


def _tracker() -> str:
    """Return where faults are reported."""
    urls = metadata("vafa-monai").get_all("Project-URL") or []
    known = dict(url.partition(", ")[::2] for url in urls)
    return next((url for name, url in known.items() if "issue" in name.lower()), "the project's issue tracker")

"""The command ``vafa-monai``: thin faces over bundles, data and reports, one function a command."""

from __future__ import annotations

import logging
import sys

import fire

from vafa_monai.cli.audit_command import audit
from vafa_monai.cli.benchmark_command import benchmark
from vafa_monai.cli.compare_command import compare, leaderboard
from vafa_monai.cli.data_command import convert, phantom, prepare
from vafa_monai.cli.nnunet_command import audit_nnunet
from vafa_monai.cli.report_command import demo, report, reproduce
from vafa_monai.cli.run_command import attack, evaluate, train
from vafa_monai.cli.share_command import fetch, label_app, package

__all__ = [
    "attack",
    "audit",
    "audit_nnunet",
    "benchmark",
    "compare",
    "convert",
    "demo",
    "evaluate",
    "fetch",
    "label_app",
    "leaderboard",
    "main",
    "package",
    "phantom",
    "prepare",
    "report",
    "reproduce",
    "train",
]

COMMANDS = (
    demo,
    train,
    attack,
    evaluate,
    benchmark,
    audit,
    audit_nnunet,
    report,
    compare,
    leaderboard,
    prepare,
    phantom,
    convert,
    reproduce,
    package,
    fetch,
    label_app,
)


def main() -> None:
    """Run the command; bad input ends it with one sentence and exit code 1."""
    try:
        fire.Fire({function.__name__: function for function in COMMANDS})
    except Exception as error:
        cause = _root_cause(error)
        if not isinstance(cause, (ValueError, TypeError, OSError)):
            raise
        logging.getLogger(__name__).debug("bad input", exc_info=error)
        sys.exit(f"error: {cause}")


def _root_cause(error: BaseException) -> BaseException:
    """Return the error of the user's input that MONAI's config errors came from, or the first of all."""
    while error.__cause__ is not None and not isinstance(error, (ValueError, TypeError, OSError)):
        error = error.__cause__
    return error

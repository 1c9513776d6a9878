"""Commands that read reports again: compare, leaderboard."""

from __future__ import annotations

from pathlib import Path

from vafa_monai.cli.say import say
from vafa_monai.reports.leaderboard import leaderboard_rows, write_leaderboard
from vafa_monai.reports.model_comparison import compare_models, write_comparison

__all__ = ["compare", "leaderboard"]


def compare(a: str, b: str, output: str = ".", model_a: str | None = None, model_b: str | None = None) -> None:
    """Compare two models by their reports, attack by attack, with paired tests over the cases.

    Args:
        a: ``report.json`` of model A, or its folder.
        b: the same of model B; it may be the same report.
        output: folder of ``comparison.html`` and ``comparison.md``.
        model_a: label of model A, where its report has several.
        model_b: label of model B.
    """
    comparison = compare_models(a, b, first_model=model_a, second_model=model_b)
    for line in comparison.lines():
        say(line)
    say("")
    for name, path in write_comparison(comparison, output).items():
        say(f"{name}: {path}")


def leaderboard(folder: str, output: str | None = None) -> None:
    """Write one sortable table of all reports in a folder and its folders.

    Args:
        folder: the folder; every ``report.json`` in it is read.
        output: the page to write; by default ``leaderboard.html`` in the folder.
    """
    rows = leaderboard_rows(folder)
    path = Path(folder) / "leaderboard.html" if output is None else Path(output)
    say(f"{len(rows)} models: {write_leaderboard(rows, path)}")

"""Many reports as one sortable table: a row for each model, the verdict of its audit before its numbers."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vafa_monai.data import write_whole
from vafa_monai.reports.caution import warnings_of
from vafa_monai.reports.comparison import Comparison
from vafa_monai.reports.document_file import require
from vafa_monai.reports.model_summary import ModelSummary, model_summary
from vafa_monai.reports.page import render
from vafa_monai.reports.report_document import Report, load_report
from vafa_monai.reports.result import Result, settings_without_seed

__all__ = ["LeaderboardRow", "leaderboard_rows", "write_leaderboard"]

EVALUATION = ("intensity", "evaluation", "windows_per_gradient")
RANK = ("PASS", "WARN", "NOT AUDITED", "FAIL")


@dataclass(frozen=True, kw_only=True)
class LeaderboardRow:
    """One model of one report.

    Args:
        source: path of the report, relative to the folder of all.
        protocol: a short name of cases and data, of the attacks with their settings, and of how they were evaluated;
            rows compare where it is the same.
        warnings: what stands above the numbers of the model.
    """

    source: str
    title: str
    summary: ModelSummary
    protocol: str
    warnings: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """The place of the verdict, the best first."""
        return RANK.index(self.summary.verdict.status)


def leaderboard_rows(folder: str | Path) -> list[LeaderboardRow]:
    """Read every ``report.json`` in a folder and its folders.

    Returns:
        Rows protocol by protocol, the one of most rows first; within each by verdict (pass, warn, not audited, fail),
        then by the DSC under VolAA; models without it are last.

    Raises:
        ValueError: if there is no report, or one is not as its schema says.
    """
    root = Path(folder)
    require(root.is_dir(), "folder", "be an existing folder", str(folder))
    paths = sorted(root.rglob("report.json"))
    require(bool(paths), "folder", "hold a report.json", str(folder))
    rows = [row for path in paths for row in _rows(load_report(path), path.relative_to(root).as_posix())]
    rows.sort(key=lambda row: (row.rank, _number(row) is None, -(_number(row) or 0)))
    sizes = Counter(row.protocol for row in rows)
    return sorted(rows, key=lambda row: (-sizes[row.protocol], row.protocol))


def write_leaderboard(rows: Sequence[LeaderboardRow], path: str | Path) -> Path:
    """Write the table as a page that needs no network."""
    protocols = list(dict.fromkeys(row.protocol for row in rows))
    html = render(
        "leaderboard.html.j2", scripts=("sort.js",), title="Robustness leaderboard", rows=rows, protocols=protocols
    )
    return write_whole(path, html)


def _number(row: LeaderboardRow) -> float | None:
    """Return the DSC that a model is quoted by."""
    return row.summary.headline.dice.mean


def _rows(report: Report, source: str) -> list[LeaderboardRow]:
    """Return a row for each model of a report."""
    comparison = Comparison(report.results)
    return [
        LeaderboardRow(
            source=source,
            title=report.title,
            summary=model_summary(comparison, model, report.audits.get(model)),
            protocol=_protocol([result for result in report.results if result.model == model]),
            warnings=tuple(warnings_of([result for result in report.results if result.model == model])),
        )
        for model in comparison.models
    ]


def _protocol(results: Sequence[Result]) -> str:
    """Hash cases and their files, the attacks with their settings, the evaluation and the versions that decide it."""
    attacks = {one.attack: settings_without_seed(one.settings) for one in results if one.role == "attack"}
    cases = sorted({(case.case, *map(str, case.files.values())) for result in results for case in result.cases})
    ways = sorted(
        {json.dumps([result.document.get(name) for name in EVALUATION], sort_keys=True) for result in results}
    )
    own = sorted({str(result.versions.get("vafa_monai")) for result in results})
    text = json.dumps([cases, attacks, ways, own], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]

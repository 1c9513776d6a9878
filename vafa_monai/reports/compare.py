"""Reports of several models: two compared, many ranked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vafa_monai.data.files import write_whole
from vafa_monai.data.page import fixed, interval, p_value, signed
from vafa_monai.reports.chart import model_colors
from vafa_monai.reports.evidence import Report, load_report
from vafa_monai.reports.page import render
from vafa_monai.reports.row import PairedRow, paired_rows
from vafa_monai.reports.statement import warnings_of
from vafa_monai.reports.statistics import smallest_p_value
from vafa_monai.reports.table import markdown_line, table_cell, visible
from vafa_monai.reports.verdict import Headline, ModelSummary, model_summary
from vafa_monai.results.attack_name import CLEAN, attack_order, attack_title
from vafa_monai.results.audit import Audit
from vafa_monai.results.document import require
from vafa_monai.results.result import Result, data_conflict, settings_without_seed
from vafa_monai.results.result_set import Comparison, incomparable

__all__ = ["compare_models", "leaderboard_rows", "write_comparison", "write_leaderboard"]

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


TEST = """Two-sided Wilcoxon signed-rank test of the foreground DSC over cases; p adjusted for the number of rows
(Benjamini-Hochberg); beyond chance if below 0.05.""".replace("\n", " ")
HEADINGS = ("attack", "A", "B", "B - A [95 %]", "cases", "p", "p adjusted", "beyond chance")


@dataclass(frozen=True, kw_only=True)
class ModelComparison:
    """Model B against model A on the attacks and cases that both have.

    Args:
        first: figures of A.
        second: figures of B.
        rows: attack by attack, differences are B minus A.
        warnings: what was left out and why, and what else stands above the numbers.
        cautions: what a reader has to know before using the numbers.
    """

    first: ModelSummary
    second: ModelSummary
    rows: Sequence[PairedRow]
    warnings: Sequence[str]
    cautions: Sequence[str]

    def lines(self) -> list[str]:
        """Return the comparison as plain text in columns."""
        cells = [HEADINGS, *map(_cells, self.rows)]
        widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
        table = ["  ".join(_aligned(row, widths)).rstrip() for row in cells]
        lines = [
            *self.warnings,
            *(f"{letter}: {_about(one)}" for letter, one in zip("AB", (self.first, self.second), strict=True)),
            "",
            *table,
            "",
            *self.cautions,
        ]
        return [visible(line) for line in lines]

    def markdown(self) -> str:
        """Return the comparison in Markdown."""
        table = [HEADINGS, ("---", *("--:",) * (len(HEADINGS) - 1)), *map(_cells, self.rows)]
        about = [
            f"- **{letter}**: {markdown_line(_about(one))}"
            for letter, one in zip("AB", (self.first, self.second), strict=True)
        ]
        warned = [f"**{markdown_line(text)}**\n" for text in self.warnings]
        lines = ["# Two models compared", "", *warned, *about, ""]
        lines += ["| " + " | ".join(map(table_cell, row)) + " |" for row in table]
        return "\n".join([*lines, "", *(f"- {markdown_line(text)}" for text in self.cautions)]) + "\n"


def compare_models(
    first: str | Path, second: str | Path, *, first_model: str | None = None, second_model: str | None = None
) -> ModelComparison:
    """Compare a model of one report with a model of another, or of the same.

    Compared are the attacks that both have, with the same settings and versions, on the cases that both have, of the
    same files and preparation; every figure is of these alone, and what is left out is said first.

    Args:
        first: ``report.json`` of model A, or the folder that holds it.
        second: the same of model B.
        first_model: its label, needed where the report has several.
        second_model: the label of B.

    Raises:
        ValueError: if a report is none, a label is not in it or is missing, or nothing of the two can be compared.
    """
    reports = load_report(first), load_report(second)
    models = _choose(reports[0], first_model, "model_a"), _choose(reports[1], second_model, "model_b")
    whole = [_of(report, model) for report, model in zip(reports, models, strict=True)]
    require(
        bool(whole[0].keys() & whole[1].keys()), "reports", "have an attack in common", [sorted(one) for one in whole]
    )
    results, left_out = _comparable(*whole)
    rows = paired_rows(*results)
    require(any(row.n for row in rows), "reports", "have a case in common", models)
    summaries = [_summary(*one) for one in zip(results, models, (report.audits for report in reports), strict=True)]
    told = [text for group in results for text in warnings_of(list(group.values()))]
    return ModelComparison(
        first=summaries[0],
        second=summaries[1],
        rows=rows,
        warnings=list(dict.fromkeys([*left_out, *told])),
        cautions=_cautions(results[0], results[1], summaries, rows),
    )


def write_comparison(comparison: ModelComparison, output_dir: str | Path) -> dict[str, Path]:
    """Write ``comparison.html`` and ``comparison.md``; return their paths by kind."""
    output = Path(output_dir)
    html = render(
        "comparison.html.j2",
        scripts=("sort.js",),
        title=f"{comparison.second.model} against {comparison.first.model}",
        comparison=comparison,
        colors=model_colors(["A", "B"]),
        clean=CLEAN,
    )
    markdown = write_whole(output / "comparison.md", comparison.markdown())
    return {"html": write_whole(output / "comparison.html", html), "markdown": markdown}


def _choose(report: Report, model: str | None, argument: str) -> str:
    """Return the model that is asked for, or the only one."""
    models = list(dict.fromkeys(result.model for result in report.results))
    rule = f"be one of {models} of {report.path}"
    require(model in models if model else len(models) == 1, argument, rule, model)
    return model or models[0]


def _of(report: Report, model: str) -> dict[str, Result]:
    """Return the results of a model by attack."""
    return {result.attack: result for result in report.results if result.model == model}


def _summary(results: Mapping[str, Result], model: str, audits: Mapping[str, Audit]) -> ModelSummary:
    return model_summary(Comparison(list(results.values())), model, audits.get(model))


def _of_cases(result: Result, names: set[str]) -> Result:
    """Return a result of some of its cases; its summary is still that of all."""
    return result.model_copy(update={"cases": tuple(case for case in result.cases if case.case in names)})


def _comparable(first: Mapping[str, Result], second: Mapping[str, Result]) -> tuple[list[dict[str, Result]], list[str]]:
    """Return what of two models can be compared, and say what was left out."""
    kept: list[dict[str, Result]] = [{}, {}]
    unlike: dict[str, list[str]] = {}
    alone: set[str] = set()
    for name in attack_order(first.keys() & second.keys()):
        both = (first[name], second[name])
        names = [{case.case for case in one.cases} for one in both]
        shared = (names[0] & names[1]) - set(data_conflict(*both))
        alone |= (names[0] | names[1]) - shared
        pair = [_of_cases(one, shared) for one in both]
        reason = incomparable(*pair)
        if reason is not None:
            unlike.setdefault(reason, []).append(attack_title(name))
        elif shared:
            kept[0][name], kept[1][name] = pair
    left = sorted(first.keys() ^ second.keys())
    told = [f"Left out, measured for one of the two only: {', '.join(left)}."] * bool(left)
    told += [f"Left out, measured with {reason}: {', '.join(titles)}." for reason, titles in unlike.items()]
    told += [f"Left out, cases of one model only or of other files: {', '.join(sorted(alone))}."] * bool(alone)
    require(bool(kept[0]) or not unlike, "reports", "have an attack in common that was measured alike", told)
    return kept, told


def _cautions(
    first: Mapping[str, Result],
    second: Mapping[str, Result],
    summaries: Sequence[ModelSummary],
    rows: Sequence[PairedRow],
) -> list[str]:
    """Say what limits the comparison."""
    fewest = min(row.n for row in rows if row.n)
    smallest = f"With {fewest} case{'s' * (fewest > 1)} no p can be below {p_value(smallest_p_value(fewest))}"
    texts = [TEST, f"{smallest}: what is not shown to differ is not shown to be equal."]
    different = [row.title for row in rows if first[row.attack].settings != second[row.attack].settings]
    texts += [f"Not of the same settings or seed: {', '.join(different)}."] * bool(different)
    if summaries[0].headline.threat != summaries[1].headline.threat:
        texts.append("The numbers under VolAA are of unlike budgets or missing for one, so they do not compare.")
    if summaries[0].sha256 is not None and summaries[0].sha256 == summaries[1].sha256:
        texts.append("Both are the same weights.")
    return texts


def _about(one: ModelSummary) -> str:
    """Say in a line what a model reaches."""
    parts = [
        f"{one.model}, weights {(one.sha256 or 'unknown')[:12]}, {one.verdict.status}",
        f"DSC {interval(one.clean.mean, one.clean.low, one.clean.high)} without attack",
        _quoted(one.headline),
    ]
    return ", ".join(parts)


def _quoted(one: Headline) -> str:
    """Say in a few words what a model is quoted by."""
    if one.attack is None:
        return "VolAA not run"
    return f"{interval(one.dice.mean, one.dice.low, one.dice.high)} under {one.attack} ({one.threat})"


def _cells(row: PairedRow) -> tuple[str, ...]:
    """Return a row as texts in the order of the headings."""
    ends = "" if row.low is None else f" [{signed(row.low, 3)}, {signed(row.high, 3)}]"
    better = "B" if (row.difference or 0) > 0 else "A"
    return (
        row.title,
        fixed(row.first, 3),
        fixed(row.second, 3),
        signed(row.difference, 3) + ends,
        str(row.n),
        p_value(row.p_value),
        p_value(row.adjusted),
        f"yes, {better} is better" if row.significant else "not shown",
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Put the first and the last column to the left, the others to the right."""
    ends = (0, len(row) - 1)
    return [
        text.ljust(width) if index in ends else text.rjust(width)
        for index, (text, width) in enumerate(zip(row, widths, strict=True))
    ]

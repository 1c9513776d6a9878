"""All that is said of a set of results, gathered once: rows, summaries, tests, findings, and the audits that hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from vafa_monai.reports.row import PairedRow, paired_rows
from vafa_monai.reports.statement import Statement, findings
from vafa_monai.reports.table import Row, table_rows
from vafa_monai.reports.verdict import NOT_AUDITED, ModelSummary, model_summary
from vafa_monai.results.audit import Audit
from vafa_monai.results.document import Document, Name, Text, parse, read_document, require
from vafa_monai.results.result import REPORT_SCHEMA, Result, require_comparable
from vafa_monai.results.result_set import Comparison

__all__ = ["Evidence", "Report", "ReportDocument", "gather", "load_report", "report_document"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a report shows, in whatever form.

    Args:
        comparison: the results, model beside model.
        rows: one for each attack and model.
        summaries: one for each model, the reference first.
        paired: every other model against the reference, attack by attack.
        findings: sentences that follow from the numbers.
        audits: by model; only those of the weights that the results are of.
    """

    comparison: Comparison
    rows: Sequence[Row]
    summaries: Sequence[ModelSummary]
    paired: Mapping[str, Sequence[PairedRow]]
    findings: Sequence[Statement]
    audits: Mapping[str, Audit]

    @property
    def warnings(self) -> list[str]:
        """What stands above all numbers."""
        return [finding.text for finding in self.findings if finding.kind == "warning"]


def gather(
    results: Sequence[Result],
    audits: Mapping[str, Audit],
    *,
    trained_on: str | None = None,
    warnings: Sequence[str] = (),
) -> Evidence:
    """Gather what is said of results.

    Args:
        results: what :func:`vafa_monai.results.load_results` gave.
        audits: what :func:`vafa_monai.results.audit.load_audits` gave.
        trained_on: the attack that every model but the reference was trained on.
        warnings: what the results do not know themselves and a reader has to, such as attacks that all failed.

    Raises:
        ValueError: if ``trained_on`` is none of the attacks.
    """
    comparison = Comparison(results)
    known = comparison.attacks("attack")
    require(trained_on is None or trained_on in known, "trained_on", f"be one of {known}", trained_on)
    summaries = [model_summary(comparison, model, audits.get(model)) for model in comparison.models]
    by_model = {model: {r.attack: r for r in results if r.model == model} for model in comparison.models}
    reference = by_model[comparison.reference]
    return Evidence(
        comparison=comparison,
        rows=table_rows(results),
        summaries=summaries,
        paired={model: paired_rows(reference, by_model[model]) for model in comparison.others},
        findings=findings(results, trained_on=trained_on, warnings=warnings),
        audits={one.model: audits[one.model] for one in summaries if one.verdict.status != NOT_AUDITED},
    )


class ReportDocument(Document):
    """What ``report.json`` holds: results and audits as they were measured, and the figures that follow from them.

    DSC are fractions; null is a value that is undefined.
    """

    schema_: Literal["vafa_monai.report/2"] = Field(alias="schema")
    title: Name
    trained_on: Text | None
    data_note: Text | None
    commands: tuple[Text, ...]
    settings: dict[str, Any]
    reference: Text
    models: Annotated[tuple[ModelSummary, ...], Field(min_length=1)]
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]
    paired: dict[str, tuple[PairedRow, ...]]
    findings: tuple[Statement, ...]
    results: Annotated[tuple[Result, ...], Field(min_length=1)]
    audits: tuple[Audit, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report that was read again: its results and audits, as they were measured."""

    path: Path
    title: str
    results: tuple[Result, ...]
    audits: Mapping[str, Audit]


def report_document(evidence: Evidence, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that a program may want of a report, and all that is needed to repeat it.

    Args:
        evidence: what is said of the results.
        about: ``title``, ``trained_on``, ``commands``, ``data_note`` and ``settings`` of the run.
    """
    return {
        "schema": REPORT_SCHEMA,
        **about,
        "reference": evidence.comparison.reference,
        "models": [asdict(summary) for summary in evidence.summaries],
        "rows": [asdict(row) for row in evidence.rows],
        "paired": {model: [asdict(row) for row in rows] for model, rows in evidence.paired.items()},
        "findings": [asdict(finding) for finding in evidence.findings],
        "results": [result.document for result in evidence.comparison.results],
        "audits": [audit.document for audit in evidence.audits.values()],
    }


def load_report(path: str | Path) -> Report:
    """Read a report again; its figures are computed anew from the results in it.

    Args:
        path: the file ``report.json``, or the folder that holds it.

    Raises:
        ValueError: if there is none, or it is not as the schema ``vafa_monai.report/2`` says.
    """
    file = Path(path) / "report.json" if Path(path).is_dir() else Path(path)
    require(file.is_file(), "report", "be a report.json or its folder", str(path))
    document = read_document(file, file.parent)
    found = parse(ReportDocument, document, str(path))
    require_comparable(found.results, f"results of {path}")
    return Report(
        path=file,
        title=found.title,
        results=found.results,
        audits={audit.model: audit for audit in found.audits},
    )

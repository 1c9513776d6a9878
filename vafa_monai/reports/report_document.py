"""The report as JSON: written for programs, read again to compare models, described by the schema beside this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vafa_monai.reports.audit_document import Audit, parse_audit
from vafa_monai.reports.document_file import read_document, require
from vafa_monai.reports.evidence import Evidence
from vafa_monai.reports.result import REPORT_SCHEMA, Result, parse_result, require_comparable

__all__ = ["SCHEMA_FILE", "Report", "load_report", "report_document"]

SCHEMA_FILE = Path(__file__).with_name("report.schema.json")


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
    require(
        document.get("schema") == REPORT_SCHEMA, f"schema of {path}", f"be {REPORT_SCHEMA!r}", document.get("schema")
    )
    entries = {key: document.get(key) for key in ("results", "audits")}
    objects = all(isinstance(one, list) and all(isinstance(part, dict) for part in one) for one in entries.values())
    require(objects and bool(entries["results"]), f"results and audits of {path}", "be lists of objects", entries)
    results = tuple(parse_result(one, f"result {n} of {path}") for n, one in enumerate(document["results"]))
    require_comparable(results, f"results of {path}")
    audits = [parse_audit(one, f"audit {n} of {path}") for n, one in enumerate(document["audits"])]
    return Report(
        path=file,
        title=str(document.get("title", "")),
        results=results,
        audits={audit.model: audit for audit in audits},
    )

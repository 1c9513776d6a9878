"""All that is said of a set of results, gathered once: rows, summaries, tests, findings, and the audits that hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vafa_monai.reports.audit_document import Audit
from vafa_monai.reports.comparison import Comparison
from vafa_monai.reports.document_file import require
from vafa_monai.reports.finding import Finding, findings
from vafa_monai.reports.model_summary import ModelSummary, model_summary
from vafa_monai.reports.paired_row import PairedRow, paired_rows
from vafa_monai.reports.result import Result
from vafa_monai.reports.table import Row, table_rows
from vafa_monai.reports.verdict import NOT_AUDITED

__all__ = ["Evidence", "gather"]


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
    findings: Sequence[Finding]
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
        results: what :func:`vafa_monai.reports.load_results` gave.
        audits: what :func:`vafa_monai.reports.audit_document.load_audits` gave.
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

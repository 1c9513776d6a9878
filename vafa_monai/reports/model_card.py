"""A section for the README of a bundle: what is known of the robustness of its models, and where that ends."""

from __future__ import annotations

from vafa_monai.reports.attack_name import attack_title
from vafa_monai.reports.evidence import Evidence
from vafa_monai.reports.model_summary import ModelSummary
from vafa_monai.reports.number import fixed, interval
from vafa_monai.reports.statistics import Interval
from vafa_monai.reports.table import markdown_line, markdown_text, table_cell

__all__ = ["model_card"]

LEGEND = """DSC: mean over cases and organs without the background, with its bootstrap 95 % interval over cases.
Under VolAA: the number to quote, the lowest DSC of every case under an ensemble of fixed attacks, then the mean over
cases; it holds for the changes named beside it, and for no others."""
THREAT_LEGEND = """At worst: the lowest DSC of every case under any of the attacks of one threat model, then the mean
over cases. Numbers of different threat models do not compare: they allow changes of unlike kind and size."""
LIMITS = (
    "- Measured are the attacks of the table with their budgets; another attack or budget may do more harm.",
    "- Another scanner, protocol or population may give other numbers.",
    "- This is no medical device, and robustness is not accuracy in clinical use.",
)


def model_card(evidence: Evidence, *, data_note: str | None = None) -> str:
    """Return the section in Markdown: verdict first, then figures with intervals, data and limits.

    Args:
        evidence: what is said of the results.
        data_note: where the images come from.
    """
    lines = ["## Adversarial robustness", ""]
    for text in evidence.warnings:
        lines += [f"**{markdown_line(text)}**", ""]
    for one in evidence.summaries:
        lines += [f"**{markdown_line(one.model)}: {one.verdict.status}.** {markdown_line(one.verdict.text)}", ""]
    lines += ["### Figures", "", *_figures(evidence), ""]
    lines += [LEGEND, "", *_threats(evidence)]
    lines += [
        markdown_text(evidence.rows).rstrip(),
        "",
        "### Data",
        "",
        *_data(evidence, data_note),
        "",
        "### Limits",
        "",
        *(f"- {markdown_line(finding.text)}" for finding in evidence.findings if finding.kind == "caution"),
        *LIMITS,
    ]
    return "\n".join(lines) + "\n"


def _figures(evidence: Evidence) -> list[str]:
    """Return a table with a line for each model."""
    lines = [
        "| model | verdict | DSC clean | DSC under VolAA | which may change | weakest organ | weights (SHA-256) |",
        "|---|---|--:|--:|---|---|---|",
    ]
    return lines + [_line(one) for one in evidence.summaries]


def _line(one: ModelSummary) -> str:
    organ = one.weakest_organ
    under = None if organ is None else f"{fixed(organ.dice, 3)} under {attack_title(organ.attack)}"
    weakest = None if organ is None else f"{organ.organ} ({fixed(organ.dice_clean, 3)} to {under})"
    dice = "not run" if one.headline.attack is None else _text(one.headline.dice)
    what = None if one.headline.attack is None else f"{one.headline.attack}: {one.headline.threat}"
    texts = [one.model, one.verdict.status, _text(one.clean), dice, what or "-", weakest, one.sha256]
    return "| " + " | ".join(table_cell(text or "not known") for text in texts) + " |"


def _threats(evidence: Evidence) -> list[str]:
    """Return a table of the other attacks and the controls, by threat model."""
    rows = [(summary.model, row) for summary in evidence.summaries for row in summary.threats]
    if not rows:
        return []
    lines = ["| threat model | role | model | DSC at worst | strongest | its rms (grey) |", "|---|---|---|--:|---|--:|"]
    for model, row in rows:
        texts = [row.threat, row.role, model, _text(row.dice), attack_title(row.strongest), fixed(row.rms_grey, 1)]
        lines.append("| " + " | ".join(map(table_cell, texts)) + " |")
    return ["### By threat model", "", *lines, "", THREAT_LEGEND, ""]


def _text(value: Interval) -> str:
    return interval(value.mean, value.low, value.high)


def _data(evidence: Evidence, data_note: str | None) -> list[str]:
    """Say what was measured on."""
    results = evidence.comparison.results
    cases = {case.case for result in results for case in result.cases}
    organs = markdown_line(", ".join(results[0].classes[1:]))
    measured = f"Measured on {len(cases)} case{'s' * (len(cases) > 1)}; organs: {organs}."
    return [f"{markdown_line(data_note)} {measured}" if data_note else measured]

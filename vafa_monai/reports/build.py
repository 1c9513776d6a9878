"""The report itself: an HTML page that needs no network, its numbers as JSON, CSV and Markdown, its pictures as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vafa_monai.data.files import require_writable, write_whole
from vafa_monai.data.page import data_uri, fixed, interval
from vafa_monai.reports.chart import curve_charts, dice_chart, model_colors
from vafa_monai.reports.evidence import Evidence, gather, report_document
from vafa_monai.reports.figure import attack_figure
from vafa_monai.reports.page import pretty, render, script_data
from vafa_monai.reports.row import ensemble_rows, goal_rows, organ_cell, spectrum_rows
from vafa_monai.reports.statistics import Interval, smallest_p_value
from vafa_monai.reports.table import csv_text, markdown_line, markdown_text, table_cell
from vafa_monai.reports.verdict import ModelSummary
from vafa_monai.reports.viewer import CaseVolume, load_volume, viewer_content
from vafa_monai.results.attack_name import CLEAN, attack_description, attack_title
from vafa_monai.results.audit import Audit, load_audits
from vafa_monai.results.result import Result, load_results
from vafa_monai.results.result_set import Comparison

__all__ = ["build_report", "model_card"]

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
    lines = ["| threat model | role | model | DSC at worst | strongest | its rms (gray) |", "|---|---|---|--:|---|--:|"]
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


SCRIPTS = ("sort.js", "viewer.js")


def build_report(
    results_dir: str | Path,
    output_dir: str | Path,
    *,
    title: str,
    trained_on: str | None = None,
    commands: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    data_note: str | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Path]:
    """Write the report of a folder of results and audits; each file is whole or absent.

    Args:
        results_dir: folder with ``<model>/<attack>.json``, and ``<model>/audit.json`` where a model was audited.
        output_dir: folder to write to; it is made if it is not there.
        title: heading of the page.
        trained_on: the attack that every model but the reference was trained on; it decides the target.
        commands: what was typed to get the results, one command an entry.
        settings: settings of the whole run, shown as JSON.
        data_note: where the images come from and what they may be used for.
        warnings: what stands above all numbers, such as attacks that failed on every case.

    Returns:
        The files by name: ``"html"``, ``"json"``, ``"csv"``, ``"markdown"``, ``"model_card"``, ``"chart"``, and
        ``"figure"`` if a result has a slice.

    Raises:
        ValueError: if a setting, a result or an audit is not as it must be.
    """
    if not isinstance(title, str) or not title.strip():
        raise ValueError(f"title must be a text, got {title!r}.")
    if isinstance(commands, str):
        raise ValueError(f"commands must be a list of commands, got {commands!r}.")
    results, output = load_results(results_dir), Path(output_dir)
    evidence = gather(results, load_audits(results_dir), trained_on=trained_on, warnings=warnings)
    require_writable(output / "report.html")
    commands = [*commands, *(audit.command for audit in evidence.audits.values() if audit.command)]
    about: dict[str, Any] = {"title": title, "trained_on": trained_on, "data_note": data_note}
    about["commands"] = list(dict.fromkeys(commands))
    files = {"chart": dice_chart(results, output / "chart.png")}
    if any(result.slices for result in results if result.role == "attack" or result.attack == CLEAN):
        files["figure"] = attack_figure(results, output / "figure.png")
    html = _render(evidence, about | {"settings": pretty(settings) if settings else None}, files)
    document = report_document(evidence, about | {"settings": dict(settings or {})})
    files["json"] = write_whole(output / "report.json", pretty(document) + "\n")
    files["csv"] = write_whole(output / "results.csv", csv_text(results))
    files["markdown"] = write_whole(output / "results.md", _noted(evidence.warnings) + markdown_text(evidence.rows))
    files["model_card"] = write_whole(output / "model_card.md", model_card(evidence, data_note=data_note))
    files["html"] = write_whole(output / "report.html", html)
    return files


def _noted(warnings: Sequence[str]) -> str:
    """Return the warnings in Markdown, to stand above a table."""
    return "".join(f"**{markdown_line(text)}**\n\n" for text in warnings)


def _render(evidence: Evidence, about: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """Fill the template."""
    comparison = evidence.comparison
    results = comparison.results
    volumes = {(r.model, r.attack): one for r in results if (one := load_volume(r)) is not None}
    viewer = viewer_content(comparison, volumes)
    return render(
        "report.html.j2",
        scripts=SCRIPTS,
        **about,
        clean=CLEAN,
        comparison=comparison,
        ordered=_ordered(comparison),
        organs=results[0].classes[1:],
        rows={(row.model, row.attack): row for row in evidence.rows},
        with_volumes=any(row.volume_error is not None for row in evidence.rows),
        summaries=evidence.summaries,
        worst_table=any(summary.worst_cases for summary in evidence.summaries),
        **_of_sections(evidence, volumes),
        viewer=viewer,
        viewer_data=script_data(viewer),
        warnings=evidence.warnings,
        notes=list(dict.fromkeys(note for result in results for note in result.notes)),
        pictures={name: data_uri(files[name]) for name in ("figure", "chart") if name in files},
        versions=_versions(results, evidence.audits),
        colors=model_colors(comparison.models),
        heat=partial(organ_cell, comparison),
        attack_title=attack_title,
        attack_description=attack_description,
        smallest_p=smallest_p_value,
        distinct_settings=_distinct_settings,
        pretty=pretty,
    )


def _of_sections(evidence: Evidence, volumes: Mapping[tuple[str, str], CaseVolume]) -> dict[str, Any]:
    """Return what single sections of the page ask for, by the names that their templates use."""
    results = evidence.comparison.results
    return {
        "paired": evidence.paired,
        "audits": evidence.audits,
        "curves": curve_charts(evidence.audits),
        "members": ensemble_rows(results),
        "goals": goal_rows(results),
        "spectra": spectrum_rows(evidence.comparison, volumes),
        "findings": [one for one in evidence.findings if one.kind not in ("caution", "control", "warning")],
        "controls": [one for one in evidence.findings if one.kind == "control"],
        "cautions": [one for one in evidence.findings if one.kind == "caution"],
    }


def _ordered(comparison: Comparison) -> list[str]:
    """Return the attacks as the page has them: the clean run, attacks, controls."""
    clean = [name for name in comparison.attacks() if name == CLEAN]
    return [*clean, *comparison.attacks("attack"), *comparison.attacks("control")]


def _distinct_settings(comparison: Comparison, attack: str) -> list[tuple[str, str]]:
    """Return the settings of an attack as (models and words, JSON): one entry if they are the same for every model."""
    models: dict[tuple[str, str], list[str]] = {}
    for model in comparison.models:
        result = comparison.get(model, attack)
        if result is not None:
            models.setdefault((result.setting_text, pretty(result.settings)), []).append(model)
    return [(": ".join(filter(None, (", ".join(names), words))), text) for (words, text), names in models.items()]


def _versions(results: Sequence[Result], audits: Mapping[str, Audit]) -> dict[str, str]:
    """Return every version of every program that the results and audits name."""
    named = [result.versions for result in results] + [audit.document["versions"] for audit in audits.values()]
    names = list(dict.fromkeys(name for versions in named for name in versions))
    return {
        name: ", ".join(dict.fromkeys(str(versions[name]) for versions in named if name in versions)) for name in names
    }

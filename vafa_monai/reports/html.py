"""The report itself: an HTML page that needs no network, its numbers as JSON, CSV and Markdown, its pictures as PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vafa_monai.data import write_whole
from vafa_monai.data.files import require_writable
from vafa_monai.reports.attack_name import CLEAN, attack_description, attack_title
from vafa_monai.reports.audit_document import Audit, load_audits
from vafa_monai.reports.case_volume import load_volume
from vafa_monai.reports.chart import dice_chart
from vafa_monai.reports.comparison import Comparison
from vafa_monai.reports.curve_chart import curve_charts
from vafa_monai.reports.ensemble_row import ensemble_rows
from vafa_monai.reports.evidence import Evidence, gather
from vafa_monai.reports.figure import attack_figure
from vafa_monai.reports.goal_row import goal_rows
from vafa_monai.reports.model_card import model_card
from vafa_monai.reports.organ_cell import organ_cell
from vafa_monai.reports.page import data_uri, pretty, render, script_data
from vafa_monai.reports.palette import model_colors
from vafa_monai.reports.report_document import report_document
from vafa_monai.reports.result import Result, load_results
from vafa_monai.reports.spectrum_row import spectrum_rows
from vafa_monai.reports.statistics import smallest_p_value
from vafa_monai.reports.table import csv_text, markdown_line, markdown_text
from vafa_monai.reports.viewer import viewer_content

__all__ = ["build_report"]

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
        paired=evidence.paired,
        audits=evidence.audits,
        curves=curve_charts(evidence.audits),
        members=ensemble_rows(results),
        goals=goal_rows(results),
        spectra=spectrum_rows(comparison, volumes),
        viewer=viewer,
        viewer_data=script_data(viewer),
        findings=[finding for finding in evidence.findings if finding.kind not in ("caution", "control", "warning")],
        warnings=evidence.warnings,
        controls=[finding for finding in evidence.findings if finding.kind == "control"],
        cautions=[finding for finding in evidence.findings if finding.kind == "caution"],
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

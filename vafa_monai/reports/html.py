"""The report itself: an HTML page that needs no network, its numbers as JSON, CSV and Markdown, its pictures as PNG."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vafa_monai.data import write_whole
from vafa_monai.reports.attack_name import CLEAN, attack_description, attack_title
from vafa_monai.reports.chart import dice_chart
from vafa_monai.reports.comparison import Comparison
from vafa_monai.reports.figure import attack_figure
from vafa_monai.reports.finding import Finding, findings
from vafa_monai.reports.number import fixed, percent, points
from vafa_monai.reports.palette import model_colors
from vafa_monai.reports.result import REPORT_SCHEMA, Result, load_results, mean_known
from vafa_monai.reports.table import Row, csv_text, markdown_text, table_rows

__all__ = ["build_report"]

TEMPLATE = "report.html.j2"


def build_report(
    results_dir: str | Path,
    output_dir: str | Path,
    *,
    title: str,
    trained_on: str | None = None,
    commands: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
    data_note: str | None = None,
) -> dict[str, Path]:
    """Write the report of a folder of results; each file is whole or absent.

    Args:
        results_dir: folder with ``<model>/<attack>.json``.
        output_dir: folder to write to; it is made if it is not there.
        title: heading of the page.
        trained_on: the attack that every model but the reference was trained on; it decides the target.
        commands: what was typed to get the results, one command an entry.
        settings: settings of the whole run, shown as JSON.
        data_note: where the images come from and what they may be used for.

    Returns:
        The files by name: ``"html"``, ``"json"``, ``"csv"``, ``"markdown"``, ``"chart"``, and ``"figure"`` if a result
        has a slice.

    Raises:
        ValueError: if a setting or a result is not as it must be.
    """
    if not title.strip():
        raise ValueError(f"title must be a text, got {title!r}.")
    if isinstance(commands, str):
        raise ValueError(f"commands must be a list of commands, got {commands!r}.")
    results, output = load_results(results_dir), Path(output_dir)
    rows, found = table_rows(results), findings(results, trained_on=trained_on)
    files = {"chart": dice_chart(results, output / "chart.png")}
    if any(result.slices for result in results):
        files["figure"] = attack_figure(results, output / "figure.png")
    page = {"title": title, "trained_on": trained_on, "commands": list(commands), "data_note": data_note}
    document = _document(results, rows, found, page | {"settings": dict(settings or {})})
    html = _render(results, rows, found, page | {"settings": _pretty(settings) if settings else None}, files)
    files["json"] = write_whole(output / "report.json", _pretty(document) + "\n")
    files["csv"] = write_whole(output / "results.csv", csv_text(results))
    files["markdown"] = write_whole(output / "results.md", markdown_text(rows))
    files["html"] = write_whole(output / "report.html", html)
    return files


def _document(
    results: Sequence[Result], rows: Sequence[Row], found: Sequence[Finding], page: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that a program may want of the report."""
    return {
        "schema": REPORT_SCHEMA,
        **page,
        "reference": Comparison(results).reference,
        "findings": [asdict(finding) for finding in found],
        "rows": [asdict(row) for row in rows],
        "results": [result.document for result in results],
    }


def _render(
    results: Sequence[Result],
    rows: Sequence[Row],
    found: Sequence[Finding],
    page: Mapping[str, Any],
    files: Mapping[str, Path],
) -> str:
    """Fill the template; every text in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"fixed": fixed, "percent": percent, "points": points, "mean": mean_known}
    comparison = Comparison(results)
    return environment.get_template(TEMPLATE).render(
        **page,
        clean=CLEAN,
        comparison=comparison,
        rows={(row.model, row.attack): row for row in rows},
        colors=model_colors(comparison.models),
        attack_title=attack_title,
        attack_description=attack_description,
        findings=[finding for finding in found if finding.kind not in ("caution", "control")],
        controls=[finding for finding in found if finding.kind == "control"],
        cautions=[finding for finding in found if finding.kind == "caution"],
        notes=list(dict.fromkeys(note for result in results for note in result.notes)),
        pictures={name: _data_uri(files[name]) for name in ("figure", "chart") if name in files},
        class_means=_class_means,
        distinct_settings=_distinct_settings,
        versions=_versions(results),
    )


def _class_means(result: Result) -> list[tuple[float | None, float | None]]:
    """Return DSC and HD95 of every class but the background, as means over the cases that have them."""
    return [
        (
            mean_known(case.dice[index] for case in result.cases),
            mean_known(case.hd95_mm[index] for case in result.cases),
        )
        for index in range(1, len(result.classes))
    ]


def _distinct_settings(comparison: Comparison, attack: str) -> list[tuple[str, str]]:
    """Return the settings of an attack as (models, JSON): one entry if they are the same for every model."""
    models: dict[str, list[str]] = {}
    for model in comparison.models:
        result = comparison.get(model, attack)
        if result is not None:
            models.setdefault(_pretty(result.settings), []).append(model)
    return [(", ".join(names), text) for text, names in models.items()]


def _versions(results: Sequence[Result]) -> dict[str, str]:
    """Return every version of every program that the results name."""
    names = list(dict.fromkeys(name for result in results for name in result.versions))
    return {n: ", ".join(dict.fromkeys(str(r.versions[n]) for r in results if n in r.versions)) for n in names}


def _data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)

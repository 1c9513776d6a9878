"""The report of a prepared dataset: one HTML page that needs no network, and the same numbers as JSON."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from vafa_monai.data.case_facts import CaseFacts
from vafa_monai.data.case_figure import Sample, case_figure
from vafa_monai.data.files import write_json, write_whole
from vafa_monai.data.recipe import Recipe

__all__ = ["DataReport", "write_report"]

TEMPLATE = "data_report.html.j2"
PICTURES = 2  # cases of each part that are shown
DIASTOLE, SYSTOLE, VENTRICLE = "ED", "ES", "left ventricle"

Warnings = list[tuple[str, list[str]]]


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What the report tells.

    Args:
        recipe: facts of the dataset.
        rows: what was measured of the cases, part by part.
        missing: entries of the split that the source lacks.
        unused: files of the source that belong to no case of the split.
        settings: settings of the call.
    """

    recipe: Recipe
    rows: Mapping[str, Sequence[CaseFacts]]
    missing: Sequence[str]
    unused: Sequence[str]
    settings: Mapping[str, Any]

    def warnings(self) -> Warnings:
        """Return what a user should know, each with the cases that it is about, or none if it is about the whole."""
        grouped: dict[str, list[str]] = {}
        for sentence, case in (*self._about_all(), *self._about_cases()):
            grouped.setdefault(sentence, []).extend([case] if case else [])
        return list(grouped.items())

    def _about_all(self) -> Iterator[tuple[str, str]]:
        """Yield sentences about the whole."""
        if self.missing:
            names = ", ".join(self.missing)
            yield f"{len(self.missing)} entries of the split are not in the source and were left out: {names}.", ""
        for part, rows in self.rows.items():
            for index, name in enumerate(self.recipe.classes[1:]):
                if not any(row.volumes_ml[index] for row in rows):
                    yield f"No label of the {part} part has the {name}.", ""

    def _about_cases(self) -> Iterator[tuple[str, str]]:
        """Yield sentences about cases, each with its case."""
        for rows in self.rows.values():
            yield from ((remark, row.name) for row in rows for remark in row.remarks)
            yield from self._about_phases(rows)

    def _about_phases(self, rows: Sequence[CaseFacts]) -> Iterator[tuple[str, str]]:
        """Yield patients whose heart does not shrink from end-diastole to end-systole."""
        if VENTRICLE not in self.recipe.classes:
            return
        index = self.recipe.classes.index(VENTRICLE) - 1
        volumes = {(row.unit, row.notes.get("phase")): row.volumes_ml[index] for row in rows}
        for unit in dict.fromkeys(row.unit for row in rows):
            diastole, systole = (volumes.get((unit, phase)) for phase in (DIASTOLE, SYSTOLE))
            if diastole is not None and systole is not None and systole >= diastole:
                sentence = f"The {VENTRICLE} is not larger at end-diastole than at end-systole."
                yield from ((sentence, row.name) for row in rows if row.unit == unit)


def write_report(report: DataReport, folder: Path, lists: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Write ``data_report.html`` and ``data_report.json`` into the folder of the written cases.

    Args:
        report: what to tell.
        folder: where the volumes lie.
        lists: their relative paths, part by part, in the order of ``report.rows``.
    """
    samples = [
        Sample(title=f"{row.name} ({part})", image=folder / paths["image"], label=folder / paths["label"])
        for part, rows in report.rows.items()
        for row, paths in list(zip(rows, lists[part], strict=True))[:PICTURES]
    ]
    picture = case_figure(samples, report.recipe.classes, report.recipe.window)
    warnings = report.warnings()
    html = _render(report, warnings, samples, base64.b64encode(picture).decode())
    write_whole(folder / "data_report.html", html)
    content = {
        "dataset": report.recipe.title,
        "classes": list(report.recipe.classes),
        "settings": dict(report.settings),
        "missing": list(report.missing),
        "unused": list(report.unused),
        "warnings": [{"text": text, "cases": cases} for text, cases in warnings],
        "cases": {part: [asdict(row) for row in rows] for part, rows in report.rows.items()},
    }
    write_json(folder / "data_report.json", content)


def _render(report: DataReport, warnings: Warnings, samples: Sequence[Sample], picture: str) -> str:
    """Fill the template; every text in it is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = lambda value: f"{value:.5g}"
    rows = [(part, row) for part, part_rows in report.rows.items() for row in part_rows]
    return environment.get_template(TEMPLATE).render(
        report=report,
        recipe=report.recipe,
        rows=rows,
        organs=list(enumerate(report.recipe.classes))[1:],
        notes=list(dict.fromkeys(key for _, row in rows for key in row.notes)),
        units={part: list(dict.fromkeys(row.unit for row in rows)) for part, rows in report.rows.items()},
        warnings=warnings,
        samples=samples,
        picture=picture,
        settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
    )

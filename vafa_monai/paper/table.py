"""A table of the paper measured again, as JSON, CSV, Markdown and one HTML page."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vafa_monai.data.files import write_whole
from vafa_monai.data.page import fixed, signed
from vafa_monai.paper.row import PaperCell, PaperColumn, PaperRow, paper_source
from vafa_monai.reports.page import render
from vafa_monai.results.result import Result

__all__ = ["PaperModel", "PaperTable", "write_paper_table"]

TABLE_SCHEMA = "vafa_monai.paper_table/1"
TEMPLATE = "paper_table.html.j2"
CSV_HEAD: tuple[str, ...] = ("table", "row", "in_paper", "column", "measured", "paper", "difference")
CSV_HEAD += ("cases", "seed", "seconds", "checkpoint_sha256", "setting", "failure")


@dataclass(frozen=True, kw_only=True)
class PaperModel:
    """A checkpoint that was attacked.

    Args:
        title: what a reader is shown.
        path: its file.
        sha256: its hash.
        origin: where it is from, in words.
        seconds: how long its training took, if it is known.
    """

    title: str
    path: str
    sha256: str
    origin: str
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table and all that a reader needs to judge it.

    Args:
        name: ``"table1"`` to ``"table6"`` or ``"figure2"``; names the files.
        title: heading.
        bundle: dataset and network.
        columns: columns in their order.
        rows: rows in their order.
        notes: settings and conventions under the table, one sentence or more each.
        cautions: what has to be known before a number is used.
        data_note: where the images come from.
        models: the checkpoints.
        commands: the lines that do the same by hand.
        settings: settings of the run, shown as JSON.
        picture: a PNG file to show, or ``None``.
    """

    name: str
    title: str
    bundle: str
    columns: Sequence[PaperColumn]
    rows: Sequence[PaperRow]
    notes: Sequence[str] = ()
    cautions: Sequence[str] = ()
    data_note: str = ""
    models: Sequence[PaperModel] = ()
    commands: Sequence[str] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    picture: Path | None = None

    @property
    def results(self) -> list[Result]:
        """All that was measured."""
        return [result for row in self.rows for result in row.results]

    @property
    def failures(self) -> list[str]:
        """One sentence for each row that is not complete."""
        return [f"{row.title}: {row.failure}" for row in self.rows if row.failure]

    @property
    def remarks(self) -> list[str]:
        """What the results say of themselves, such as why LPIPS is absent."""
        return list(dict.fromkeys(note for result in self.results for note in result.notes))

    @property
    def seconds(self) -> float:
        """How long attacks and trainings took together."""
        return sum(row.seconds or 0.0 for row in self.rows) + sum(model.seconds or 0.0 for model in self.models)

    def measured_with(self) -> dict[str, list[str]]:
        """Return the seeds, versions, devices and numbers of cases of the results, each once."""
        facts: dict[str, dict[str, None]] = {"cases": {}, "seed": {}, "device": {}, "versions": {}}
        for result in self.results:
            facts["cases"][str(len(result.cases))] = None
            facts["seed"][str(result.seed)] = None
            facts["device"][result.device] = None
            facts["versions"] |= {f"{name} {version}": None for name, version in result.versions.items()}
        return {name: list(values) for name, values in facts.items()}


def write_paper_table(table: PaperTable, output_dir: str | Path) -> dict[str, Path]:
    """Write a table to ``<output_dir>/<name>.json``, ``.csv``, ``.md`` and ``.html``; each file is whole or absent.

    Returns:
        The files by name: ``"html"``, ``"json"``, ``"csv"``, ``"markdown"``, and ``"picture"`` if there is one.
    """
    path = Path(output_dir) / table.name
    files = {
        "html": write_whole(path.with_suffix(".html"), _html(table)),
        "json": write_whole(path.with_suffix(".json"), _pretty(_document(table)) + "\n"),
        "csv": write_whole(path.with_suffix(".csv"), _csv(table)),
        "markdown": write_whole(path.with_suffix(".md"), _markdown(table)),
    }
    return files if table.picture is None else {**files, "picture": table.picture}


def _document(table: PaperTable) -> dict[str, Any]:
    """Return all that a program may want of a table."""
    plain = ("name", "title", "bundle", "notes", "cautions", "data_note", "commands", "settings", "failures", "remarks")
    return {
        "schema": TABLE_SCHEMA,
        "paper": paper_source(),
        **{name: getattr(table, name) for name in plain},
        "columns": [asdict(column) for column in table.columns],
        "rows": [_row(row) for row in table.rows],
        "models": [asdict(model) for model in table.models],
        "measured_with": table.measured_with(),
        "seconds": round(table.seconds, 2),
        "results": [result.document for result in table.results],
    }


def _row(row: PaperRow) -> dict[str, Any]:
    cells = {
        name: {"measured": cell.value, "paper": cell.paper, "difference": cell.difference}
        for name, cell in row.cells.items()
    }
    about = {"title": row.title, "in_paper": row.in_paper, "setting": row.setting, "failure": row.failure}
    return {**about, "seconds": row.seconds, "cells": cells}


def _csv(table: PaperTable) -> str:
    """Return one line for each cell; undefined values are empty."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(CSV_HEAD)
    for row in table.rows:
        for name, cell in row.cells.items():
            start = (table.name, row.title, row.in_paper, name, cell.value, cell.paper, cell.difference)
            writer.writerow((*start, *_origin(cell), row.setting, row.failure))
    return buffer.getvalue()


def _origin(cell: PaperCell) -> tuple[object, ...]:
    """Return number of cases, seed, seconds and hash of a cell."""
    result = cell.result
    if result is None:
        return (None,) * 4
    return len(result.cases), result.seed, result.seconds, result.checkpoint.get("sha256")


def _markdown(table: PaperTable) -> str:
    """Return the table with what stands above and below it."""
    heads = [head for column in table.columns for head in _heads(column)]
    lines = [f"# {table.title} ({table.bundle})", "", *(f"> {text}\n>" for text in table.cautions), ""]
    lines += [_line(["", *heads, "settings", "s"]), _line(["---", *["--:"] * len(heads), "---", "--:"])]
    for row in table.rows:
        title = row.title if row.in_paper else f"{row.title} (not in the paper)"
        cells = [text for column in table.columns for text in _cell_texts(row.cells[column.name], column)]
        lines.append(_line([title, *cells, row.failure or row.setting, fixed(row.seconds, 1)]))
    facts = [f"{name}: {', '.join(values)}" for name, values in table.measured_with().items()]
    hashes = [f"{model.title}: {model.path}, SHA-256 {model.sha256} ({model.origin})" for model in table.models]
    below = [*table.notes, *table.remarks, table.data_note, *facts, *hashes, f"Paper: {paper_source()}"]
    lines += ["", *(f"- {text}" for text in below if text)]
    lines += ["", "Failed:", "", *(f"- {text}" for text in table.failures)] if table.failures else []
    return "\n".join(lines) + "\n"


def _heads(column: PaperColumn) -> list[str]:
    return [column.title, "paper", "difference"] if column.in_paper else [column.title]


def _cell_texts(cell: PaperCell, column: PaperColumn) -> list[str]:
    """Return the texts of a cell: measured, and for a column of the paper its value and the difference."""
    texts = [fixed(cell.value, column.digits)]
    if column.in_paper:
        texts += [fixed(cell.paper, column.digits), signed(cell.difference, column.digits)]
    return texts


def _line(cells: Sequence[str]) -> str:
    """Return one line of a Markdown table."""
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"


def _html(table: PaperTable) -> str:
    """Fill the template; every text in it is escaped."""
    picture = None if table.picture is None else base64.b64encode(table.picture.read_bytes()).decode()
    return render(
        TEMPLATE,
        scripts=(),
        title=f"{table.title} ({table.bundle})",
        table=table,
        cell_texts=_cell_texts,
        picture=picture,
        paper=paper_source(),
        settings=_pretty(dict(table.settings)),
    )


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str)

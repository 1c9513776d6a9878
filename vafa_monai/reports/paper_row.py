"""Rows and columns of a table of the paper: each measured value with the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vafa_monai.reports.paper_value import METRICS
from vafa_monai.reports.result import Result

__all__ = ["PaperCell", "PaperColumn", "PaperRow", "attack_row", "metric_columns", "model_row"]


@dataclass(frozen=True, kw_only=True)
class PaperColumn:
    """A column of a table.

    Args:
        name: what it is called in files.
        title: its heading.
        in_paper: whether the paper's table has it.
        digits: decimals that are shown.
    """

    name: str
    title: str
    in_paper: bool
    digits: int = 2


@dataclass(frozen=True, kw_only=True)
class PaperCell:
    """A value as it was measured, as the paper prints it, and its result; ``None`` where there is none."""

    value: float | None = None
    paper: float | None = None
    result: Result | None = None

    @property
    def difference(self) -> float | None:
        """Measured minus the paper's."""
        return None if self.value is None or self.paper is None else self.value - self.paper


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A row of a table.

    Args:
        title: what a reader is shown.
        in_paper: whether the paper's table has it.
        cells: by the names of the columns.
        setting: the settings of the attack, or how the model was trained, in words.
        failure: why there is nothing to show, or not all.
    """

    title: str
    in_paper: bool
    cells: Mapping[str, PaperCell]
    setting: str = ""
    failure: str | None = None

    @property
    def results(self) -> list[Result]:
        """The results of the row, each once."""
        found: list[Result] = []
        for cell in self.cells.values():
            if cell.result is not None and all(cell.result is not one for one in found):
                found.append(cell.result)
        return found

    @property
    def seconds(self) -> float | None:
        """How long its attacks took."""
        known = [result.seconds for result in self.results if result.seconds is not None]
        return sum(known) if known else None


def metric_columns(names: Sequence[str], digits: int = 2, in_paper: bool = True) -> list[PaperColumn]:
    """Return columns of metrics; those of the paper, if the table is there, have the decimals that it prints.

    Example:
        >>> [column.title for column in metric_columns(["dsc", "lost"])]
        ['DSC', 'organs lost a case']
    """
    metrics = {name: METRICS[name] for name in names}
    return [
        PaperColumn(
            name=name, title=m.title, in_paper=m.in_paper and in_paper, digits=digits if m.in_paper else m.digits
        )
        for name, m in metrics.items()
    ]


def attack_row(
    result: Result | None,
    paper: Mapping[str, float | None],
    *,
    title: str,
    columns: Sequence[PaperColumn],
    in_paper: bool,
    failure: str | None = None,
) -> PaperRow:
    """Return the row of one attack: metrics side by side.

    Args:
        result: what was measured, or ``None``.
        paper: the paper's values by column.
        title: what a reader is shown.
        columns: metrics, of :func:`metric_columns`.
        in_paper: whether the paper has the row.
        failure: why nothing was measured.
    """
    cells = {
        column.name: PaperCell(
            value=None if result is None else METRICS[column.name].measure(result),
            paper=paper.get(column.name),
            result=result,
        )
        for column in columns
    }
    setting = "" if result is None else result.setting_text
    return PaperRow(title=title, in_paper=in_paper, cells=cells, setting=setting, failure=failure)


def model_row(
    results: Mapping[str, Result],
    paper: Mapping[str, float | None],
    *,
    title: str,
    columns: Sequence[PaperColumn],
    setting: str,
    failure: str | None = None,
) -> PaperRow:
    """Return the row of one model: its DSC under attacks side by side.

    Args:
        results: what was measured, by column.
        paper: the paper's values by column; empty for a row that it does not have.
        title: what a reader is shown.
        columns: the attacks.
        setting: how the model was trained.
        failure: why not all was measured.
    """
    dice = METRICS["dsc"].measure
    cells = {
        column.name: PaperCell(
            value=dice(results[column.name]) if column.name in results else None,
            paper=paper.get(column.name),
            result=results.get(column.name),
        )
        for column in columns
    }
    return PaperRow(title=title, in_paper=bool(paper), cells=cells, setting=setting, failure=failure)

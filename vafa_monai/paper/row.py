"""Rows and columns of a table of the paper: each measured value with the paper's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vafa_monai.results.attack_name import CLEAN
from vafa_monai.results.case import Case, mean_known
from vafa_monai.results.result import Result

__all__ = [
    "METRICS",
    "PaperCell",
    "PaperColumn",
    "PaperRow",
    "attack_row",
    "metric_columns",
    "model_row",
    "paper_keys",
    "paper_row",
    "paper_source",
    "paper_tables",
]


@cache
def _content() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("paper_values.json").read_text(encoding="utf-8"))


def paper_source() -> str:
    """Return where the paper's values are printed."""
    return f"{_content()['source']} {_content()['link']}"


def paper_tables(bundle: str) -> list[str]:
    """Return the tables that the paper has for a dataset and network.

    Example:
        >>> paper_tables("acdc_unetr")
        ['table6']
    """
    return [table for table, bundles in _content()["tables"].items() if bundle in bundles]


def paper_keys(table: str, bundle: str) -> list[str]:
    """Return the rows of a table in their order."""
    return list(_content()["tables"].get(table, {}).get(bundle, {}))


def paper_row(table: str, bundle: str, key: str | None) -> Mapping[str, float | None]:
    """Return the values of a row by column; none for a row that the paper does not have.

    Example:
        >>> paper_row("table2", "synapse_unetr", "vafa_q20")
        {'dsc': 56.24, 'lpips': 98.7}
    """
    return dict(_content()["tables"].get(table, {}).get(bundle, {}).get(key, {}))


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A column: its heading, how it is measured, and whether the paper has it."""

    title: str
    measure: Callable[[Result], float | None]
    in_paper: bool = False
    digits: int = 2


def _dice_percent(result: Result) -> float | None:
    return _hundred_times(result.summary["dice_with_background"])


def _lpips_similarity(result: Result) -> float | None:
    """Return ``100 (1 - LPIPS)``; the paper has none for clean images, whose LPIPS is 0."""
    distance = result.summary["lpips"]
    return None if distance is None or result.attack == CLEAN else 100 * (1 - distance)


def _hundred_times(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _hd95_found(result: Result) -> float | None:
    """Return HD95 over the organs that truth and prediction both have."""
    return mean_known(_found_of_case(case) for case in result.cases)


def _found_of_case(case: Case) -> float | None:
    """Leave out the lost and invented organs: those at the diagonal, which no other distance reaches."""
    known = sorted(value for value in case.hd95_mm[1:] if value is not None)
    return mean_known(known[: len(known) - case.lost - case.invented])


def _lost_of_case(result: Result) -> float | None:
    """Return how many organs of a case the prediction lost, as a mean over cases."""
    return mean_known(case.lost for case in result.cases)


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "dsc": Metric(title="DSC", measure=_dice_percent, in_paper=True),
        "hd95": Metric(title="HD95 (mm)", measure=lambda result: result.summary["hd95_mm"], in_paper=True),
        "lpips": Metric(title="100·(1 \N{MINUS SIGN} LPIPS)", measure=_lpips_similarity, in_paper=True),
        "hd95_found": Metric(title="HD95, lost organs dropped (mm)", measure=_hd95_found, digits=1),
        "dsc_organs": Metric(title="DSC of organs", measure=lambda result: _hundred_times(result.summary["dice"])),
        "lost": Metric(title="organs lost a case", measure=_lost_of_case, digits=1),
        "rms_grey": Metric(
            title="change (rms, gray levels)", measure=lambda result: result.summary["rms_grey"], digits=1
        ),
    }
)


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

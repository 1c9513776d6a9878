"""The numbers of the paper's tables, and how the same numbers are taken from a result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vafa_monai.reports.attack_name import CLEAN
from vafa_monai.reports.case import Case, mean_known
from vafa_monai.reports.result import Result

__all__ = ["METRICS", "Metric", "paper_keys", "paper_row", "paper_source", "paper_tables"]


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
            title="change (rms, grey levels)", measure=lambda result: result.summary["rms_grey"], digits=1
        ),
    }
)

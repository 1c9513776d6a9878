"""Two models under the same attacks on the same cases: the difference of each attack, tested case by case."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vafa_monai.reports.attack_name import CLEAN, attack_order, attack_title
from vafa_monai.reports.case import mean_known
from vafa_monai.reports.comparison import incomparable
from vafa_monai.reports.result import Result
from vafa_monai.reports.statistics import adjusted_p_values, paired_test

__all__ = ["LEVEL", "PairedRow", "paired_rows"]

LEVEL = 0.05


@dataclass(frozen=True, kw_only=True)
class PairedRow:
    """Foreground DSC of two models under one attack, on the cases that both were measured on.

    Args:
        n: number of these cases.
        first: mean DSC of the first model on them.
        second: of the second.
        difference: second minus first.
        low: lower end of the bootstrap 95 % interval of the mean difference.
        high: its upper end.
        p_value: of the two-sided Wilcoxon signed-rank test.
        adjusted: the same, adjusted over all rows for the false discovery rate.
    """

    attack: str
    title: str
    role: str
    n: int
    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None
    adjusted: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the adjusted p-value is below 0.05."""
        return self.adjusted is not None and self.adjusted < LEVEL


def paired_rows(first: Mapping[str, Result], second: Mapping[str, Result]) -> list[PairedRow]:
    """Compare two models under every attack and control that both have a result of.

    Args:
        first: results of one model by attack; the differences are from this model to the other.
        second: results of the other.

    Returns:
        One row an attack: the clean run, attacks, controls. Left out is what does not compare: other data or versions,
        or an attack with other settings.
    """
    shared = first.keys() & second.keys()
    names = attack_order(name for name in shared if incomparable(first[name], second[name]) is None)
    names.sort(key=lambda name: (name != CLEAN, first[name].role == "control"))
    rows = [_row(first[name], second[name]) for name in names]
    adjusted = adjusted_p_values([row.p_value for row in rows])
    return [replace(row, adjusted=value) for row, value in zip(rows, adjusted, strict=True)]


def _row(first: Result, second: Result) -> PairedRow:
    """Compare two results case by case."""
    other = {case.case: case.foreground_dice for case in second.cases}
    pairs = [(case.foreground_dice, other[case.case]) for case in first.cases if case.case in other]
    known = [pair for pair in pairs if None not in pair]
    before, after = [pair[0] for pair in known], [pair[1] for pair in known]
    test = paired_test(before, after)
    return PairedRow(
        attack=first.attack,
        title=attack_title(first.attack),
        role=first.role,
        n=test.n,
        first=mean_known(before),
        second=mean_known(after),
        difference=test.difference.mean,
        low=test.difference.low,
        high=test.difference.high,
        p_value=test.p_value,
    )

"""What the members of an attack ensemble did, as the results tell it of every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vafa_monai.reports.case import Case, mean_known
from vafa_monai.reports.result import Result

__all__ = ["EnsembleRow", "ensemble_rows"]


@dataclass(frozen=True, kw_only=True)
class EnsembleRow:
    """One member of an ensemble on one model.

    Args:
        dice: mean foreground DSC over the cases that it ran on; ``None`` if it ran on none.
        n: number of these cases; an ensemble does not attack a case further that is broken already.
        worst_of: number of cases of which this member's volume was the worst.
    """

    attack: str
    model: str
    member: str
    dice: float | None
    n: int
    worst_of: int


def ensemble_rows(results: Sequence[Result]) -> list[EnsembleRow]:
    """Return a row for each member of every ensemble among the results."""
    rows = []
    for result in results:
        names = dict.fromkeys(name for case in result.cases for name in case.attack_details.get("members", {}))
        rows += [_row(result, member) for member in names]
    return rows


def _row(result: Result, member: str) -> EnsembleRow:
    dice = [value for case in result.cases if (value := _dice(case, member)) is not None]
    worst = [case.attack_details.get("worst_member") for case in result.cases]
    return EnsembleRow(
        attack=result.attack,
        model=result.model,
        member=member,
        dice=mean_known(dice),
        n=len(dice),
        worst_of=worst.count(member),
    )


def _dice(case: Case, member: str) -> float | None:
    """Return the foreground DSC that a member left of a case."""
    found = case.attack_details.get("members", {}).get(member, {})
    return mean_known(found.get("dice", [])[1:])

"""How near attacks with an anatomical target came to it, as the results tell it of every case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vafa_monai.reports.case import mean_known
from vafa_monai.reports.result import Result

__all__ = ["GoalRow", "goal_rows"]


@dataclass(frozen=True, kw_only=True)
class GoalRow:
    """One attack with a goal on one model; means over the cases that were attacked, ``None`` if there are none.

    Args:
        reached_before: share of the voxels to be changed that had the class of the goal without attack.
        reached: the same under attack.
        collateral: share of all other voxels whose prediction changed.
        n: number of cases that were attacked.
        left_alone: number of cases for which the goal made no sense, by the reason.
    """

    attack: str
    model: str
    reached_before: float | None
    reached: float | None
    collateral: float | None
    n: int
    left_alone: dict[str, int]


def goal_rows(results: Sequence[Result]) -> list[GoalRow]:
    """Return a row for each result that tells of a goal."""
    told = [(result, [case.attack_details.get("goal") for case in result.cases]) for result in results]
    return [_row(result, [one for one in goals if isinstance(one, dict)]) for result, goals in told if any(goals)]


def _row(result: Result, goals: Sequence[dict[str, Any]]) -> GoalRow:
    attacked = [goal for goal in goals if not goal.get("objection")]
    reasons = [goal["objection"] for goal in goals if goal.get("objection")]
    return GoalRow(
        attack=result.attack,
        model=result.model,
        n=len(attacked),
        left_alone={reason: reasons.count(reason) for reason in dict.fromkeys(reasons)},
        reached_before=mean_known(goal.get("reached_before") for goal in attacked),
        reached=mean_known(goal.get("reached") for goal in attacked),
        collateral=mean_known(goal.get("collateral") for goal in attacked),
    )

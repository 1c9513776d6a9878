"""Rows of a report: goals, ensembles, pairs of models, spectra, organs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vafa_monai.metrics.radial_spectrum import HIGHEST_FREQUENCY
from vafa_monai.reports.statistics import adjusted_p_values, paired_test
from vafa_monai.reports.viewer import CaseVolume
from vafa_monai.results.attack_name import CLEAN, attack_order, attack_title
from vafa_monai.results.case import Case, mean_known
from vafa_monai.results.document import Role
from vafa_monai.results.result import Result
from vafa_monai.results.result_set import Comparison, incomparable

__all__ = ["PairedRow", "ensemble_rows", "goal_rows", "organ_cell", "paired_rows", "spectrum_rows"]

DARKEST = 75  # percent of the color, so that black ink can be read on it


@dataclass(frozen=True, kw_only=True)
class OrganCell:
    """Means over the cases that have the organ.

    Args:
        drop: DSC lost to the attack; ``None`` for the clean run, and where there is none.
        share: percent of the color: the root of the drop as a part of the clean DSC, so that small drops can be seen.
    """

    dice: float | None
    drop: float | None
    hd95: float | None
    share: float


def organ_cell(comparison: Comparison, model: str, attack: str, index: int) -> OrganCell:
    """Return the cell of the class with that index."""
    result, clean = comparison.get(model, attack), comparison.get(model, CLEAN)
    dice, before = _mean(result, "dice", index), _mean(clean, "dice", index)
    known = dice is not None and before is not None and attack != CLEAN
    drop = before - dice if known and before is not None and dice is not None else None
    share = 0.0 if drop is None or not before else DARKEST * math.sqrt(min(1.0, max(0.0, drop / before)))
    return OrganCell(dice=dice, drop=drop, hd95=_mean(result, "hd95_mm", index), share=round(share, 1))


def _mean(result: Result | None, metric: str, index: int) -> float | None:
    """Return the mean of one class over cases."""
    return None if result is None else mean_known(getattr(case, metric)[index] for case in result.cases)


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
    return [_goal_row(result, [one for one in goals if isinstance(one, dict)]) for result, goals in told if any(goals)]


def _goal_row(result: Result, goals: Sequence[dict[str, Any]]) -> GoalRow:
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
        rows += [_ensemble_row(result, member) for member in names]
    return rows


def _ensemble_row(result: Result, member: str) -> EnsembleRow:
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
    role: Role
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
    rows = [_paired_row(first[name], second[name]) for name in names]
    adjusted = adjusted_p_values([row.p_value for row in rows])
    return [replace(row, adjusted=value) for row, value in zip(rows, adjusted, strict=True)]


def _paired_row(first: Result, second: Result) -> PairedRow:
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


FINE = 0.25  # cycles a voxel: a wave of four voxels


@dataclass(frozen=True, kw_only=True)
class SpectrumRow:
    """The spectrum of one attack on one model, of the first case.

    Args:
        energy: share of the energy in every band; together 1.
        white: the same of white noise.
        median: frequency below which half of the energy lies, in cycles a voxel.
        fine: share of the energy above a quarter of a cycle a voxel.
    """

    attack: str
    title: str
    model: str
    energy: tuple[float, ...]
    white: tuple[float, ...]
    median: float
    fine: float


def spectrum_rows(comparison: Comparison, volumes: Mapping[tuple[str, str], CaseVolume]) -> list[SpectrumRow]:
    """Return a row for each attack and model that changed the image."""
    names = [*comparison.attacks("attack"), *comparison.attacks("control")]
    return [
        _spectrum_row(name, model, volumes[model, name])
        for name in names
        for model in comparison.models
        if name != CLEAN and (model, name) in volumes and sum(volumes[model, name].energy) > 0
    ]


def _spectrum_row(attack: str, model: str, volume: CaseVolume) -> SpectrumRow:
    edges = np.linspace(0, HIGHEST_FREQUENCY, len(volume.energy) + 1)
    above = 1 - np.interp(FINE, edges, np.concatenate([[0], np.cumsum(volume.energy)]))
    return SpectrumRow(
        attack=attack,
        title=attack_title(attack),
        model=model,
        energy=volume.energy,
        white=volume.coefficients,
        median=median_frequency(volume.energy),
        fine=float(np.clip(above, 0, 1)),
    )


def median_frequency(energy: Sequence[float]) -> float:
    """Return the frequency below which half of the energy lies, in cycles a voxel; linear inside a band.

    Example:
        >>> round(median_frequency([0.5, 0.5]) / HIGHEST_FREQUENCY, 3)
        0.5
    """
    edges = np.linspace(0, HIGHEST_FREQUENCY, len(energy) + 1)
    return float(np.interp(0.5, np.concatenate([[0], np.cumsum(energy)]), edges))

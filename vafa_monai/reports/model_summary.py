"""What a report says of a model in a few figures: verdict, DSC without attack, under VolAA, and by threat model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vafa_monai.attacks.threat import threat_of
from vafa_monai.reports.attack_name import CLEAN
from vafa_monai.reports.audit_document import Audit
from vafa_monai.reports.case import mean_known
from vafa_monai.reports.comparison import Comparison
from vafa_monai.reports.result import Result
from vafa_monai.reports.statistics import Interval, mean_interval, rate
from vafa_monai.reports.verdict import Headline, Verdict, is_headline, judge

__all__ = ["ModelSummary", "ThreatRow", "WorstCase", "model_summary"]


@dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The attack that left a case its lowest foreground DSC."""

    case: str
    attack: str
    dice: float
    dice_clean: float | None


@dataclass(frozen=True, kw_only=True)
class ThreatRow:
    """What the attacks of one threat model did; numbers of unlike threat models do not compare.

    Args:
        threat: which changes they may make.
        role: ``"attack"`` or ``"control"``.
        attacks: their names.
        dice: foreground DSC under the worst of them, case by case.
        strongest: the one of the lowest mean DSC.
        rms_grey: root mean square of its change in grey levels.
    """

    threat: str
    role: str
    attacks: tuple[str, ...]
    dice: Interval
    strongest: str
    rms_grey: float | None


@dataclass(frozen=True, kw_only=True)
class WeakestOrgan:
    """The organ that lost most of its mean DSC, and to which attack."""

    organ: str
    attack: str
    dice_clean: float
    dice: float


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """The figures of one model.

    Args:
        clean: foreground DSC without attack.
        headline: DSC under the attack ensemble; the number a model should be quoted by.
        threats: the other attacks and the controls, by threat model.
        worst_cases: the attack of the lowest DSC, whatever it may change, case by case, the lowest first.
        strongest: the attack with the lowest mean DSC, and ``strongest_dice`` under it.
        lost_rate: the largest share of organs that an attack made the prediction lose.
        forward: windows that all results together passed the network forward, ``None`` if one does not say.
        backward: windows that they passed it backward.
    """

    model: str
    verdict: Verdict
    sha256: str | None
    n_cases: int
    n_attacks: int
    clean: Interval
    headline: Headline
    threats: tuple[ThreatRow, ...]
    worst_cases: tuple[WorstCase, ...]
    strongest: str | None
    strongest_dice: Interval
    weakest_organ: WeakestOrgan | None
    lost_rate: float | None
    forward: int | None
    backward: int | None


def model_summary(comparison: Comparison, model: str, audit: Audit | None) -> ModelSummary:
    """Return the figures of one model; attacks count, controls do not."""
    results = [result for result in comparison.results if result.model == model]
    attacks = {name: result for name in comparison.attacks("attack") if (result := comparison.get(model, name))}
    clean = comparison.get(model, CLEAN)
    clean_dice = {case.case: case.foreground_dice for case in clean.cases} if clean else {}
    worst_cases = _worst_cases(attacks, clean_dice)
    means = {name: one for name, result in attacks.items() if (one := _mean(result)).mean is not None}
    strongest = min(means, key=lambda name: means[name].mean or 0, default=None)
    verdict, headline = judge(model, results, audit)
    return ModelSummary(
        model=model,
        verdict=verdict,
        sha256=results[0].checkpoint.get("sha256"),
        n_cases=len(results[0].cases),
        n_attacks=len(attacks),
        clean=mean_interval(list(clean_dice.values())),
        headline=headline,
        threats=tuple(_threats(comparison, model)),
        worst_cases=tuple(worst_cases),
        strongest=strongest,
        strongest_dice=mean_interval([]) if strongest is None else means[strongest],
        weakest_organ=None if clean is None else _weakest_organ(clean, attacks),
        lost_rate=max(
            (share for result in attacks.values() if (share := _lost_rate(result)) is not None), default=None
        ),
        forward=_total([result.forward for result in results]),
        backward=_total([result.backward for result in results]),
    )


def _mean(result: Result) -> Interval:
    return mean_interval([case.foreground_dice for case in result.cases])


def _threats(comparison: Comparison, model: str) -> Iterator[ThreatRow]:
    """Yield a row for each threat model of the attacks, then of the controls; the ensemble stands for itself."""
    for role in ("attack", "control"):
        groups: dict[str, dict[str, Result]] = {}
        for name in comparison.attacks(role):
            result = comparison.get(model, name)
            if result is not None and not is_headline(result):
                groups.setdefault(str(threat_of(result.settings)), {})[name] = result
        for threat, group in groups.items():
            known = {name: mean for name, one in group.items() if (mean := _mean(one).mean) is not None}
            if known:
                strongest = min(known, key=lambda name: known[name])
                yield ThreatRow(
                    threat=threat,
                    role=role,
                    attacks=tuple(group),
                    dice=mean_interval([one.dice for one in _worst_cases(group, {})]),
                    strongest=strongest,
                    rms_grey=group[strongest].summary["rms_grey"],
                )


def _worst_cases(attacks: Mapping[str, Result], clean: Mapping[str, float | None]) -> list[WorstCase]:
    """Return the worst attack of every case, the lowest DSC first."""
    worst: dict[str, WorstCase] = {}
    for name, result in attacks.items():
        for case in result.cases:
            dice = case.foreground_dice
            if dice is not None and (case.case not in worst or dice < worst[case.case].dice):
                worst[case.case] = WorstCase(case=case.case, attack=name, dice=dice, dice_clean=clean.get(case.case))
    return sorted(worst.values(), key=lambda one: one.dice)


def _weakest_organ(clean: Result, attacks: Mapping[str, Result]) -> WeakestOrgan | None:
    """Return the organ and attack with the largest drop of the mean over cases."""
    found = [
        WeakestOrgan(organ=organ, attack=name, dice_clean=before, dice=after)
        for index, organ in enumerate(clean.classes)
        for name, result in attacks.items()
        if index > 0
        and (before := mean_known(case.dice[index] for case in clean.cases)) is not None
        and (after := mean_known(case.dice[index] for case in result.cases)) is not None
    ]
    return max(found, key=lambda one: one.dice_clean - one.dice, default=None)


def _lost_rate(result: Result) -> float | None:
    return rate(sum(case.lost or 0 for case in result.cases), sum(case.organs for case in result.cases))


def _total(counts: Sequence[int | None]) -> int | None:
    """Return the sum, or ``None`` if one is unknown: a part of the cost is not the cost."""
    return None if None in counts else sum(one for one in counts if one is not None)

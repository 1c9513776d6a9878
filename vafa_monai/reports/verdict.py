"""Whether the numbers of a model can be believed, and the one that it is quoted by, in words that stand above them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from vafa_monai.attacks.threat import Threat, threat_of
from vafa_monai.audit.audited_model import Measured
from vafa_monai.audit.engine import CHECKS
from vafa_monai.audit.unseen_checks import UNSEEN, unseen
from vafa_monai.data.page import interval
from vafa_monai.reports.statistics import Interval, mean_interval, rate
from vafa_monai.results.attack_name import CLEAN, attack_order, attack_title
from vafa_monai.results.audit import Audit, AuditCheck
from vafa_monai.results.case import mean_known
from vafa_monai.results.document import Role
from vafa_monai.results.result import Result
from vafa_monai.results.result_set import Comparison, is_headline

__all__ = ["NOT_AUDITED", "Headline", "ModelSummary", "measured_of", "model_summary"]

NOT_AUDITED = "NOT AUDITED"
SHOWN = 12  # digits of a hash
BUDGETS = ("eps", "q_max", "block_size")
SAME = 1e-5  # a document holds six digits of a budget
NEAR = 1e-3  # of the deviation: what devices differ by
NOTHING = Interval(n=0, mean=None, low=None, high=None)


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The number that a model is quoted by: its foreground DSC under the attack ensemble, and under nothing else.

    Args:
        attack: name of the ensemble with its version, such as ``"VolAA 1"``; ``None`` if it was not run.
        threat: which changes it may make.
        dice: foreground DSC over cases.
    """

    attack: str | None
    threat: str | None
    dice: Interval

    def __str__(self) -> str:
        """Say it in a sentence."""
        if self.attack is None or self.dice.mean is None:
            return "The attack ensemble (VolAA) was not run, so there is no number to quote this model by."
        return (
            f"{self.attack} leaves a DSC of {interval(self.dice.mean, self.dice.low, self.dice.high)}: {self.threat}."
        )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A status (``PASS``, ``WARN``, ``FAIL`` or ``NOT AUDITED``), and what it means for the numbers of a model."""

    model: str
    status: Annotated[str, Field(pattern="^(PASS|WARN|FAIL|NOT AUDITED)$")]
    text: str


def judge(model: str, results: Sequence[Result], audit: Audit | None) -> tuple[Verdict, Headline]:
    """Return the verdict on the numbers of a model, and the number; an audit of anything else says nothing about them.

    Args:
        model: label of the model.
        results: its results.
        audit: its audit, or ``None``.
    """
    measured = _measured(results)
    if audit is None:
        text = "Nothing has checked that the attacks work on this model, so its numbers under attack may be too good."
        return Verdict(model=model, status=NOT_AUDITED, text=f"{text} {measured}"), measured
    other = _difference(results, audit)
    if other is not None:
        text = f"The audit beside it is of other {other}, so it says nothing about the numbers."
        return Verdict(model=model, status=NOT_AUDITED, text=f"{text} {measured}"), measured
    headline = _audited(audit) if measured.attack is None else measured
    text, worse = _words(audit, headline) + _part(results, audit), _worse(results, headline, audit)
    status = "WARN" if worse and audit.verdict == "PASS" else audit.verdict
    return Verdict(model=model, status=status, text=text + worse), headline


def _ensemble(results: Sequence[Result]) -> Result | None:
    """Return the result of the ensemble, and of several the first in the order of the report."""
    found = {result.attack: result for result in results if is_headline(result)}
    return found[attack_order(found)[0]] if found else None


def _measured(results: Sequence[Result]) -> Headline:
    """Return the headline among results."""
    result = _ensemble(results)
    if result is None:
        return Headline(attack=None, threat=None, dice=NOTHING)
    return Headline(
        attack=str(result.settings.get("name", result.attack)),
        threat=str(threat_of(result.settings)),
        dice=mean_interval([case.foreground_dice for case in result.cases]),
    )


def _audited(audit: Audit) -> Headline:
    """Return what the audit itself measured of the ensemble."""
    settings, checks = audit.document["settings"], audit.document["checks"]
    found: Mapping[str, Any] = next((check for check in checks if check["name"] == "statistics"), {})
    details = found.get("details", {})
    if not {"mean", "low", "high"} <= details.keys() or not isinstance(found.get("value"), (int, float)):
        return Headline(attack=None, threat=None, dice=NOTHING)
    return Headline(
        attack=str(settings.get("attack", "VolAA")),
        threat=str(_audited_threat(audit)),
        dice=Interval(n=int(found["value"]), **{name: details[name] for name in ("mean", "low", "high")}),
    )


def _audited_threat(audit: Audit) -> Threat:
    """Return which changes the ensemble of an audit may make."""
    return threat_of({**audit.document["settings"], "_target_": "vafa_monai.attacks.AttackEnsemble", "attack": None})


def _difference(results: Sequence[Result], audit: Audit) -> str | None:
    """Say what the audit is of that the numbers are not; nothing if it is of the same."""
    hashes = sorted({str(result.checkpoint.get("sha256")) for result in results})
    if audit.sha256 is None or hashes != [audit.sha256]:
        shown = ", ".join(one[:SHOWN] for one in hashes)
        return f"weights ({str(audit.sha256)[:SHOWN]}) than the numbers ({shown})"
    if not any(check.status != "SKIP" for check in audit.checks):
        return "things: it asked no check"
    document = audit.document
    for result in results:
        if list(result.classes) != document["classes"]:
            return f"classes ({document['classes']}) than the numbers ({list(result.classes)})"
        audited, measured = set(document["cases"]), {case.case for case in result.cases}
        if not audited or not (audited <= measured or measured <= audited):
            return f"cases ({len(audited - measured)} of {len(audited)} are not those of {result.attack})"
        images = _other_images(result, document.get("inputs") or {})
        if images:
            return f"images ({', '.join(images)} of {result.attack})"
        changed = _other_settings(result, document["settings"])
        if changed:
            return f"settings ({changed} of {result.attack})"
    return None


def _other_images(result: Result, audited: Mapping[str, Any]) -> list[str]:
    """Name the cases whose image the network got otherwise in the audit: another volume, or prepared in another way."""
    names = []
    for case in result.document["cases"]:
        measured, known = case.get("input"), audited.get(case["case"])
        if not measured or not known:
            continue
        near = all(abs(measured[name] - known[name]) <= NEAR * (known["std"] or 1) for name in ("mean", "std"))
        names += [] if near and measured["shape"] == known["shape"] else [case["case"]]
    return names


def _part(results: Sequence[Result], audit: Audit) -> str:
    """Say of how many cases an audit is, where these are not those of the numbers."""
    audited, measured = len(audit.document["cases"]), max(len(result.cases) for result in results)
    return "" if audited == measured else f" The audit is of {audited} cases, the numbers are of {measured}."


def _worse(results: Sequence[Result], headline: Headline, audit: Audit) -> str:
    """Name the attacks that leave far less than the headline, by changes that it does not speak of or did not find."""
    if headline.dice.mean is None:
        return ""
    found = _ensemble(results)
    threat = _audited_threat(audit) if found is None else threat_of(found.settings)
    dice = dict.fromkeys(audit.document["cases"], headline.dice.mean)  # by case the audit does not say
    dice = dice if found is None else dict(measured_of(found).dice)
    others = [measured_of(one) for one in results if one.role == "attack" and not is_headline(one)]
    worse = [one for one in unseen(dice, threat, others) if one.gap > UNSEEN and not one.larger]
    named = "; ".join(f"{attack_title(one.name)} leaves {one.dice:.3f} ({one.threat})" for one in worse)
    return f" That number does not speak of other attacks that do more harm: {named}." if worse else ""


def measured_of(result: Result) -> Measured:
    """Return a result as an audit takes it in."""
    dice = {case.case: _number(case.foreground_dice) for case in result.cases}
    return Measured(name=result.attack, threat=threat_of(result.settings), dice=dice)


def _number(dice: float | None) -> float:
    """Return a DSC, NaN where it is undefined."""
    return math.nan if dice is None else dice


def _other_settings(result: Result, audited: Mapping[str, Any]) -> str:
    """Name the settings of a result that the audit has otherwise: the intensities, and the budgets of the ensemble."""
    intensity = result.document.get("intensity") or {}
    pairs = {"value_range": (intensity.get("value_range"), audited.get("value_range"))}
    if is_headline(result):
        pairs |= {name: (result.settings.get(name), audited.get(name)) for name in BUDGETS}
    return ", ".join(name for name, pair in pairs.items() if None not in pair and not _same(*pair))


def _same(one: Any, other: Any) -> bool:
    """Tell whether two numbers or lists of numbers are equal, to the digits of a document."""
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return abs(one - other) <= SAME * max(abs(one), abs(other))


def _words(audit: Audit, headline: Headline) -> str:
    """Say what the checks found and what follows."""
    failed, warned, skipped = (audit.of_status(status) for status in ("FAIL", "WARN", "SKIP"))
    ran = len(audit.checks) - len(skipped)
    left = f" {_count(skipped, 'was', 'were')} skipped." if skipped else ""
    missing = [check.id for check in CHECKS if check.id not in {one.id for one in audit.checks}]
    left += f" Not asked: {', '.join(missing)}." if missing else ""
    if audit.verdict == "FAIL":
        text = f"Do not use the numbers under attack as evidence of robustness. Failed: {_titles(failed)}."
        return text + (f" Warnings: {_titles(warned)}." if warned else "") + left
    if audit.verdict == "WARN":
        text = f"{headline} The attacks may be weaker than they could be. Warnings: {_titles(warned)}"
        return f"{text}; the other {ran - len(warned)} of {ran} checks passed.{left}"
    text = f"{headline} All {ran} checks passed: the attacks do what they must, and the numbers hold for these attacks."
    return text + left


def _titles(checks: Sequence[AuditCheck]) -> str:
    return "; ".join(f"{check.title} ({check.id})" for check in checks) or "none by itself"


def _count(checks: Sequence[AuditCheck], one: str, many: str) -> str:
    return f"{len(checks)} {one if len(checks) == 1 else many}"


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
        rms_grey: root mean square of its change in gray levels.
    """

    threat: str
    role: Role
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

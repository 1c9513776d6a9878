"""Sentences that follow from the numbers of a report, whichever way they fall; conditions on them are in caution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from vafa_monai.data.page import MINUS, fixed, percent, points
from vafa_monai.reports.table import Row, drop_share, table_rows
from vafa_monai.results.attack_name import CLEAN, FREQUENCY_CONTROLS, attack_title
from vafa_monai.results.case import mean_known
from vafa_monai.results.result import Result
from vafa_monai.results.result_set import Comparison, incomparable, is_headline, share_is_fair

__all__ = ["Statement", "findings", "warnings_of"]

CASES_FOR_A_CLAIM = 20
LARGEST_DIFFERENCE = 0.001
SHOWN = 6  # names in a sentence


def cautions(results: Sequence[Result]) -> list[str]:
    """Return what a reader has to know before using the numbers, one sentence each."""
    comparison = Comparison(results)
    return [
        _size(results),
        *_missing_clean(comparison),
        *_unequal_settings(comparison),
        *_unequal_means(results),
    ]


def warnings_of(results: Sequence[Result]) -> list[str]:
    """Return what makes numbers other than they look, one sentence each: missing cases, unlike data or versions."""
    comparison = Comparison(results)
    return [
        *_failed(results),
        *_unequal_cases(results),
        *_unlike(comparison),
        *_of_unknown_origin(results),
    ]


def _failed(results: Sequence[Result]) -> list[str]:
    """Name the cases that are not in the means."""
    return [
        f"{len(one.failed)} of {len(one.failed) + len(one.cases)} cases failed on {one.model} under "
        f"{attack_title(one.attack)} and are in none of its figures: "
        f"{'; '.join(f'{case} ({error})' for case, error in one.failed.items())}"
        for one in results
        if one.failed
    ]


def _unlike(comparison: Comparison) -> list[str]:
    """Name the attacks of which the models were not measured alike, so that the report does not compare them."""
    names: dict[str, list[str]] = {}
    for model in comparison.others:
        for attack in comparison.attacks():
            pair = comparison.get(comparison.reference, attack), comparison.get(model, attack)
            reason = None if None in pair else incomparable(*pair)  # type: ignore[arg-type]
            if reason is not None:
                names.setdefault(f"{comparison.reference} and {model}: {reason}", []).append(attack_title(attack))
    return [f"Not compared, because measured unlike for {why}: {', '.join(attacks)}." for why, attacks in names.items()]


def _of_unknown_origin(results: Sequence[Result]) -> list[str]:
    """Name the results that do not say which data or evaluation they are of."""
    names = [f"{one.model}/{one.attack}" for one in results if not one.says_its_origin]
    text = "These results do not say of which data and evaluation they are, so these may differ"
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return [f"{text}: {shown}."] if names else []


def _size(results: Sequence[Result]) -> str:
    """State the number of cases and seeds, and what does not follow from few."""
    counts = sorted({len(result.cases) for result in results})
    seeds = sorted({str(result.seed) for result in results})
    cases = f"{counts[0]} case{'s' * (counts[0] > 1)}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} cases"
    text = f"Measured on {cases} with seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"
    if counts[0] < CASES_FOR_A_CLAIM:
        return f"{text}: the numbers describe these cases; no claim about a population follows from them."
    return f"{text}."


def _missing_clean(comparison: Comparison) -> list[str]:
    """Name models whose drops cannot be computed."""
    names = [model for model in comparison.models if comparison.clean_dice(model) is None]
    return [f"There is no clean run ({CLEAN}) of the {name} model, so its drops are unknown." for name in names]


def _unequal_cases(results: Sequence[Result]) -> list[str]:
    """Name the results that were not measured on the cases of the first."""
    first = {case.case for case in results[0].cases}
    names = [f"{r.model}/{r.attack}" for r in results if {case.case for case in r.cases} != first]
    if not names:
        return []
    return [
        f"Not the same cases as {results[0].model}/{results[0].attack}, so not comparable with it: {', '.join(names)}."
    ]


def _unequal_settings(comparison: Comparison) -> list[str]:
    """Name the attacks that were not the same for every model."""
    names = []
    for attack in comparison.attacks():
        settings = [r.settings for model in comparison.models if (r := comparison.get(model, attack))]
        if any(one != settings[0] for one in settings):
            names.append(attack_title(attack))
    return [f"Settings differ between the models for: {', '.join(names)}."] if names else []


def _unequal_means(results: Sequence[Result]) -> list[str]:
    """Name the results whose summary is not the mean of their cases; undefined values leave the way to average open."""
    names = []
    for result in results:
        values = [value for case in result.cases for value in case.dice[1:]]
        mean, summary = mean_known(values), result.summary["dice"]
        if None in values or mean is None or (summary is not None and abs(mean - summary) <= LARGEST_DIFFERENCE):
            continue
        names.append(f"{result.model}/{result.attack}")
    return [f"The mean DSC in the summary is not the mean of the cases for: {', '.join(names)}."] if names else []


CLEAN_TOLERANCE = 0.01
ROUNDING = 1e-9  # a share of exactly one half must not fail by its last bit


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence and the numbers in it.

    Args:
        kind: ``"target"``, ``"clean"``, ``"worse"``, ``"drop"``, ``"control"``, ``"caution"``, or ``"warning"``, which
            says that a number is other than it looks.
        text: the sentence.
        met: whether a target is met; ``None`` where there is none or it cannot be judged.
        figures: the numbers, DSC as fractions.
    """

    kind: Annotated[str, Field(pattern="^(target|clean|worse|drop|control|caution|warning)$")]
    text: str
    met: bool | None = None
    figures: Mapping[str, float | str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Loss:
    """A row whose DSC are known, with and without the attack."""

    row: Row
    clean: float
    dice: float

    @property
    def drop(self) -> float:
        """DSC lost to the attack."""
        return self.clean - self.dice


Losses = Mapping[tuple[str, str], _Loss]


def findings(
    results: Sequence[Result], *, trained_on: str | None = None, warnings: Sequence[str] = ()
) -> list[Statement]:
    """Say what the results show: warnings first, the target, what attacks cost, what controls explain, what to mind.

    Args:
        results: what :func:`load_results` gave back.
        trained_on: the attack that every model but the reference was trained on. Targets are judged under it and
            under the attack ensemble, if it was run.
        warnings: what else has to be said before anything.
    """
    rows = table_rows(results)
    models = list(dict.fromkeys(row.model for row in rows))
    attacks = list(dict.fromkeys(row.attack for row in rows if row.role == "attack"))
    losses = {
        (row.model, row.attack): _Loss(row, row.dice_clean, row.dice)
        for row in rows
        if row.dice is not None and row.dice_clean is not None
    }
    found = [Statement(kind="warning", text=text) for text in (*warnings, *warnings_of(results))]
    comparison = Comparison(results)
    judged = {result.attack: _holds(result) for result in results if is_headline(result)}
    judged |= {} if trained_on is None or trained_on in judged else {trained_on: HALVED}
    found += [
        _target(losses, comparison, model, attack, rule) for attack, rule in judged.items() for model in models[1:]
    ]
    found += _clean(losses, models)
    found += [_worse(rows, comparison, model) for model in models[1:]]
    found += [finding for attack in attacks for finding in _drop(losses, models, attack)]
    pairs = [(attack, model) for attack in attacks for model in models]
    found += [finding for attack, model in pairs for finding in _control(losses, comparison, model, attack)]
    return found + [Statement(kind="caution", text=text) for text in cautions(results)]


def adversarial_share(dice_clean: float, dice_control: float, dice_attack: float) -> float | None:
    """Return ``(control - attack) / (clean - attack)``: the part of a drop in DSC that the control does not explain.

    ``None`` if the attack costs less than half a point. Below 0 the control costs more than the attack; above 1 the
    control raises the DSC.

    Example:
        >>> round(adversarial_share(0.9, 0.85, 0.7), 2)
        0.75
    """
    return drop_share(dice_control - dice_attack, dice_clean - dice_attack)


@dataclass(frozen=True)
class _Rule:
    """What a hardened model is asked for: the largest share of the reference's drop, and how it is told."""

    largest: float
    met: str
    missed: str


def _holds(result: Result) -> _Rule:
    """Return what is asked under the attack ensemble, by the name that tells its version and what is not standard."""
    name = str(result.settings.get("name", result.attack))
    start = "The {model} model "
    end = f" under {name}, which costs it"
    return _Rule(largest=0.6, met=f"{start}holds{end}", missed=f"{start}does not hold{end}")


HALVED = _Rule(
    largest=0.5,
    met="Target met: {title}, on which the {model} model was trained, costs it",
    missed="Target not met: {title}, on which the {model} model was trained, costs it",
)


def _target(losses: Losses, comparison: Comparison, model: str, attack: str, rule: _Rule) -> Statement:
    """Judge a model: at most a share of the reference's drop, at a clean DSC at most 0.01 lower."""
    title, reference = attack_title(attack), comparison.reference
    before, after = losses.get((reference, attack)), losses.get((model, attack))
    if before is None or after is None:
        missing = f"the clean DSC or the one under {title} is missing for the {reference} or the {model} model"
        return Statement(kind="target", text=f"Target not judged: {missing}.")
    if not (_fair(comparison, model, attack) and _fair(comparison, model, CLEAN)):
        reason = f"the {reference} and the {model} model were not measured alike"
        return Statement(kind="target", text=f"Target not judged: {reason}.")
    share = drop_share(after.drop, before.drop)
    figures: dict[str, float | str | None] = {"attack": attack, "model": model, "share": share}
    figures |= {"drop_reference": before.drop, "drop": after.drop}
    figures |= {"dice_clean_reference": before.clean, "dice_clean": after.clean}
    if share is None:
        reason = f"{title} costs the {reference} model {_cost(before)}, so there is nothing to judge by"
        return Statement(kind="target", text=f"Target not judged: {reason}.", figures=figures)
    kept = after.clean >= before.clean - CLEAN_TOLERANCE - ROUNDING
    met = share <= rule.largest + ROUNDING and kept
    head = (rule.met if met else rule.missed).format(model=model, title=title)
    text = (
        f"{head} {_cost(after)} of foreground DSC and the {reference} model {_cost(before)}; the ratio is "
        f"{percent(share, 1)}, at most {percent(rule.largest)} is allowed. The clean DSC is {after.clean:.4f} "
        f"against {before.clean:.4f}, at least {before.clean - CLEAN_TOLERANCE:.4f} is needed."
    )
    return Statement(kind="target", text=text, met=met, figures=figures)


def _clean(losses: Losses, models: Sequence[str]) -> list[Statement]:
    """Say what the models reach without attack."""
    dice = {model: losses[model, CLEAN].dice for model in models if (model, CLEAN) in losses}
    text = f"Without attack the foreground DSC is {_join([f'{value:.3f} ({model})' for model, value in dice.items()])}."
    return [Statement(kind="clean", text=text, figures=dict(dice))] if dice else []


def _fair(comparison: Comparison, model: str, attack: str) -> bool:
    """Tell whether an attack was measured on a model and on the reference, and alike."""
    first, second = comparison.get(comparison.reference, attack), comparison.get(model, attack)
    return first is not None and second is not None and share_is_fair(first, second)


def _worse(rows: Sequence[Row], comparison: Comparison, model: str) -> Statement:
    """Name everything under which a model scores lower than the reference, to the three digits that are shown."""
    reference = comparison.reference
    dice = {(row.model, row.attack): round(row.dice, 3) for row in rows if row.dice is not None}
    names = [row.attack for row in rows if row.model == model and row.attack != CLEAN]
    pairs = {
        name: (dice[reference, name], dice[model, name])
        for name in names
        if {(reference, name), (model, name)} <= dice.keys() and _fair(comparison, model, name)
    }
    worse = {name: pair for name, pair in pairs.items() if pair[1] < pair[0]}
    parts = [f"{attack_title(name)} ({new:.3f} against {old:.3f})" for name, (old, new) in worse.items()]
    start = f"The {model} model scores lower than the {reference} model under {len(worse) or 'none'} of "
    text = f"{start}{len(pairs)} attacks and controls{': ' * bool(parts)}{_join(parts)}."
    figures = {name: new - old for name, (old, new) in worse.items()}
    return Statement(kind="worse", text=text, figures={"model": model, **figures})


def _drop(losses: Losses, models: Sequence[str], attack: str) -> list[Statement]:
    """Say what an attack costs each model."""
    known = [losses[model, attack] for model in models if (model, attack) in losses]
    if not known or attack == CLEAN:
        return []
    parts = [f"the {one.row.model} model {_cost(one)}{_of_reference(one, models[0])}" for one in known]
    text = f"{attack_title(attack)} costs {_join([f'{parts[0]} of foreground DSC', *parts[1:]])}."
    return [Statement(kind="drop", text=text, figures={"attack": attack} | {one.row.model: one.drop for one in known})]


def _control(losses: Losses, comparison: Comparison, model: str, attack: str) -> list[Statement]:
    """Say how much of the drop under a frequency attack each of its controls leaves unexplained."""
    loss = losses.get((model, attack))
    names = [name for name in FREQUENCY_CONTROLS.get(attack, ()) if (model, name) in losses]
    names = [name for name in names if comparison.same_cases(model, attack, name)]
    if loss is None or not names:
        return []
    controls = {name: losses[model, name] for name in names}
    shares = {name: adversarial_share(loss.clean, control.dice, loss.dice) for name, control in controls.items()}
    text = f"{loss.row.title} costs the {model} model {_cost(loss)}{_rms(loss)}"
    parts = [_explain(controls[name], share) for name, share in shares.items() if share is not None]
    text += f". Of this, the adversarial share is {_join(parts)}." if parts else ": too little to divide."
    return [Statement(kind="control", text=text, figures={"attack": attack, "model": model, **shares})]


def _explain(control: _Loss, share: float) -> str:
    """Say what is left of a drop beyond one control."""
    left = percent(share) if share > 0 else "nothing"
    return f"{left} beyond {control.row.title} ({_cost(control)}{_rms(control, ', ')})"


def _cost(loss: _Loss) -> str:
    lost = points(loss.drop)
    return f"nothing (it gains {lost[1:]} points)" if lost.startswith(MINUS) else f"{lost} points"


def _rms(loss: _Loss, start: str = "") -> str:
    """Write how much the image was changed, in brackets unless it goes on from ``start``."""
    text = f"rms {fixed(loss.row.rms_grey, 1)} gray levels"
    return f"{start}{text}" if start else f" ({text})"


def _of_reference(loss: _Loss, reference: str) -> str:
    share = loss.row.share
    return "" if share is None or share < 0 else f" ({percent(share)} of the {reference} model's)"


def _join(parts: Sequence[str]) -> str:
    """Join with commas and a last "and"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)

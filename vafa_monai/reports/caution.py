"""Conditions under which the numbers of a report hold, and what has to be known before any of them is read."""

from __future__ import annotations

from collections.abc import Sequence

from vafa_monai.reports.attack_name import CLEAN, attack_title
from vafa_monai.reports.case import mean_known
from vafa_monai.reports.comparison import Comparison, incomparable
from vafa_monai.reports.result import Result

__all__ = ["cautions", "warnings_of"]

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
    text = "Nothing shows that these results are of the same data and evaluation, which they do not tell"
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

"""The means of a result, of the figures of its cases as the file holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vafa_monai.handlers.provenance import require_different
from vafa_monai.metrics import QUALITY_NAMES

__all__ = ["PRESENCE_NAMES", "merge_results", "summarize"]

PRESENCE_NAMES = ("lost", "invented")
PER_CLASS = ("dice", "hd95_mm", "nsd")
OF_THE_RUN = ("seconds", "cost", "cases", "summary", "slices", "notes", "device", "checkpoint", "made_of")


def summarize(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over cases of the means over the organs that a case has, and how many organs were lost.

    A figure of the image is the mean of all cases, or nothing if a case has none.

    Example:
        >>> quality = dict.fromkeys(QUALITY_NAMES, 1.0)
        >>> organs = {"dice": [0.9, 0.5, None], "hd95_mm": [None, 2.0, 4.0], "nsd": [None, 1.0, 0.0]}
        >>> found = summarize([{**organs, "lost": 1, "invented": 0, **quality}])
        >>> found["dice"], found["dice_with_background"], found["hd95_mm"], found["lost"]
        (0.5, 0.7, 3.0, 1)
    """
    organs = {name: _mean([_mean(case[name][1:]) for case in cases]) for name in PER_CLASS}
    quality = {name: [case[name] for case in cases] for name in QUALITY_NAMES}
    return {
        **organs,
        "dice_with_background": _mean([_mean(case["dice"]) for case in cases]),
        **{name: sum(case[name] for case in cases) for name in PRESENCE_NAMES},
        **{name: None if None in values else _mean(values) for name, values in quality.items()},
    }


def merge_results(results: Sequence[dict[str, Any]], slices: str | None) -> dict[str, Any]:
    """Return the result of all cases of results that differ in nothing else, one after the other.

    Args:
        results: documents of one model under one attack with the same settings.
        slices: name of the file beside, with slice and volume of the first case.

    Returns:
        The document; its ``seconds`` are ``None``, because parts are of different runs.

    Raises:
        ValueError: if the results are of different settings, or have a case in common.
    """
    first = {name: value for name, value in results[0].items() if name not in OF_THE_RUN}
    weights = results[0]["checkpoint"]["sha256"]
    for other in results[1:]:
        differing = [name for name in first if other.get(name) != first[name]]
        differing += ["checkpoint"] if other["checkpoint"]["sha256"] != weights else []
        if differing:
            raise ValueError(f"results must differ in their cases alone, got another {differing[0]!r}.")
    cases = [case for result in results for case in result["cases"]]
    require_different([case["case"] for case in cases])
    costs = [result["cost"] for result in results if "cost" in result]
    cost = {way: sum(one[way] for one in costs) for way in costs[0]} if costs else {}
    return {
        **first,
        "checkpoint": results[0]["checkpoint"],
        "device": ", ".join(sorted({result["device"] for result in results})),
        "seconds": None,
        "notes": list(dict.fromkeys(note for result in results for note in result["notes"])),
        "summary": summarize(cases),
        "cases": cases,
        **({"cost": cost} if cost else {}),
        "slices": slices,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers, of six digits; nothing of none."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 6) if known else None

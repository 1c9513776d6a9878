"""What stands under a table: which settings the paper states, which were chosen, and where its text and code differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vafa_monai.workflows.paper_setting import PaperSetting

__all__ = ["paper_cautions", "paper_notes"]

TEST_CASES: Mapping[str, int] = MappingProxyType({"synapse": 12, "acdc": 40})


@cache
def _texts() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("paper_notes.json").read_text(encoding="utf-8"))


def paper_notes(
    setting: PaperSetting, *, whole_volume: bool, quick: Mapping[str, Any], changed: Mapping[str, Any]
) -> list[str]:
    """Return what stands under a table.

    Args:
        setting: the table.
        whole_volume: attack through the sliding window instead of window by window.
        quick: config ids and values of a smoke run; empty if it is none.
        changed: config ids and values that the caller set.
    """
    overlays = {one.overlay for one in setting.measurements}
    voxels = "pgd" in overlays
    chosen = {
        "dsc": True,
        "lpips": "lpips" in setting.metrics,
        "hd95": "hd95" in setting.metrics,
        "preset": True,
        "voxels": voxels,
        "voxels_acdc": voxels and setting.bundle.startswith("acdc"),
        "controls": "identity_stretch" in overlays,
        "tiles": not whole_volume,
        "whole_volume": whole_volume,
    }
    notes = [text.format(**_budgets(setting)) for text in _texts()[setting.table]]
    notes += [_texts()[name] for name, there in chosen.items() if there]
    notes += [f"Changed for the smoke run: {_listed(quick)}."] if quick else []
    return notes + ([f"Changed by the caller: {_listed(changed)}."] if changed else [])


def paper_cautions(setting: PaperSetting, *, cases: int, synthetic: bool, quick: bool) -> list[str]:
    """Return what has to be known before a number is compared with the paper's.

    Args:
        setting: the table.
        cases: number of cases that were measured.
        synthetic: whether they are phantoms.
        quick: whether it was a smoke run.
    """
    chosen = {"quick": quick, "synthetic": synthetic, "checkpoints": True}
    cautions = [_texts()[name] for name, there in chosen.items() if there]
    published = TEST_CASES[setting.bundle.partition("_")[0]]
    if cases != published:
        cautions += [f"Measured on {cases} case{'s' * (cases != 1)}; the paper's test split has {published}."]
    return cautions


def _budgets(setting: PaperSetting) -> dict[str, Any]:
    """Return what the notes name, as the measurements have it."""
    overrides = [one.overrides for one in setting.measurements]
    eps = next((one["eps"] for one in overrides if "eps" in one), "")
    q_max = next((one["q_max"] for one in overrides if "q_max" in one), None)
    return {"levels": eps.partition("/")[0].strip("$ "), "q_max": q_max}


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())

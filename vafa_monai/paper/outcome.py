"""What was measured of a table, put into its rows, with what stands around it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import vafa_monai
from vafa_monai.data.files import read_json, sha256
from vafa_monai.paper.row import PaperColumn, PaperRow, attack_row, metric_columns, model_row, paper_keys, paper_row
from vafa_monai.paper.run import QUICK_EVALUATION, Model, ModelOrigin, PaperRuns
from vafa_monai.paper.setting import FIGURE, PaperSetting
from vafa_monai.paper.table import PaperModel, PaperTable, write_paper_table
from vafa_monai.reports.figure import attack_figure
from vafa_monai.results.result import Result

__all__ = ["ReproductionOutcome", "write_outcome"]

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


EXTRA = ("dsc_organs", "lost", "rms_grey")


@dataclass(frozen=True, kw_only=True)
class ReproductionOutcome:
    """What came of every row: a result or a sentence, by model and attack, and where the models are from."""

    results: dict[tuple[str, str], Result] = field(default_factory=dict)
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    origins: dict[str, ModelOrigin] = field(default_factory=dict)


def write_outcome(
    outcome: ReproductionOutcome, runs: PaperRuns, commands: Sequence[str], datalist: Path
) -> dict[str, Path]:
    """Write the table of an outcome, with the picture if it is the figure.

    Returns:
        The files by name.
    """
    setting, settings = runs.setting, runs.settings
    columns, rows = _models(outcome, runs) if setting.hardenings else _attacks(outcome, runs)
    data = read_json(datalist, "datalist")
    cases = max((len(result.cases) for result in outcome.results.values()), default=0)
    quick = {**QUICK_EVALUATION, **runs.quick_training()} if settings.quick else {}
    table = PaperTable(
        name=setting.table,
        title=setting.title,
        bundle=setting.bundle,
        columns=columns,
        rows=rows,
        notes=paper_notes(setting, whole_volume=settings.whole_volume, quick=quick, changed=settings.overrides),
        cautions=paper_cautions(setting, cases=cases, synthetic=bool(data.get("synthetic")), quick=settings.quick),
        data_note=str(data.get("description", "")),
        models=_checkpoints(outcome, runs),
        commands=[f"cd {runs.bundle}", *commands],
        settings=_settings(runs, datalist),
        picture=_picture(outcome, runs),
    )
    return write_paper_table(table, runs.output)


def _attacks(outcome: ReproductionOutcome, runs: PaperRuns) -> tuple[list[PaperColumn], list[PaperRow]]:
    """Return one row for each attack on the standard model."""
    setting = runs.setting
    extra = [*(["hd95_found"] if "hd95" in setting.metrics else []), *EXTRA]
    in_paper = bool(paper_keys(setting.table, setting.bundle))
    columns = metric_columns([*setting.metrics, *extra], setting.digits, in_paper)
    rows = [
        attack_row(
            outcome.results.get(("standard", one.name)),
            paper_row(setting.table, setting.bundle, one.key),
            title=one.title,
            columns=columns,
            in_paper=one.key is not None,
            failure=outcome.failures.get(("standard", one.name)),
        )
        for one in setting.measurements
    ]
    return columns, rows


def _models(outcome: ReproductionOutcome, runs: PaperRuns) -> tuple[list[PaperColumn], list[PaperRow]]:
    """Return one row for each model, the hardened ones in the paper's order, then the standard one."""
    setting = runs.setting
    columns = [
        PaperColumn(name=one.key or one.name, title=one.title, in_paper=one.key is not None, digits=setting.digits)
        for one in setting.measurements
    ]
    standard, *hardened = runs.models()
    return columns, [_model(outcome, runs, model, columns) for model in (*hardened, standard)]


def _model(outcome: ReproductionOutcome, runs: PaperRuns, model: Model, columns: Sequence[PaperColumn]) -> PaperRow:
    """Return the row of one model."""
    setting, hardening = runs.setting, model.hardening
    found, failed = {}, {}
    for one in setting.measurements:
        pair = (model.name, one.name)
        if pair in outcome.results:
            found[one.key or one.name] = outcome.results[pair]
        elif pair in outcome.failures:
            failed[one.title] = outcome.failures[pair]
    sentences = set(failed.values())
    whole = len(failed) == len(columns) and len(sentences) == 1
    failure = sentences.pop() if whole else "; ".join(f"{name}: {text}" for name, text in failed.items())
    return model_row(
        found,
        {} if hardening is None else paper_row(setting.table, setting.bundle, hardening.key),
        title=model.title,
        columns=columns,
        setting="not hardened" if hardening is None else hardening.setting,
        failure=failure or None,
    )


def _checkpoints(outcome: ReproductionOutcome, runs: PaperRuns) -> list[PaperModel]:
    """Return the models that there are."""
    return [
        PaperModel(
            title=model.title,
            path=runs.shown(model.file),
            sha256=sha256(model.file),
            origin=origin.words,
            seconds=origin.seconds,
        )
        for model in runs.models()
        if (origin := outcome.origins.get(model.name)) is not None
    ]


def _settings(runs: PaperRuns, datalist: Path) -> dict[str, Any]:
    """Return what a reader needs to do the same."""
    settings = runs.settings
    return {
        "table": settings.table,
        "bundle": runs.setting.bundle,
        "quick": settings.quick,
        "seed": settings.seed,
        "whole_volume": settings.whole_volume,
        "overrides": dict(settings.overrides),
        "datalist": {"path": str(datalist), "sha256": sha256(datalist)},
        "vafa_monai": vafa_monai.__version__,
    }


def _picture(outcome: ReproductionOutcome, runs: PaperRuns) -> Path | None:
    """Draw the figure, if it is one and there is something to draw."""
    if runs.setting.table != FIGURE or not outcome.results:
        return None
    attacks = [one.name for one in runs.setting.measurements[1:]]
    return attack_figure(list(outcome.results.values()), runs.output / f"{FIGURE}.png", attacks=attacks)

"""Commands that end in a report: demo, report, reproduce."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vafa_monai.cli.argument import beside, overrides_of
from vafa_monai.cli.say import say
from vafa_monai.paper.reproduce import Reproduction
from vafa_monai.paper.run import ReproductionSettings
from vafa_monai.reports.build import build_report
from vafa_monai.reports.compare import compare_models, leaderboard_rows, write_comparison, write_leaderboard
from vafa_monai.runs.bundle_run import BundleRun
from vafa_monai.runs.demo import Demo, DemoSettings

__all__ = ["compare", "demo", "leaderboard", "report", "reproduce"]


def demo(output: str = "vafa_demo", seed: int = 0, quick: bool = False, audit: bool | None = None) -> None:
    """Attack, harden and audit a small brain segmentation, and write a report; about a quarter of an hour on two cores.

    Called again it continues where it stopped.

    Args:
        output: folder for the data, the bundle with its models and the report.
        seed: seed of training and attacks.
        quick: a smoke run with two cases and a model that has hardly trained.
        audit: audit both models at the end, which is half of the time; a smoke run does not unless it is asked to.
    """
    files = Demo(output, DemoSettings(seed=seed, quick=quick, audit=audit), say=say).run()
    say("")
    for name, path in files.items():
        say(f"{name}: {path}")


def report(
    results: str, output: str | None = None, title: str = "Adversarial robustness", trained_on: str | None = None
) -> None:
    """Write the report of a folder of results.

    Args:
        results: folder with ``<model>/<attack>.json``, as ``evaluate`` writes it (``eval/results`` of a bundle).
        output: folder of the report; by default the one above ``results``.
        title: its title.
        trained_on: name of the attack that the other models were hardened against, to be judged by it.
    """
    folder = Path(results).parent if output is None else Path(output)
    files = build_report(results, folder, title=title, trained_on=trained_on)
    for name, path in files.items():
        say(f"{name}: {path}")


def reproduce(  # noqa: PLR0913 - the arguments of the reproduction
    table: str,
    bundle: str,
    dataset_dir: str,
    output: str | None = None,
    quick: bool = False,
    seed: int = 0,
    whole_volume: bool = False,
    bundle_name: str | None = None,
    checkpoint: str | None = None,
    **overrides: Any,
) -> None:
    """Measure a table or the figure of the paper again, with the paper's values beside; a second call continues.

    Args:
        table: ``table1`` to ``table6``, or ``figure2``.
        bundle: folder of the bundle, with ``models/model.pt``.
        dataset_dir: folder of the prepared dataset.
        output: folder of the table; by default ``eval/reproduce/<table>`` in the bundle.
        quick: a smoke run: one case, two steps, models that have hardly trained.
        seed: seed of trainings and attacks.
        whole_volume: attack the whole volume instead of tile by tile, as published.
        bundle_name: dataset and network, such as ``synapse_unetr``; by default the name of the folder tells.
        checkpoint: weights of the standard model, a path from here or from the bundle; by default ``models/model.pt``.
        **overrides: config ids and values, for every run that has them.
    """
    run = BundleRun(bundle=Path(bundle), overlays=["harden", "hardening/vaft_authors", "evaluate"])
    words = beside(overrides, ckpt_path=checkpoint)
    settings = ReproductionSettings(
        table=table,
        bundle=bundle,
        dataset_dir=dataset_dir,
        output=output,
        quick=quick,
        seed=seed,
        whole_volume=whole_volume,
        bundle_name=bundle_name,
        overrides=overrides_of(run, words),
    )
    Reproduction(settings, say=say).run()


def compare(a: str, b: str, output: str = ".", model_a: str | None = None, model_b: str | None = None) -> None:
    """Compare two models by their reports, attack by attack, with paired tests over the cases.

    Args:
        a: ``report.json`` of model A, or its folder.
        b: the same of model B; it may be the same report.
        output: folder of ``comparison.html`` and ``comparison.md``.
        model_a: label of model A, where its report has several.
        model_b: label of model B.
    """
    comparison = compare_models(a, b, first_model=model_a, second_model=model_b)
    for line in comparison.lines():
        say(line)
    say("")
    for name, path in write_comparison(comparison, output).items():
        say(f"{name}: {path}")


def leaderboard(folder: str, output: str | None = None) -> None:
    """Write one sortable table of all reports in a folder and its folders.

    Args:
        folder: the folder; every ``report.json`` in it is read.
        output: the page to write; by default ``leaderboard.html`` in the folder.
    """
    rows = leaderboard_rows(folder)
    path = Path(folder) / "leaderboard.html" if output is None else Path(output)
    say(f"{len(rows)} models: {write_leaderboard(rows, path)}")

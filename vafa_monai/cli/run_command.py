"""Commands that run the configs of one bundle: train, harden, evaluate, attack, benchmark, study."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vafa_monai.cli.argument import beside, checkpoint_files, names, prepared, runs_of, under_attacks
from vafa_monai.cli.command import number, whole
from vafa_monai.cli.say import log, say
from vafa_monai.runs.benchmark import Benchmark
from vafa_monai.runs.bundle_run import BundleRun, hardening_overlays
from vafa_monai.runs.reach import require_read
from vafa_monai.runs.study import ATTACKS, STRENGTHS, Study
from vafa_monai.runs.work import WorkOutcome

__all__ = ["attack", "benchmark", "evaluate", "harden", "study", "train"]

TRACKERS = {"tensorboard": ("tensorboard", "tensorboardX"), "mlflow": ("mlflow",)}


def train(bundle: str, dataset_dir: str | None = None, tracking: str | None = None, **overrides: Any) -> None:
    """Train the standard model of a bundle, to ``models/model.pt``.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data; by default the one of the bundle.
        tracking: ``tensorboard`` or ``mlflow``, where losses and scores are to be seen, too.
        **overrides: config ids and values, such as ``--epochs 20`` or ``--network_def#feature_size 16``.
    """
    trained(bundle, tracked("train", tracking), beside(overrides, dataset_dir=dataset_dir))


def harden(
    bundle: str,
    recipe: str,
    dataset_dir: str | None = None,
    start: str | None = None,
    attack: str | None = None,
    tracking: str | None = None,
    **overrides: Any,
) -> None:
    """Harden the standard model of a bundle by a recipe, to ``models/model_<recipe>.pt``.

    Args:
        bundle: folder of the bundle.
        recipe: name of the recipe, of ``configs/hardening``.
        dataset_dir: folder of the data; by default the one of the bundle.
        start: weights to start from, a path from here or from the bundle; by default ``models/model.pt``.
        attack: name of another attack to train on, of ``configs/attacks``; by default the one of the recipe.
        tracking: ``tensorboard`` or ``mlflow``, where losses and scores are to be seen, too.
        **overrides: config ids and values, such as ``--epochs 20`` or ``--clean_weight 0.3``.
    """
    overlays = [*hardening_overlays(Path(bundle), recipe), *([f"attacks/{attack}"] if attack else [])]
    words = beside(overrides, dataset_dir=dataset_dir, pretrained_file=start)
    trained(bundle, [*overlays, *tracked("train", tracking)], words)


def trained(bundle: str, overlays: list[str], words: dict[str, Any]) -> None:
    """Train by a chain of configs, after its cases were checked."""
    run = prepared(bundle, overlays, words)
    announce(run)
    run.check()
    run.run(progress="train#trainer")


def evaluate(
    bundle: str,
    dataset_dir: str | None = None,
    attack: str = "identity",
    checkpoint: str | None = None,
    tracking: str | None = None,
    **overrides: Any,
) -> None:
    """Evaluate the model of a bundle under an attack; the default attack does nothing.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data; by default the one of the bundle.
        attack: name of the attack, of ``configs/attacks``.
        checkpoint: weights to evaluate, a path from here or from the bundle, several with commas between; by default
            ``models/model.pt`` of the bundle.
        tracking: ``tensorboard`` or ``mlflow``, where the robustness figures are to be seen, too.
        **overrides: config ids and values, such as ``--num_cases 10`` or ``--attack#steps 20``.
    """
    overlays = ["evaluate", f"attacks/{attack}", *tracked("evaluate", tracking)]
    for run in runs_of(bundle, overlays, checkpoint, beside(overrides, dataset_dir=dataset_dir)):
        announce(run)
        state = run.run(progress="validate#evaluator")
        say(f"mean foreground DSC {state.metrics['val_mean_dice']:.4f}")


def attack(
    bundle: str, attack: str, dataset_dir: str | None = None, checkpoint: str | None = None, **overrides: Any
) -> None:
    """Attack the model of a bundle, write the attacked volumes, read them back and evaluate what was read.

    Args:
        bundle: folder of the bundle.
        attack: name of the attack, of ``configs/attacks``.
        dataset_dir: folder of the data; by default the one of the bundle.
        checkpoint: weights to attack, a path from here or from the bundle, several with commas between; by default
            ``models/model.pt`` of the bundle.
        **overrides: config ids and values, such as ``--adv_dir DIR``.
    """
    overlays = ["evaluate", "attack", f"attacks/{attack}"]
    for run in runs_of(bundle, overlays, checkpoint, beside(overrides, dataset_dir=dataset_dir)):
        announce(run)
        state = run.run(progress="validate#evaluator")
        say(f"mean foreground DSC {state.metrics['val_mean_dice']:.4f} before writing the volumes")


def tracked(kind: str, tracking: str | None) -> list[str]:
    """Return the overlay that tracks a run, if it is to be.

    Example:
        >>> tracked("train", None)
        []
    """
    if tracking is None:
        return []
    if tracking not in TRACKERS:
        raise ValueError(f"tracking must be one of {list(TRACKERS)}, got {tracking!r}.")
    if not any(find_spec(package) for package in TRACKERS[tracking]):
        remedy = "pip install 'vafa-monai[tracking]'"
        raise ValueError(f"tracking must be by a package that is installed, got {tracking!r}; {remedy}.")
    return [f"tracking/{kind}_{tracking}"]


def announce(run: BundleRun) -> None:
    """Print the command that a run stands for; it does the same from any folder."""
    log()
    say(f"$ cd {shlex.quote(os.path.abspath(run.bundle))} && {run.command()}")  # noqa: PTH100 - links stay


FAILED = 3


def benchmark(
    bundle: str,
    dataset_dir: str,
    attacks: str = "identity,pgd",
    checkpoint: str = "models/model.pt",
    output: str | None = None,
    title: str = "Adversarial robustness",
    **overrides: Any,
) -> None:
    """Evaluate checkpoints under attacks on all cases; a second call continues, ``torchrun`` shares the work.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        attacks: names of the attacks with commas between, of ``configs/attacks``.
        checkpoint: weights to evaluate, a path from here or from the bundle, several with commas between.
        output: folder of the report; by default ``eval/benchmark`` of the bundle.
        title: title of the report.
        **overrides: config ids and values, for every run, such as ``--attack_steps 100``.
    """
    log(logging.WARNING)
    asked, settings = under_attacks(bundle, attacks, overrides)
    run = Benchmark(
        bundle=Path(bundle),
        dataset_dir=Path(dataset_dir),
        attacks=asked,
        checkpoints=[str(file) for file in checkpoint_files(bundle, checkpoint)],
        output=None if output is None else Path(output),
        overrides=settings,
        title=title,
        say=say,
    )
    require_read([one.run for one in run.settings()], overrides)
    outcome = run.run()
    end_with(outcome)


def study(
    bundle: str,
    dataset_dir: str,
    recipes: str,
    output: str,
    seeds: str = "0",
    attacks: str = ",".join(ATTACKS),
    strengths: str = ",".join(map(str, STRENGTHS)),
    title: str = "Recipes of hardening",
    **overrides: Any,
) -> None:
    """Train by recipes, attack all models alike, report; a second call continues, torchrun shares the work.

    Args:
        bundle: folder of the bundle, which is only read.
        dataset_dir: folder of the data.
        recipes: names of the recipes with commas between, of ``configs/hardening``.
        output: folder of models, records and report.
        seeds: seeds of the trainings with commas between, each of which makes one model a recipe.
        attacks: names of the attacks with commas between, of ``configs/attacks``; ``none`` ends before the first look
            at a test case and tells how all models did on the validation cases: recipes may then be chosen anew.
        strengths: for the curves, multiples of the bundle's strength with commas between, or ``none``.
        title: title of the report.
        **overrides: config ids and values; those of ``train.json`` hold for all runs but where a recipe says its own.
    """
    log(logging.WARNING)
    asked, settings = under_attacks(bundle, ",".join(ATTACKS) if attacks == "none" else attacks, overrides)
    run = Study(
        bundle=Path(bundle),
        dataset_dir=Path(dataset_dir),
        recipes=names("recipes", recipes),
        output=Path(output),
        seeds=[whole("seeds", one) for one in names("seeds", seeds)],
        attacks=asked,
        strengths=[] if strengths == "none" else [number("strengths", one) for one in names("strengths", strengths)],
        overrides=settings,
        title=title,
        train_only=attacks == "none",
        say=say,
    )
    require_read(list({tuple(one.overlays): one for one in run.runs()}.values()), overrides)  # seeds do not matter
    end_with(run.run())


def end_with(outcome: WorkOutcome) -> None:
    """Print what was made and what failed; failures end the command with a code of their own."""
    for name, path in outcome.files.items():
        say(f"{name}: {path}")
    for failure in outcome.failures:
        say(f"failed: {failure['model']}, {failure['attack']}, {failure['case']}: {failure['error']}")
    if outcome.failures:
        sys.exit(FAILED)

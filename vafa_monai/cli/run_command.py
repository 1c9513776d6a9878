"""Commands that run the configs of one bundle: train, harden, evaluate, attack."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vafa_monai.cli.command import parsed
from vafa_monai.cli.say import log, say
from vafa_monai.workflows import BundleRun
from vafa_monai.workflows.override import checkpoint_file
from vafa_monai.workflows.reach import require_read

__all__ = ["attack", "beside", "checkpoint_files", "evaluate", "harden", "names", "overrides_of", "train"]

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
    known = sorted(path.stem for path in (Path(bundle) / "configs" / "hardening").glob("*.json"))
    if known and recipe not in known:
        raise ValueError(f"recipe must be one of {known}, got {recipe!r}.")
    overlays = ["harden", f"hardening/{recipe}", *([f"attacks/{attack}"] if attack else [])]
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


def beside(overrides: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Return the config ids of a run with those that have an option, if it was given.

    Raises:
        ValueError: if an id is given both ways.

    Example:
        >>> beside({"epochs": "2"}, dataset_dir="data", pretrained_file=None)
        {'epochs': '2', 'dataset_dir': 'data'}
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given.keys() & overrides.keys():
        raise ValueError(f"{name} must be given once, got {overrides[name]!r} beside an option for the same.")
    return {**overrides, **given}


def runs_of(bundle: str, overlays: list[str], checkpoint: str | None, words: dict[str, Any]) -> list[BundleRun]:
    """Return the run of every checkpoint, all of them checked before the first begins."""
    if checkpoint is None:
        return [prepared(bundle, overlays, words)]
    files = checkpoint_files(bundle, checkpoint)
    if len(files) > 1 and "model_name" in words:
        raise ValueError(f"model_name must come with one checkpoint, got {words['model_name']!r} for {len(files)}.")
    return [prepared(bundle, overlays, beside(words, ckpt_path=str(file))) for file in files]


def prepared(bundle: str, overlays: list[str], words: Mapping[str, Any]) -> BundleRun:
    """Return a run with what was typed; nothing is written or run yet."""
    run = BundleRun(bundle=Path(bundle), overlays=overlays)
    run = replace(run, overrides=overrides_of(run, words))
    require_read([run], words)
    return run


def overrides_of(run: BundleRun, words: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed for the ids of a run; weights are found from here or from the bundle."""
    weights = {name: words[name] for name in ("ckpt_path", "pretrained_file") if name in words}
    found = {name: str(checkpoint_file(run.bundle, str(word))) for name, word in weights.items()}
    return {**parsed(run.config, words), **found}


def announce(run: BundleRun) -> None:
    """Print the command that a run stands for; it does the same from any folder."""
    log()
    say(f"$ cd {shlex.quote(os.path.abspath(run.bundle))} && {run.command()}")  # noqa: PTH100 - links stay


def checkpoint_files(bundle: str | Path, checkpoint: str | Sequence[str]) -> list[Path]:
    """Return the files of weights that were asked for, one or several with commas between.

    Raises:
        ValueError: if one is not there, or two are the same or of the same name, which labels their results.
    """
    folder = Path(bundle)
    whole = isinstance(checkpoint, str) and any((root / checkpoint).is_file() for root in (Path(), folder))
    files = [checkpoint_file(folder, one) for one in ([str(checkpoint)] if whole else names("checkpoint", checkpoint))]
    if len({file.stem for file in files}) < len(files):
        raise ValueError(f"checkpoint must be files of different names, got {list(map(str, files))!r}.")
    return files


def names(argument: str, values: str | Sequence[str]) -> list[str]:
    """Return names that were given with commas between, as one text or as a list.

    Example:
        >>> names("attacks", "identity, pgd"), names("attacks", "['identity','pgd']")
        (['identity', 'pgd'], ['identity', 'pgd'])
    """
    several = values.strip("[]()").split(",") if isinstance(values, str) else values
    found = [str(value).strip().strip("'\"") for value in several]
    if not all(found):
        raise ValueError(f"{argument} must be names with commas between, got {values!r}.")
    return found

"""What the words of a command line stand for: runs, overrides, checkpoints, lists of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vafa_monai.cli.command import parsed
from vafa_monai.runs.bundle_run import BundleRun
from vafa_monai.runs.override import checkpoint_file
from vafa_monai.runs.reach import require_read

__all__ = ["beside", "checkpoint_files", "names", "overrides_of", "prepared", "runs_of", "under_attacks"]


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


def under_attacks(bundle: str, attacks: str, words: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the names of attacks, and what was typed for evaluations under them."""
    asked = names("attacks", attacks)
    config = BundleRun(bundle=Path(bundle), overlays=["evaluate", f"attacks/{asked[0]}"]).config
    return asked, parsed(config, words)


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

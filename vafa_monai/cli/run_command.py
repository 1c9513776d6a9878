"""Commands that run the configs of one bundle: train, evaluate, attack."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from vafa_monai.cli.say import say
from vafa_monai.workflows import BundleRun

__all__ = ["attack", "evaluate", "train"]


def train(
    bundle: str, vaft: bool = False, attack: str | None = None, tracking: str | None = None, **overrides: Any
) -> None:
    """Train the model of a bundle, or harden it.

    Args:
        bundle: folder of the bundle.
        vaft: adversarial training from ``models/model.pt`` to ``models/model_vaft.pt``.
        attack: name of the attack to train on, of ``configs/attacks``; with ``vaft`` only.
        tracking: ``tensorboard`` or ``mlflow``, where losses and scores are to be seen, too.
        **overrides: config ids and values, such as ``--dataset_dir DIR --epochs 20``.
    """
    if attack is not None and not vaft:
        raise ValueError(f"attack must come with --vaft, got {attack!r} without it.")
    overlays = [*(["vaft"] if vaft else []), *([f"attacks/{attack}"] if attack else []), *tracked("train", tracking)]
    run = announce(bundle, overlays, overrides)
    run.check()
    run.run(progress="train#trainer")


def evaluate(bundle: str, attack: str = "identity", tracking: str | None = None, **overrides: Any) -> None:
    """Evaluate the model of a bundle under an attack; the default attack does nothing.

    Args:
        bundle: folder of the bundle.
        attack: name of the attack, of ``configs/attacks``.
        tracking: ``tensorboard`` or ``mlflow``, where the robustness figures are to be seen, too.
        **overrides: config ids and values, such as ``--ckpt_path models/model_vaft.pt``.
    """
    overlays = ["evaluate", f"attacks/{attack}", *tracked("evaluate", tracking)]
    state = announce(bundle, overlays, overrides).run(progress="validate#evaluator")
    say(f"mean foreground DSC {state.metrics['val_mean_dice']:.4f}")


def attack(bundle: str, attack: str, **overrides: Any) -> None:
    """Attack the model of a bundle, write the attacked volumes, read them back and evaluate what was read.

    Args:
        bundle: folder of the bundle.
        attack: name of the attack, of ``configs/attacks``.
        **overrides: config ids and values, such as ``--adv_dir DIR``.
    """
    run = announce(bundle, ["evaluate", "attack", f"attacks/{attack}"], overrides)
    state = run.run(progress="validate#evaluator")
    say(f"mean foreground DSC {state.metrics['val_mean_dice']:.4f} before writing the volumes")


def tracked(kind: str, tracking: str | None) -> list[str]:
    """Return the overlay that tracks a run, if it is to be.

    Example:
        >>> tracked("train", "mlflow"), tracked("train", None)
        (['tracking/train_mlflow'], [])
    """
    return [f"tracking/{kind}_{tracking}"] if tracking else []


def announce(bundle: str, overlays: list[str], overrides: dict[str, Any]) -> BundleRun:
    """Print the command that a run stands for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run = BundleRun(bundle=Path(bundle), overlays=overlays, overrides=overrides)
    say(f"$ cd {bundle} && {run.command()}")
    return run

"""The command ``vafa-monai``: a thin face over bundles, and the only file that prints."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import fire

from vafa_monai.data import prepare_acdc, prepare_synapse, write_phantom
from vafa_monai.reports import build_report
from vafa_monai.workflows import (
    BundleRun,
    Demo,
    DemoSettings,
    Reproduction,
    ReproductionSettings,
    build_bundle_network,
    convert_checkpoint,
)

__all__ = ["attack", "convert", "demo", "evaluate", "main", "phantom", "prepare", "report", "reproduce", "train"]


def demo(output: str = "vafa_demo", seed: int = 0, quick: bool = False) -> None:
    """Attack and harden a small brain segmentation, and write a report; about eight minutes on two cores.

    Called again it continues where it stopped.

    Args:
        output: folder for the data, the bundle with its models and the report.
        seed: seed of training and attacks.
        quick: a smoke run with two cases and a model that has hardly trained.
    """
    files = Demo(output, DemoSettings(seed=seed, quick=quick), say=_say).run()
    _say("")
    for name, path in files.items():
        _say(f"{name}: {path}")


def train(bundle: str, vaft: bool = False, attack: str | None = None, **overrides: Any) -> None:
    """Train the model of a bundle, or harden it.

    Args:
        bundle: folder of the bundle.
        vaft: adversarial training from ``models/model.pt`` to ``models/model_vaft.pt``.
        attack: name of the attack to train on, of ``configs/attacks``; with ``vaft`` only.
        **overrides: config ids and values, such as ``--dataset_dir DIR --epochs 20``.
    """
    if attack is not None and not vaft:
        raise ValueError(f"attack must come with --vaft, got {attack!r} without it.")
    overlays = [*(["vaft"] if vaft else []), *([f"attacks/{attack}"] if attack else [])]
    run = _announce(bundle, overlays, overrides)
    run.check()
    run.run(progress="train#trainer")


def evaluate(bundle: str, attack: str = "identity", **overrides: Any) -> None:
    """Evaluate the model of a bundle under an attack; the default attack does nothing.

    Args:
        bundle: folder of the bundle.
        attack: name of the attack, of ``configs/attacks``.
        **overrides: config ids and values, such as ``--ckpt_path models/model_vaft.pt``.
    """
    state = _announce(bundle, ["evaluate", f"attacks/{attack}"], overrides).run(progress="validate#evaluator")
    _say(f"mean foreground DSC {state.metrics['val_mean_dice']:.4f}")


def attack(bundle: str, attack: str, **overrides: Any) -> None:
    """Attack the model of a bundle, write the attacked volumes, read them back and evaluate what was read.

    Args:
        bundle: folder of the bundle.
        attack: name of the attack, of ``configs/attacks``.
        **overrides: config ids and values, such as ``--adv_dir DIR``.
    """
    run = _announce(bundle, ["evaluate", "attack", f"attacks/{attack}"], overrides)
    state = run.run(progress="validate#evaluator")
    _say(f"mean foreground DSC {state.metrics['val_mean_dice']:.4f} before writing the volumes")


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
        _say(f"{name}: {path}")


def prepare(dataset: str, source: str, output: str, **settings: Any) -> None:
    """Check the official files of a dataset and write them as the bundles read them; the source is only read.

    Args:
        dataset: ``synapse`` or ``acdc``.
        source: folder of the files as they are handed out.
        output: folder to write to, with ``dataset.json`` and ``data_report.html``; it appears whole or not at all.
        **settings: ``--classes 9`` (synapse), ``--validation N``, ``--split FILE``, ``--allow_missing``.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    writer = _choose("dataset", dataset, {"synapse": prepare_synapse, "acdc": prepare_acdc})
    _say(f"datalist: {writer(source, output, **settings)}")
    _say(f"report: {Path(output) / 'data_report.html'}")


def phantom(dataset: str, output: str, cases: int = 6, layout: str = "raw", seed: int = 0, **settings: Any) -> None:
    """Write synthetic volumes in the layout of a dataset, to try everything without the data.

    Args:
        dataset: ``synapse`` or ``acdc``.
        output: folder to write to, new or empty.
        cases: number of cases; of patients with two frames each for ``acdc``.
        layout: ``raw`` as the data are handed out, or ``prepared`` as they are trained on.
        seed: seed of all that is by chance.
        **settings: ``--size 0.5`` for smaller volumes, ``--classes 9`` for the prepared layout of ``synapse``.
    """
    _say(f"phantom: {write_phantom(dataset, output, cases=cases, layout=layout, seed=seed, **settings)}")


def convert(
    source: str,
    bundle: str,
    output: str | None = None,
    model_file: str = "model.pt",
    overwrite: bool = False,
    **overrides: Any,
) -> None:
    """Make a published or older checkpoint the model of a bundle; it is read as data, nothing of it runs.

    Args:
        source: file of UNETR (any MONAI since 0.7) or UNETR++ (nnU-Net's ``.model``), or with weights that fit already.
        bundle: folder of the bundle whose ``configs/inference.json`` has the network.
        output: file to write; by default ``models/<model_file>`` of the bundle.
        model_file: its name in the bundle.
        overwrite: replace an existing file.
        **overrides: config ids and values for the network, such as ``--num_classes 14``.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    file = Path(bundle) / "models" / model_file if output is None else Path(output)
    done = convert_checkpoint(source, file, network=build_bundle_network(bundle, overrides), overwrite=overwrite)
    _say(f"{done.recognized}: {done.output}, details in {done.sidecar}")


def reproduce(
    table: str,
    bundle: str,
    dataset_dir: str,
    output: str | None = None,
    quick: bool = False,
    seed: int = 0,
    whole_volume: bool = False,
    bundle_name: str | None = None,
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
        **overrides: config ids and values, for every run.
    """
    settings = ReproductionSettings(
        table=table,
        bundle=bundle,
        dataset_dir=dataset_dir,
        output=output,
        quick=quick,
        seed=seed,
        whole_volume=whole_volume,
        bundle_name=bundle_name,
        overrides=overrides,
    )
    Reproduction(settings, say=_say).run()


def _choose(argument: str, name: str, options: dict[str, Any]) -> Any:
    """Return the option of that name."""
    if name not in options:
        raise ValueError(f"{argument} must be one of {sorted(options)}, got {name!r}.")
    return options[name]


def _announce(bundle: str, overlays: list[str], overrides: dict[str, Any]) -> BundleRun:
    """Print the command that a run stands for."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    run = BundleRun(bundle=Path(bundle), overlays=overlays, overrides=overrides)
    _say(f"$ cd {bundle} && {run.command()}")
    return run


def _say(line: str) -> None:
    print(line, flush=True)


def _root_cause(error: BaseException) -> BaseException:
    """Return the error of the user's input that MONAI's config errors came from, or the first of all."""
    while error.__cause__ is not None and not isinstance(error, (ValueError, TypeError, OSError)):
        error = error.__cause__
    return error


COMMANDS = (demo, train, attack, evaluate, report, prepare, phantom, convert, reproduce)


def main() -> None:
    """Run the command; bad input ends it with one sentence and exit code 1."""
    try:
        fire.Fire({function.__name__: function for function in COMMANDS})
    except Exception as error:
        cause = _root_cause(error)
        if not isinstance(cause, (ValueError, TypeError, OSError)):
            raise
        logging.getLogger(__name__).debug("bad input", exc_info=error)
        sys.exit(f"error: {cause}")


if __name__ == "__main__":
    main()

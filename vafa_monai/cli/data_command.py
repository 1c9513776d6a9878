"""Commands that prepare what a bundle reads: prepare, phantom, convert."""

from __future__ import annotations

from inspect import signature
from pathlib import Path
from typing import Any

from vafa_monai.cli.command import parsed
from vafa_monai.cli.say import log, say
from vafa_monai.data.acdc import prepare_acdc
from vafa_monai.data.decathlon import prepare_decathlon
from vafa_monai.data.phantom import write_phantom
from vafa_monai.data.synapse import prepare_synapse
from vafa_monai.runs.override import merged_config
from vafa_monai.sharing.convert import build_bundle_network, convert_checkpoint

__all__ = ["convert", "phantom", "prepare"]

WRITERS = {"synapse": prepare_synapse, "acdc": prepare_acdc, "decathlon": prepare_decathlon}


def prepare(  # noqa: PLR0913 - the arguments of all datasets
    dataset: str,
    source: str,
    output: str,
    classes: int | None = None,
    validation: int | None = None,
    split: str | None = None,
    seed: int | None = None,
    download: bool = False,
    allow_missing: bool = False,
) -> None:
    """Check the official files of a dataset and write them as the bundles read them; the source is only read.

    Args:
        dataset: ``synapse``, ``acdc``, or ``decathlon`` for any task of the Medical Segmentation Decathlon.
        source: folder of the files as they are handed out.
        output: folder to write to, with ``dataset.json`` and ``data_report.html``; it appears whole or not at all.
        classes: number of classes with the background, 14 or 9, of ``synapse``; by default 14.
        validation: number of cases that select a model.
        split: JSON file with the names of each part; by default the fixed split of the dataset.
        seed: seed of the split of ``decathlon`` where it is not fixed; by default 0.
        download: fetch the archive of ``decathlon`` first if the source is not there.
        allow_missing: go on without the cases of the split that are not there.
    """
    log(form="%(message)s")
    writer = choose("dataset", dataset, WRITERS)
    given = {"classes": classes, "validation": validation, "split": split, "seed": seed}
    given |= {"download": download or None, "allow_missing": allow_missing or None}
    settings = {name: value for name, value in given.items() if value is not None}
    for name in settings.keys() - signature(writer).parameters.keys():
        raise ValueError(f"{name} must be left out for {dataset}, got {settings[name]!r}.")
    say(f"datalist: {writer(source, output, **settings)}")
    say(f"report: {Path(output) / 'data_report.html'}")


def phantom(
    dataset: str,
    output: str,
    cases: int = 6,
    layout: str = "raw",
    seed: int = 0,
    size: float = 1.0,
    classes: int = 14,
) -> None:
    """Write synthetic volumes in the layout of a dataset, to try everything without the data.

    Args:
        dataset: ``synapse`` or ``acdc``.
        output: folder to write to, new or empty.
        cases: number of cases; of patients with two frames each for ``acdc``.
        layout: ``raw`` as the data are handed out, or ``prepared`` as they are trained on.
        seed: random seed.
        size: edges of the volumes, as a fraction.
        classes: number of classes with the background, 14 or 9, for the prepared layout of ``synapse``.
    """
    path = write_phantom(dataset, output, cases=cases, layout=layout, seed=seed, size=size, classes=classes)
    say(f"phantom: {path}")


def convert(
    source: str,
    bundle: str,
    output: str | None = None,
    model_file: str = "model.pt",
    overwrite: bool = False,
    entry: str | None = None,
    **overrides: Any,
) -> None:
    """Make a published or older checkpoint the model of a bundle; it is read as data, nothing of it runs.

    Args:
        source: file of UNETR (any MONAI since 0.7) or UNETR++ (nnU-Net's ``.model``), or with weights that fit already.
        bundle: folder of the bundle whose ``configs/inference.json`` has the network.
        output: file to write; by default ``models/<model_file>`` of the bundle.
        model_file: its name in the bundle.
        overwrite: replace an existing file.
        entry: the dictionary of the source to take, such as ``state_dict_ema``, if it has several.
        **overrides: config ids and values for the network, such as ``--num_classes 14``.
    """
    log()
    config = Path(bundle) / "configs" / "inference.json"
    if not config.is_file():
        raise ValueError(f"bundle must be a folder with configs/inference.json, got {bundle!r}.")
    overrides = parsed(merged_config([config]), overrides)
    file = Path(bundle) / "models" / model_file if output is None else Path(output)
    network = build_bundle_network(bundle, overrides)
    done = convert_checkpoint(source, file, network=network, overwrite=overwrite, entry=entry)
    say(f"{done.recognized}: {done.output}, details in {done.sidecar}")


def choose(argument: str, name: str, options: dict[str, Any]) -> Any:
    """Return the option of that name."""
    if name not in options:
        raise ValueError(f"{argument} must be one of {sorted(options)}, got {name!r}.")
    return options[name]

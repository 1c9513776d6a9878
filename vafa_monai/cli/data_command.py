"""Commands that prepare what a bundle reads: prepare, phantom, convert."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from vafa_monai.cli.say import say
from vafa_monai.data import prepare_acdc, prepare_decathlon, prepare_synapse, write_phantom
from vafa_monai.workflows import build_bundle_network, convert_checkpoint

__all__ = ["convert", "phantom", "prepare"]

WRITERS = {"synapse": prepare_synapse, "acdc": prepare_acdc, "decathlon": prepare_decathlon}


def prepare(dataset: str, source: str, output: str, **settings: Any) -> None:
    """Check the official files of a dataset and write them as the bundles read them; the source is only read.

    Args:
        dataset: ``synapse``, ``acdc``, or ``decathlon`` for any task of the Medical Segmentation Decathlon.
        source: folder of the files as they are handed out.
        output: folder to write to, with ``dataset.json`` and ``data_report.html``; it appears whole or not at all.
        **settings: ``--classes 9`` (synapse), ``--validation N``, ``--split FILE``, ``--allow_missing``; ``--seed 0``,
            ``--download`` (decathlon).
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    writer = choose("dataset", dataset, WRITERS)
    say(f"datalist: {writer(source, output, **settings)}")
    say(f"report: {Path(output) / 'data_report.html'}")


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
    say(f"phantom: {write_phantom(dataset, output, cases=cases, layout=layout, seed=seed, **settings)}")


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
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    file = Path(bundle) / "models" / model_file if output is None else Path(output)
    network = build_bundle_network(bundle, overrides)
    done = convert_checkpoint(source, file, network=network, overwrite=overwrite, entry=entry)
    say(f"{done.recognized}: {done.output}, details in {done.sidecar}")


def choose(argument: str, name: str, options: dict[str, Any]) -> Any:
    """Return the option of that name."""
    if name not in options:
        raise ValueError(f"{argument} must be one of {sorted(options)}, got {name!r}.")
    return options[name]

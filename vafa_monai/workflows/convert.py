"""Conversion of a checkpoint that others published into one that a bundle loads."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from vafa_monai.data import check_checkpoint, read_checkpoint, sha256, whole_file, write_json
from vafa_monai.data.files import require_writable
from vafa_monai.data.weights import difference, flaw
from vafa_monai.handlers.provenance import versions
from vafa_monai.workflows.bundle_run import as_config
from vafa_monai.workflows.checkpoint_form import CheckpointForm, RecognizedCheckpoint, recognize_checkpoint
from vafa_monai.workflows.override import merged_config, require_known

__all__ = ["Conversion", "build_bundle_network", "convert_checkpoint"]

logger = logging.getLogger(__name__)
DESCRIPTIONS = {
    CheckpointForm.UNETR_OLD: "UNETR of an older MONAI",
    CheckpointForm.UNETR: "UNETR of this MONAI",
    CheckpointForm.UNETRPP_SYNAPSE: "published UNETR++ for Synapse",
    CheckpointForm.UNETRPP_ACDC: "published UNETR++ for ACDC",
    CheckpointForm.UNETRPP: "UNETR++ of an unknown training",
    CheckpointForm.OTHER: "weights that the network takes as they are",
}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What became of a checkpoint.

    Args:
        output: the file with the state dict.
        sidecar: the JSON file beside it.
        recognized: what the source is, in words, and where in it the weights are.
        expects: the input that the weights expect, in words.
    """

    output: Path
    sidecar: Path
    recognized: str
    expects: str


def build_bundle_network(bundle: str | Path, overrides: Mapping[str, Any] | None = None) -> nn.Module:
    """Build ``network_def`` of ``configs/inference.json``; a config is a program, so the bundle must be trusted.

    Args:
        bundle: folder of the bundle.
        overrides: config ids and their values, such as ``{"num_classes": 14}``.

    Raises:
        ValueError: if there is no such config or id, or no ``network_def`` that is a network.
    """
    config = Path(bundle) / "configs" / "inference.json"
    if not config.is_file():
        raise ValueError(f"bundle must be a folder with configs/inference.json, got {str(bundle)!r}.")
    parser = ConfigParser()
    parser.read_config(str(config))
    require_known(merged_config([config]), overrides or ())
    parser.update({name: as_config(name, value) for name, value in (overrides or {}).items()})
    network = parser.get_parsed_content("network_def") if "network_def" in parser else None
    if not isinstance(network, nn.Module):
        raise ValueError(f"network_def must be a network in {str(config)!r}, got {type(network).__name__}.")
    return network


def convert_checkpoint(
    source: str | Path, output: str | Path, *, network: nn.Module, overwrite: bool = False, entry: str | None = None
) -> Conversion:
    """Write the weights of a checkpoint as a state dict that ``network`` loads strictly and ``weights_only``.

    The source is read as data, see :func:`vafa_monai.data.read_checkpoint`. It may be a UNETR of an older MONAI or of
    today's, a UNETR++ as its authors published it, or hold weights that fit already; bare, as an entry, behind the
    prefix of a wrapper, and beside what losses, metrics and averages keep. Values are not changed, nor are the input
    and the classes that they were trained for: the log and the sidecar say what is known of them. The sidecar
    ``<output>.json`` also holds the names of both files with their SHA-256, the entry that was taken, every tensor that
    was dropped, added or renamed, and the versions of the programs. Both files appear whole or not at all.

    Args:
        source: the checkpoint.
        output: file to write, such as ``models/model.pt`` of a bundle.
        network: the network that is to get the weights; it is not changed, and may be on the device ``"meta"``.
        overwrite: replace ``output`` and its sidecar if they exist.
        entry: the dictionary of the source to take, such as ``"state_dict_ema"``; ``None`` to choose.

    Raises:
        ValueError: if the source is no checkpoint, holds something else than data, weights of another network or
            weights that are not real and finite, or if ``output`` exists or is the source.
    """
    source, output = Path(source), Path(output)
    sidecar = output.with_name(f"{output.name}.json")
    _require_free(source, output, sidecar, overwrite)
    content = read_checkpoint(source)
    wanted = network.state_dict()
    checkpoint = recognize_checkpoint(content, wanted.keys(), entry)
    _require_fit(checkpoint, wanted, type(network).__name__, source)
    weights = {name: _compact(checkpoint.weights[name], like=wanted[name]) for name in wanted}
    with ExitStack() as files:
        model = files.enter_context(whole_file(output))
        note = files.enter_context(whole_file(sidecar))  # renamed first, so that no model is without it
        with model.open("wb") as file:  # by name, torch.save would store that name
            torch.save(weights, file)
        check_checkpoint(model, network)
        write_json(note, _describe(checkpoint, source, model, output.name))
    return _announce(checkpoint, output, sidecar)


def _require_free(source: Path, output: Path, sidecar: Path, overwrite: bool) -> None:
    """Refuse to write where something is, or onto the source."""
    if output.is_dir():
        raise ValueError(f"output must be a file, got the folder {str(output)!r}.")
    if output.exists() and source.exists() and output.samefile(source):
        raise ValueError(f"output must be another file than the source, got {str(output)!r}.")
    taken = [str(path) for path in (output, sidecar) if path.exists()]
    if taken and not overwrite:
        raise ValueError(f"output must be a new file unless overwrite is set, got {taken[0]!r}, which exists.")
    for path in (output, sidecar):
        require_writable(path)


def _require_fit(checkpoint: RecognizedCheckpoint, wanted: Mapping[str, Tensor], network: str, source: Path) -> None:
    """Compare names and shapes with those of the network."""
    place = ", ".join(part for part in (DESCRIPTIONS[checkpoint.form], checkpoint.found.place) if part)
    where = f"got {str(source)!r} ({place})"
    if wrong := difference(checkpoint.weights, wanted):
        raise ValueError(f"source must hold the weights of this {network}, {where}, {wrong}.")
    if wrong := flaw(checkpoint.weights, wanted):
        raise ValueError(f"source must hold real and finite weights, {where}, {wrong}.")


def _compact(tensor: Tensor, like: Tensor) -> Tensor:
    """Return a tensor in the dtype of ``like`` that brings no more into a file than it shows; shared ones stay so."""
    tensor = tensor.detach().to(like.dtype).contiguous()
    return tensor.clone() if tensor.untyped_storage().nbytes() > tensor.nbytes else tensor


def _describe(checkpoint: RecognizedCheckpoint, source: Path, model: Path, name: str) -> dict[str, Any]:
    """Return the sidecar."""
    found, kept = checkpoint.found, checkpoint.weights.keys()
    names = {found.prefix + name: name for name in found.weights}
    return {
        "source": {"file": source.name, "sha256": sha256(source)},
        "result": {"file": name, "sha256": sha256(model)},
        "recognized": {"form": str(checkpoint.form), "description": DESCRIPTIONS[checkpoint.form]},
        "expects": {"input": checkpoint.expects, "classes": checkpoint.classes},
        "entry": found.entry,
        "entries not taken": list(found.others),
        "dropped": [*found.beside, *(full for full, name in names.items() if name not in kept)],
        "added": [name for name in kept if name not in found.weights],
        "renamed": {full: name for full, name in names.items() if full != name and name in kept},
        "versions": versions(),
    }


def _announce(checkpoint: RecognizedCheckpoint, output: Path, sidecar: Path) -> Conversion:
    """Log what was written; an input that no bundle gives is a warning."""
    description = ", ".join(part for part in (DESCRIPTIONS[checkpoint.form], checkpoint.found.place) if part)
    logger.info("%s holds the %s", output, description)
    published = checkpoint.form in (CheckpointForm.UNETRPP_SYNAPSE, CheckpointForm.UNETRPP_ACDC)
    logger.log(logging.WARNING if published else logging.INFO, "input that the weights expect: %s", checkpoint.expects)
    if checkpoint.classes:
        logger.info("the output channels are %s", ", ".join(checkpoint.classes))
    return Conversion(output=output, sidecar=sidecar, recognized=description, expects=checkpoint.expects)

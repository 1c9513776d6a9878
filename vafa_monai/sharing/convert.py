"""Conversion of a checkpoint that others published into one that a bundle loads."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.utils import StrEnum
from torch import Tensor, nn

from vafa_monai.data.acdc import ACDC
from vafa_monai.data.checkpoint import read_checkpoint
from vafa_monai.data.files import require_writable, sha256, whole_file, write_json
from vafa_monai.data.synapse import EIGHT, SYNAPSE
from vafa_monai.data.weights import FoundWeights, check_checkpoint, difference, find_weights, flaw
from vafa_monai.networks.unetr_weights import convert_unetr_weights
from vafa_monai.results.provenance import versions
from vafa_monai.runs.bundle_run import as_config
from vafa_monai.runs.override import merged_config, require_known

__all__ = ["Conversion", "build_bundle_network", "convert_checkpoint"]

UNETR_TOKENS = "vit.patch_embedding.position_embeddings"
UNETR_HEAD = "out.conv.conv.weight"
UNETRPP_STEM = "unetr_pp_encoder.downsample_layers.0.0.conv.weight"
UNETRPP_TOKENS = "unetr_pp_encoder.stages.0.0.pos_embed"
UNETRPP_HEAD = "out1.conv.conv.weight"
NNUNET_ENTRIES = {"epoch", "plot_stuff", "best_stuff"}

BTCV, HEART = list(SYNAPSE.classes), list(ACDC.classes)
BTCV_SUBSET = [BTCV[label] for label in (0, *EIGHT)]
UNRECORDED = "what the weights were trained on; the file does not record it"
SCALED_CT = (
    "for the published weights of the VAFA paper, which these may be: CT in RAS, 1.5 x 1.5 x 2 mm, -175 to 250 HU "
    "scaled to [0, 1], classes by the numbers of the BTCV labels; the file does not record it"
)
Z_SCORED = "z-scored by nnU-Net, not scaled to [0, 1]: "
Z_SCORED_CT = (
    f"{Z_SCORED}CT clipped to the 0.5 and 99.5 percentile of the training foreground, less its mean, by its std"
)
Z_SCORED_MRI = f"{Z_SCORED}MRI less the mean of the volume, by its standard deviation"


class CheckpointForm(StrEnum):
    """What a file is: weights of an older MONAI, of today's, of the UNETR++ authors, or of any network."""

    UNETR_OLD = "unetr_old"
    UNETR = "unetr"
    UNETRPP_SYNAPSE = "unetrpp_synapse"
    UNETRPP_ACDC = "unetrpp_acdc"
    UNETRPP = "unetrpp"
    OTHER = "other"


PUBLISHED_UNETRPP: Mapping[
    tuple[int, ...], CheckpointForm
] = {  # by stem kernel (z, y, x) and tokens of the first stage
    (2, 4, 4, 32 * 32 * 32): CheckpointForm.UNETRPP_SYNAPSE,
    (1, 4, 4, 16 * 40 * 40): CheckpointForm.UNETRPP_ACDC,
}


@dataclass(frozen=True, kw_only=True)
class RecognizedCheckpoint:
    """A checkpoint's weights by the names of today, and what is known of them.

    Args:
        form: what the file is.
        found: the weights as they were found, by the names of the file without its prefix.
        weights: the tensors by the names of the network of today.
        expects: the input that the weights were trained on.
        classes: the classes of the output channels, if the form tells.
    """

    form: CheckpointForm
    found: FoundWeights
    weights: Mapping[str, Tensor]
    expects: str
    classes: list[str] | None


def recognize_checkpoint(checkpoint: Any, names: Collection[str], entry: str | None = None) -> RecognizedCheckpoint:
    """Tell what a checkpoint is by its entries and by the names and shapes of its tensors, and convert the tensors.

    A UNETR++ is taken for a published one if nnU-Net's record of the training is in the file.

    Args:
        checkpoint: content of the file, see ``read_checkpoint``.
        names: the names that the network's tensors have.
        entry: the entry that holds the weights; ``None`` to choose.

    Raises:
        ValueError: if there is no state dict, or more than one.
    """
    found = find_weights(checkpoint, {*names, UNETR_TOKENS, UNETRPP_STEM}, entry)
    weights = found.weights
    converted = convert_unetr_weights(weights) if UNETR_TOKENS in weights else weights
    form = _form_of(weights, converted, isinstance(checkpoint, Mapping) and checkpoint.keys() >= NNUNET_ENTRIES)
    expects, classes = _expectation(form, converted)
    return RecognizedCheckpoint(form=form, found=found, weights=converted, expects=expects, classes=classes)


def _form_of(weights: dict[str, Tensor], converted: dict[str, Tensor], trained_by_nnunet: bool) -> CheckpointForm:
    """Decide on the form."""
    if UNETR_TOKENS in weights:
        return CheckpointForm.UNETR if converted.keys() == weights.keys() else CheckpointForm.UNETR_OLD
    if UNETRPP_STEM not in weights:
        return CheckpointForm.OTHER
    tokens = weights[UNETRPP_TOKENS].shape[1] if UNETRPP_TOKENS in weights else 0
    size = (*weights[UNETRPP_STEM].shape[2:], tokens)
    return PUBLISHED_UNETRPP.get(size, CheckpointForm.UNETRPP) if trained_by_nnunet else CheckpointForm.UNETRPP


def _expectation(form: CheckpointForm, weights: dict[str, Tensor]) -> tuple[str, list[str] | None]:
    """Return what is known of the input and of the classes."""
    head = weights.get(UNETRPP_HEAD if UNETRPP_HEAD in weights else UNETR_HEAD)
    channels = 0 if head is None else head.shape[0]
    if form is CheckpointForm.UNETRPP_SYNAPSE:
        return Z_SCORED_CT, next((names for names in (BTCV_SUBSET, BTCV) if len(names) == channels), None)
    if form is CheckpointForm.UNETRPP_ACDC:
        return Z_SCORED_MRI, HEART if channels == len(HEART) else None
    if form is CheckpointForm.UNETR_OLD and channels == len(BTCV) and weights[UNETR_TOKENS].shape[1] == 6**3:
        return SCALED_CT, None
    return UNRECORDED, None


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

"""The forms of checkpoints that can be converted, and what the weights of each expect of their input."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from monai.utils import StrEnum
from torch import Tensor

from vafa_monai.data.acdc import ACDC
from vafa_monai.data.synapse import EIGHT, SYNAPSE
from vafa_monai.data.weights import FoundWeights, find_weights
from vafa_monai.networks import convert_unetr_weights

__all__ = ["CheckpointForm", "RecognizedCheckpoint", "recognize_checkpoint"]

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

"""What a report shows of a case: a slice, a small volume of its images and masks, the spectrum of the change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import CommonKeys
from torch import Tensor

from vafa_monai.handlers.batch import AdversarialKeys
from vafa_monai.metrics.radial_spectrum import radial_spectrum

__all__ = ["LARGEST", "case_snapshot", "small_volume"]

LARGEST = (96, 96, 48)  # voxels of the small volume along H, W and D
MARGIN = 0.12  # around the organs, as a share of their extent
GREY_LEVELS = 255
SIGNED = 127

Place = tuple[slice, ...]


def case_snapshot(
    case: dict[str, Any], output: dict[str, Any], value_range: tuple[float, float] | None = (0.0, 1.0)
) -> dict[str, np.ndarray]:
    """Return the middle axial slice of a case, image and masks in the grid of the image, and its small volume.

    Slice: ``clean``, ``adv``, ``label``, ``pred`` of shape ``(H, W)``. The other keys are those of
    :func:`small_volume`.

    Args:
        case: one item of the batch: image, label, and the clean image where an attack handler kept it.
        output: the same item of the output, with the prediction.
        value_range: lowest and highest intensity of the images; ``None`` is the range of the clean one. The small
            volume has them in [0, 1].
    """
    volumes = _volumes(case, output)
    middle = volumes["adv"].shape[-1] // 2
    slices = {name: volume[..., middle] for name, volume in volumes.items()}
    low, high = (volumes["clean"].min(), volumes["clean"].max()) if value_range is None else value_range
    units = {name: (volumes[name] - low) / ((high - low) or 1) for name in ("clean", "adv")}
    return slices | small_volume(volumes | units, _spacing(case[CommonKeys.IMAGE]))


def small_volume(volumes: dict[str, np.ndarray], spacing: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Return a case as small arrays: at most 96 x 96 x 48 voxels, and a byte a voxel.

    A larger case is cropped to its labeled organs with a margin, which depends on the label alone, so that all
    attacks on a case are cropped alike; what is still too large keeps every second, third, ... voxel. Nothing is
    averaged, because that would hide the perturbation.

    Args:
        volumes: ``clean`` and ``adv`` in [0, 1], ``label`` and ``pred`` as classes, all of shape ``(H, W, D)``.
        spacing: millimetres between voxels.

    Returns:
        ``volume_clean`` (uint8, 255 is an intensity of 1), ``volume_delta`` (int8, ``adv - clean`` as a fraction of
        127 of ``volume_delta_grey``, its largest absolute value in grey levels), ``volume_label`` and
        ``volume_pred`` (uint8), ``volume_spacing`` (mm between the voxels that are kept), ``spectrum_energy`` and
        ``spectrum_coefficients`` of the whole change, see :func:`vafa_monai.metrics.radial_spectrum.radial_spectrum`.
    """
    place = _place(volumes["label"])
    small = {name: volume[place] for name, volume in volumes.items()}
    delta = GREY_LEVELS * (volumes["adv"] - volumes["clean"])
    energy, coefficients = radial_spectrum(delta)
    largest = float(np.abs(delta[place]).max())
    scaled = delta[place] * (SIGNED / largest) if largest > 0 else delta[place]
    steps = [axis.step for axis in place]
    return {
        "volume_clean": np.rint(GREY_LEVELS * small["clean"].clip(0, 1)).astype(np.uint8),
        "volume_delta": np.rint(scaled).astype(np.int8),
        "volume_delta_grey": np.float32(largest),
        "volume_label": small["label"],
        "volume_pred": small["pred"],
        "volume_spacing": np.array(spacing, dtype=np.float32) * steps,
        "spectrum_energy": energy.astype(np.float32),
        "spectrum_coefficients": coefficients.astype(np.float32),
    }


def _volumes(case: dict[str, Any], output: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return images as float32 and masks as classes, shape ``(H, W, D)``, all in the grid of the image."""
    adv = case[CommonKeys.IMAGE]
    images = {"clean": case.get(AdversarialKeys.CLEAN_IMAGE.value, adv), "adv": adv}
    in_grid = AdversarialKeys.GRID_PRED.value in output  # the metrics are taken elsewhere, in the grid of the file
    pred = output[AdversarialKeys.GRID_PRED.value] if in_grid else output[CommonKeys.PRED]
    masks = {"label": case[CommonKeys.LABEL] if in_grid else output[CommonKeys.LABEL], "pred": pred}
    arrays = {name: np.asarray(image[0].cpu(), dtype=np.float32) for name, image in images.items()}
    return arrays | {name: _class_indices(mask) for name, mask in masks.items()}


def _class_indices(mask: Tensor) -> np.ndarray:
    """Return the classes of ``(C, H, W, D)``, one-hot or indices already."""
    return np.asarray((mask.argmax(0) if len(mask) > 1 else mask[0]).cpu(), dtype=np.uint8)


def _spacing(image: Tensor) -> tuple[float, ...]:
    """Return the millimetres between voxels, 1 where the image does not say."""
    if not isinstance(image, MetaTensor):
        return (1.0, 1.0, 1.0)
    return tuple(float(edge) for edge in torch.linalg.vector_norm(image.affine[:3, :3].double(), dim=0))


def _place(label: np.ndarray) -> Place:
    """Return which voxels a small volume keeps."""
    return tuple(map(_keep, label.shape, LARGEST, np.nonzero(label)))


def _keep(size: int, largest: int, organ: np.ndarray) -> slice:
    """Return the voxels of one axis: all that fit, else the part with organs, else every n-th of it."""
    first, last = 0, size
    if size > largest and len(organ):
        margin = round(MARGIN * (int(organ.max()) - int(organ.min()) + 1))
        first, last = max(0, int(organ.min()) - margin), min(size, int(organ.max()) + 1 + margin)
    return slice(first, last, -(-(last - first) // largest))

"""What a report shows of a case: a slice of its images and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
from monai.utils import CommonKeys
from torch import Tensor

from vafa_monai.handlers.batch import AdversarialKeys

__all__ = ["middle_slice"]


def middle_slice(case: dict[str, Any], output: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the middle axial slice of the image, clean and attacked, and of label and prediction in its grid."""
    adv = case[CommonKeys.IMAGE]
    middle = adv.shape[-1] // 2
    volumes = {"clean": case.get(AdversarialKeys.CLEAN_IMAGE.value, adv), "adv": adv}
    images = {name: np.asarray(volume[0, ..., middle].cpu(), dtype=np.float32) for name, volume in volumes.items()}
    in_grid = AdversarialKeys.GRID_PRED.value in output  # the metrics are taken elsewhere, in the grid of the file
    pred = output[AdversarialKeys.GRID_PRED.value] if in_grid else output[CommonKeys.PRED]
    masks = {"label": case[CommonKeys.LABEL] if in_grid else output[CommonKeys.LABEL], "pred": pred}
    return images | {name: _class_indices(mask[..., middle]) for name, mask in masks.items()}


def _class_indices(mask: Tensor) -> np.ndarray:
    """Return the classes of ``(C, H, W)``, one-hot or indices already."""
    return np.asarray((mask.argmax(0) if len(mask) > 1 else mask[0]).cpu(), dtype=np.uint8)

"""Attacked volumes as files that tell where they come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.utils import CommonKeys
from torch import Tensor

from vafa_monai.attacks import describe
from vafa_monai.data import sha256, write_json, write_volume
from vafa_monai.handlers.batch import AdversarialKeys
from vafa_monai.handlers.provenance import case_name, versions

__all__ = ["AdversarialSaver"]


class AdversarialSaver:
    """Write every attacked volume of an evaluator as NIfTI, with its label and a JSON sidecar.

    ``<case>_image.nii.gz`` is float32 in the intensities that the network sees, ``<case>_label.nii.gz`` holds the class
    indices; both have the true affine of the grid they were attacked in. ``<case>_native_label.nii.gz`` is the
    untouched label in the grid of its own file, where the batch has one. ``<case>.json`` has the attack, its settings,
    the seed, the hash of the checkpoint and the versions. Needs :class:`vafa_monai.handlers.AttackHandler`.

    Args:
        output_dir: folder to write to.
        attack: the attack of the handler.
        attack_name: its name.
        checkpoint: path of the attacked weights.
        seed: seed of the run.
    """

    def __init__(
        self,
        output_dir: str,
        attack: Callable[..., Tensor],
        attack_name: str,
        checkpoint: str,
        seed: int = 0,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.about = {"attack": {"name": attack_name, "settings": describe(attack)}, "seed": seed}
        self.checkpoint = Path(checkpoint)
        low, high = getattr(attack, "value_range", (0.0, 1.0))
        self.levels = 255 / (high - low)

    def attach(self, engine: Any) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Write the cases of the iteration; the batch is decollated by now."""
        for case in engine.state.batch:
            self._write(case)

    def _write(self, case: dict[str, Any]) -> None:
        image = case[CommonKeys.IMAGE]
        name = case_name(image)
        change = (_array(image) - _array(case[AdversarialKeys.CLEAN_IMAGE.value])) * self.levels
        write_volume(self.output_dir / f"{name}_image.nii.gz", _array(image), _affine(image))
        for kind in (CommonKeys.LABEL, AdversarialKeys.NATIVE_LABEL):
            if kind in case:
                label = _array(case[kind]).astype(np.uint8)
                write_volume(self.output_dir / f"{name}_{kind}.nii.gz", label, _affine(case[kind]))
        write_json(
            self.output_dir / f"{name}.json",
            {
                "case": name,
                **self.about,
                "checkpoint": {"path": str(self.checkpoint), "sha256": sha256(self.checkpoint)},
                "rms_grey": float(np.sqrt(np.mean(change**2))),
                "linf_grey": float(np.abs(change).max()),
                "versions": versions(),
            },
        )


def _affine(volume: Tensor) -> np.ndarray:
    """Return the affine of a volume, or the identity if it has none."""
    return volume.affine.numpy() if isinstance(volume, MetaTensor) else np.eye(4)


def _array(volume: Tensor) -> np.ndarray:
    """Return ``(C, H, W, D)`` as a float32 array ``(H, W, D)``, or ``(H, W, D, C)`` of several channels."""
    plain = (volume.as_tensor() if isinstance(volume, MetaTensor) else volume).detach().to("cpu", torch.float32)
    return (plain[0] if len(plain) == 1 else plain.movedim(0, -1)).numpy()

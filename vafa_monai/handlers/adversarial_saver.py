"""Attacked volumes as files that tell where they come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.utils import CommonKeys
from torch import Tensor

from vafa_monai.attacks.describe import describe
from vafa_monai.attacks.range_adapter import intensity_range, physical_width, strengths
from vafa_monai.attacks.validation import LEVELS
from vafa_monai.data.files import require_writable, sha256, write_json, write_volume
from vafa_monai.handlers.batch import AdversarialKeys
from vafa_monai.losses.output import Output, class_indices, yes_or_no
from vafa_monai.metrics.image_quality import in_range
from vafa_monai.results.provenance import case_name, listed_names, require_different, versions

__all__ = ["AdversarialSaver"]

LARGEST_CLASSES = 256  # of a byte


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
        physical_range: what lowest and highest intensity mean physically, such as -175 and 250 HU.
        physical_unit: its unit.

    Raises:
        ValueError: if only one of ``physical_range`` and ``physical_unit`` is given; when a run starts, if the folder
            cannot be written to or two cases have one name; at a case of the name of another, or whose label is no
            single channel of class indices.
    """

    def __init__(
        self,
        output_dir: str,
        attack: Callable[..., Tensor],
        attack_name: str,
        checkpoint: str,
        seed: int = 0,
        physical_range: Sequence[float] | None = None,
        physical_unit: str | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        strength = strengths(attack, physical_range, physical_unit)
        self.about = {"attack": {"name": attack_name, "settings": describe(attack), "strength": strength}, "seed": seed}
        self.checkpoint = Path(checkpoint)
        self.value_range = intensity_range(attack)
        self.output = Output.of(getattr(attack, "output", "softmax"))
        self._names: list[str] = []
        self._weights = ""
        self.width, self.unit = physical_width(physical_range, physical_unit), physical_unit

    def attach(self, engine: Any) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def start(self, engine: Any) -> None:
        """Forget the last run; refuse what could not be written after the attacks, or over one another."""
        for name in listed_names(engine)[:1] or ["case"]:
            require_writable(self.output_dir / f"{name}.json")
        self._names, self._weights = [], sha256(self.checkpoint)

    def __call__(self, engine: Any) -> None:
        """Write the cases of the iteration; the batch is decollated by now."""
        for case in engine.state.batch:
            self._write(case)

    def _write(self, case: dict[str, Any]) -> None:
        image = case[CommonKeys.IMAGE]
        name = case_name(image)
        require_different([*self._names, name])
        self._names.append(name)
        change = self._change(image, case[AdversarialKeys.CLEAN_IMAGE.value])
        write_volume(self.output_dir / f"{name}_image.nii.gz", _array(image), _affine(image))
        for kind in (CommonKeys.LABEL, AdversarialKeys.NATIVE_LABEL):
            if kind in case:
                label = _array(self._label(case[kind], f"{kind} of {name}")).astype(np.uint8)
                write_volume(self.output_dir / f"{name}_{kind}.nii.gz", label, _affine(case[kind]))
        write_json(
            self.output_dir / f"{name}.json",
            {
                "case": name,
                **self.about,
                "checkpoint": {"path": str(self.checkpoint), "sha256": self._weights},
                **change,
                "versions": versions(),
            },
        )

    def _label(self, label: Tensor, name: str) -> Tensor:
        """Return class indices ``(1, H, W, D)`` that a byte can hold, or the regions of sigmoids; refuse another."""
        if self.output.is_sigmoid:
            yes_or_no(label, name)
        elif len(label) != 1:
            raise ValueError(f"{name} must hold class indices in one channel, got {len(label)} channels.")
        else:
            class_indices(label, LARGEST_CLASSES, name=name)
        return label

    def _change(self, image: Tensor, clean: Tensor) -> dict[str, float]:
        """Return root mean square and largest absolute value of the change, in all units."""
        adv, original = in_range(image[None].detach(), clean[None].detach(), self.value_range)
        share = adv - original
        figures = {"rms": share.square().mean().sqrt().item(), "linf": share.abs().max().item()}
        units = {"grey": LEVELS} | ({str(self.unit): self.width} if self.width else {})
        return {f"{name}_{unit}": scale * value for unit, scale in units.items() for name, value in figures.items()}


def _affine(volume: Tensor) -> np.ndarray:
    """Return the affine of a volume, or the identity if it has none."""
    return volume.affine.numpy() if isinstance(volume, MetaTensor) else np.eye(4)


def _array(volume: Tensor) -> np.ndarray:
    """Return ``(C, H, W, D)`` as a float32 array ``(H, W, D)``, or ``(H, W, D, C)`` of several channels."""
    plain = (volume.as_tensor() if isinstance(volume, MetaTensor) else volume).detach().to("cpu", torch.float32)
    return (plain[0] if len(plain) == 1 else plain.movedim(0, -1)).numpy()

"""The result of one model under one attack as a JSON file."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.engines import IterationEvents
from monai.handlers import IgniteMetricHandler, MeanDice, from_engine
from monai.utils import CommonKeys, string_list_all_gather
from torch import Tensor

from vafa_monai.attacks.describe import describe
from vafa_monai.attacks.intensity import ValueRange, is_one_range, require_ranges
from vafa_monai.attacks.range_adapter import strengths
from vafa_monai.attacks.validation import LEVELS
from vafa_monai.data.files import require_writable, sha256, whole_file, write_json
from vafa_monai.handlers.batch import AdversarialKeys, attack_record
from vafa_monai.handlers.metric import HausdorffDistance95, NormalizedSurfaceDice, OrganPresence, PerceptualSimilarity
from vafa_monai.losses.output import Output, class_indices, require_channels, yes_or_no
from vafa_monai.metrics.image_quality import QUALITY_NAMES
from vafa_monai.metrics.organ_presence import compute_organ_volumes
from vafa_monai.metrics.radial_spectrum import radial_spectrum
from vafa_monai.results.case import SEGMENTATION
from vafa_monai.results.provenance import (
    PRESENCE_NAMES,
    case_files,
    case_input,
    case_name,
    inferer_facts,
    listed_names,
    require_different,
    summarize,
    versions,
)
from vafa_monai.results.result import RESULT_SCHEMA

__all__ = ["RobustnessReport"]

LARGEST = (96, 96, 48)  # voxels of the small volume along H, W and D
MARGIN = 0.12  # around the organs, as a share of their extent
SIGNED = 127

Place = tuple[slice, ...]


def case_snapshot(
    case: dict[str, Any],
    output: dict[str, Any],
    value_range: ValueRange | None = (0.0, 1.0),
    kind: Output | str = "softmax",
) -> dict[str, np.ndarray]:
    """Return the middle axial slice of a case, image and masks in the grid of the image, and its small volume.

    Slice: ``clean``, ``adv``, ``label``, ``pred`` of shape ``(H, W)``. The other keys are those of
    :func:`small_volume`.

    Args:
        case: one item of the batch: image, label, and the clean image where an attack handler kept it.
        output: the same item of the output, with the prediction.
        value_range: lowest and highest intensity of the images, of which the first channel is shown; ``None`` is the
            range of the clean one. The small volume has them in [0, 1].
        kind: what the channels of the masks mean. Regions that overlap are shown as classes from 1 on, the last of
            those that a voxel is in.
    """
    volumes = _snapshot_volumes(case, output, Output.of(kind))
    middle = volumes["adv"].shape[-1] // 2
    slices = {name: volume[..., middle] for name, volume in volumes.items()}
    shown: Any = value_range if value_range is None or is_one_range(value_range) else value_range[0]
    low, high = (volumes["clean"].min(), volumes["clean"].max()) if shown is None else shown
    units = {name: (volumes[name] - low) / ((high - low) or 1) for name in ("clean", "adv")}
    return slices | small_volume(volumes | units, _spacing(case[CommonKeys.IMAGE]))


def small_volume(volumes: dict[str, np.ndarray], spacing: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Return a case as small arrays: at most 96 x 96 x 48 voxels, and a byte a voxel.

    A larger case is cropped to its labeled organs with a margin, which depends on the label alone, so that all
    attacks on a case are cropped alike; what is still too large keeps every second, third, ... voxel. Nothing is
    averaged, because that would hide the perturbation.

    Args:
        volumes: ``clean`` and ``adv`` in [0, 1], ``label`` and ``pred`` as classes, all of shape ``(H, W, D)``.
        spacing: millimeters between voxels.

    Returns:
        ``volume_clean`` (uint8, 255 is an intensity of 1), ``volume_delta`` (int8, ``adv - clean`` as a fraction of
        127 of ``volume_delta_grey``, its largest absolute value in gray levels), ``volume_label`` and
        ``volume_pred`` (uint8), ``volume_spacing`` (mm between the voxels that are kept), ``spectrum_energy`` and
        ``spectrum_coefficients`` of the whole change, see :func:`vafa_monai.metrics.radial_spectrum.radial_spectrum`.
    """
    place = _place(volumes["label"])
    small = {name: volume[place] for name, volume in volumes.items()}
    delta = LEVELS * (volumes["adv"] - volumes["clean"])
    energy, coefficients = radial_spectrum(delta)
    largest = float(np.abs(delta[place]).max())
    scaled = delta[place] * (SIGNED / largest) if largest > 0 else delta[place]
    steps = [axis.step for axis in place]
    return {
        "volume_clean": np.rint(LEVELS * small["clean"].clip(0, 1)).astype(np.uint8),
        "volume_delta": np.rint(scaled).astype(np.int8),
        "volume_delta_grey": np.float32(largest),
        "volume_label": small["label"],
        "volume_pred": small["pred"],
        "volume_spacing": np.array(spacing, dtype=np.float32) * steps,
        "spectrum_energy": energy.astype(np.float32),
        "spectrum_coefficients": coefficients.astype(np.float32),
    }


def _snapshot_volumes(case: dict[str, Any], output: dict[str, Any], kind: Output) -> dict[str, np.ndarray]:
    """Return images as float32 and masks as classes, shape ``(H, W, D)``, all in the grid of the image."""
    adv = case[CommonKeys.IMAGE]
    images = {"clean": case.get(AdversarialKeys.CLEAN_IMAGE.value, adv), "adv": adv}
    in_grid = AdversarialKeys.GRID_PRED.value in output  # the metrics are taken elsewhere, in the grid of the file
    pred = output[AdversarialKeys.GRID_PRED.value] if in_grid else output[CommonKeys.PRED]
    masks = {"label": case[CommonKeys.LABEL] if in_grid else output[CommonKeys.LABEL], "pred": pred}
    arrays = {name: np.asarray(image[0].cpu(), dtype=np.float32) for name, image in images.items()}
    return arrays | {name: _class_indices(mask, kind) for name, mask in masks.items()}


def _class_indices(mask: Tensor, kind: Output) -> np.ndarray:
    """Return the classes of ``(C, H, W, D)``, one-hot or indices already, or regions; the background is 0."""
    if len(mask) == 1 and not kind.is_sigmoid:
        return np.asarray(mask[0].cpu(), dtype=np.uint8)
    planes = kind.background_first([plane > 0 for plane in mask], torch.zeros_like(mask[0], dtype=torch.bool))
    numbers = [index * plane.to(torch.uint8) for index, plane in enumerate(planes)]
    return np.asarray(torch.stack(numbers).amax(0).cpu(), dtype=np.uint8)


def _spacing(image: Tensor) -> tuple[float, ...]:
    """Return the millimeters between voxels, 1 where the image does not say."""
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


LARGEST_CLASSES = 256


class RobustnessReport:
    """Write ``<output_dir>/<model_name>/<attack_name>.json`` when an evaluator has finished, and one slice beside it.

    Attaches its own metrics, so that none can be misspelled: Dice of every class (``val_dice``), HD95 in mm
    (``val_hd95_mm``), surface Dice (``val_nsd``), lost and invented organs, and how far the image was changed. The file
    holds them per case and class, with the volumes of the organs, the settings, seed, hash and versions that made them,
    and what the attack handler knows: the cost of the attack, and the members of an ensemble. So that results of other
    weights or data are never taken for one, it holds the hashes of the files of every case, the look of its image as
    the network gets it, and how it was evaluated; not of volumes that were read back, which are files of their own
    (``image_quality=False``). :func:`vafa_monai.reports.build_report` reads the folder.

    Args:
        output_dir: folder of the results of all models and attacks.
        model_name: label of the model.
        attack_name: name of the attack.
        attack: the attack of :class:`vafa_monai.handlers.AttackHandler` on the same evaluator.
        checkpoint: path of the attacked weights.
        classes: names of the classes: as many as the network has channels. A document has the background first,
            by the name ``"background"`` and without figures where the classes have none.
        role: ``"attack"`` or ``"control"``.
        seed: seed of the run.
        tolerance: accepted surface distance of the surface Dice, in mm.
        value_range: lowest and highest intensity that the network sees; ``None`` is the range of each clean case.
        physical_range: what these two mean physically, such as -175 and 250 HU.
        physical_unit: its unit.
        lpips_weights: path of torchvision's AlexNet weights.
        image_quality: measure the change of the image; needs the clean images that the attack handler keeps.
        output: what the channels of logits and labels mean, see :class:`vafa_monai.losses.Output`; ``None`` is what
            ``attack`` says.

    Raises:
        ValueError: if ``role`` is unknown, ``classes`` are no names, a name is none of a file, or only one of
            ``physical_range`` and ``physical_unit`` is given. When a run starts, if the result could not be written or
            two cases have one name; at the first case, if channels are not the classes, logits are not finite, an image
            is constant, or labels are no class indices; when it ends, if the checkpoint is another one by then.
    """

    def __init__(  # noqa: PLR0913 - what a result must say of itself
        self,
        output_dir: str,
        model_name: str,
        attack_name: str,
        attack: Callable[..., Tensor],
        checkpoint: str,
        classes: Sequence[str],
        *,
        role: str = "attack",
        seed: int = 0,
        tolerance: float = 1.0,
        value_range: Sequence[Any] | None = (0.0, 1.0),
        physical_range: Sequence[float] | None = None,
        physical_unit: str | None = None,
        lpips_weights: str | None = None,
        image_quality: bool = True,
        output: Output | str | None = None,
    ) -> None:
        if role not in ("attack", "control"):
            raise ValueError(f'role must be "attack" or "control", got {role!r}.')
        self.output = Output.of(getattr(attack, "output", "softmax") if output is None else output)
        _require_names(model_name, attack_name, classes, self.output)
        self.path = Path(output_dir) / model_name / f"{attack_name}.json"
        self.checkpoint, self.classes = Path(checkpoint), list(classes)
        self.about = {
            "schema": RESULT_SCHEMA,
            "model": model_name,
            "attack": {
                "name": attack_name,
                "role": role,
                "settings": describe(attack),
                "strength": strengths(attack, physical_range, physical_unit),
            },
            "intensity": {
                "value_range": None if value_range is None else list(value_range),
                "physical_range": None if physical_range is None else list(physical_range),
                "physical_unit": physical_unit,
            },
            "classes": self.output.background_first(self.classes, "background"),
            "seed": seed,
        }
        self.tolerance, self.with_origin = tolerance, image_quality
        self.metrics: dict[str, IgniteMetricHandler] = {
            "dice": MeanDice(output_transform=from_engine([CommonKeys.PRED, CommonKeys.LABEL])),
            "hd95_mm": HausdorffDistance95(output=self.output),
            "nsd": NormalizedSurfaceDice(tolerance=tolerance, output=self.output),
            "organ_presence": OrganPresence(output=self.output),
        }
        if image_quality:
            self.metrics["image_quality"] = PerceptualSimilarity(value_range, lpips_weights)
        self.value_range = None if value_range is None else require_ranges("value_range", value_range)
        self._names: list[str] = []
        self._told: list[str] = []  # JSON
        self._snapshot: dict[str, np.ndarray] = {}
        self._cost: dict[str, int] = {}
        self._weights = ""
        self._started = 0.0

    def attach(self, engine: Any) -> None:
        """Attach to an evaluator."""
        for name, metric in self.metrics.items():
            metric.attach(engine, f"val_{name}")
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(IterationEvents.FORWARD_COMPLETED, self.check)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self)

    def start(self, engine: Any) -> None:
        """Forget the last run; refuse a result that could not be written after all the work."""
        listed_names(engine)
        require_writable(self.path)
        self._weights = sha256(self.checkpoint)
        self._names, self._told, self._snapshot, self._cost = [], [], {}, {}
        self._started = time.perf_counter()

    def check(self, engine: Any) -> None:
        """Refuse logits, labels and images that no figure can be computed of, before argmax hides what they are."""
        logits, batch = engine.state.output[CommonKeys.PRED], engine.state.batch
        if isinstance(logits, Tensor):
            require_channels(logits.shape[1], len(self.classes), self.output)
            if not logits.isfinite().all():  # argmax takes NaN for the largest: a DSC of 0, or of anything
                raise ValueError("network must return finite logits, got NaN or infinite ones; check its weights.")
        for key in (CommonKeys.LABEL, AdversarialKeys.NATIVE_LABEL):
            label = batch.get(key)
            if isinstance(label, Tensor):
                self._check_label(label, str(key))
        for image in batch.get(AdversarialKeys.CLEAN_IMAGE, batch[CommonKeys.IMAGE]):
            if image.amin() == image.amax():
                raise ValueError(
                    f"image must not be constant, got {image.amin().item():g} everywhere; check the scaling."
                )

    def _check_label(self, label: Tensor, name: str) -> None:
        """Refuse labels that are none of the output; one-hot ones of a softmax are for the metrics to refuse."""
        if self.output.is_sigmoid:
            yes_or_no(label, name)
        elif label.shape[1] == 1:
            class_indices(label, len(self.classes), name=name)

    def collect(self, engine: Any) -> None:
        """Remember the names of the cases, what no metric tells of them, and how the first looks."""
        details = attack_record(engine).details or [{}] * len(engine.state.batch)
        for case, output, told in zip(engine.state.batch, engine.state.output, details, strict=True):
            if not self._names:
                self._snapshot = case_snapshot(case, output, self.value_range, self.output)
            name = case_name(case[CommonKeys.IMAGE])
            require_different([*self._names, name])
            self._names.append(name)
            more = {
                "volume_ml": self._volumes(output),
                **self._origin(case),
                **({"attack_details": told} if told else {}),
            }
            self._told.append(json.dumps(more))
        for way, windows in attack_record(engine).cost.items():
            self._cost[way] = self._cost.get(way, 0) + windows

    def __call__(self, engine: Any) -> None:
        """Write the result; rank 0 writes for all."""
        names, told = string_list_all_gather(self._names), string_list_all_gather(self._told)
        cost = {way: int(idist.all_reduce(windows)) for way, windows in self._cost.items()}
        if idist.get_rank() != 0:
            return
        require_different(names)  # of several ranks: a sampler that fills up counts a case twice
        slices = self.path.with_suffix(".npz")
        content = self._content(engine, names) | ({"cost": cost} if cost else {}) | {"slices": slices.name}
        content["windows_per_gradient"] = attack_record(engine).windows_per_gradient
        content["compiled"] = attack_record(engine).compiled
        content["cases"] = [case | json.loads(more) for case, more in zip(content["cases"], told, strict=True)]
        self.path.unlink(missing_ok=True)  # an older one, so that a kill never leaves it beside the slices of this
        with whole_file(slices) as beside:
            np.savez_compressed(beside, case=np.array(names[0]), **self._snapshot)  # type: ignore[arg-type]
        write_json(self.path, content)

    def _volumes(self, output: dict[str, Any]) -> dict[str, list[float]]:
        """Return predicted and true volume of every class of a case, in ml; both have the voxels of the label."""
        spacing = affine_to_spacing(output[CommonKeys.LABEL].affine).tolist()
        masks = {"pred": output[CommonKeys.PRED], "truth": output[CommonKeys.LABEL]}
        rows = {}
        for name, mask in masks.items():
            outside = compute_organ_volumes(~mask[None].bool().any(1, keepdim=True), spacing).item()
            rows[name] = self.output.background_first(compute_organ_volumes(mask[None], spacing)[0].tolist(), outside)
        return {name: [round(volume, 6) for volume in row] for name, row in rows.items()}

    def _origin(self, case: dict[str, Any]) -> dict[str, Any]:
        """Return what tells which data a case is of, if its image is that of its file."""
        if not self.with_origin:
            return {}
        clean = case.get(AdversarialKeys.CLEAN_IMAGE.value, case[CommonKeys.IMAGE])
        return {"files": case_files(case), "input": case_input(clean)}

    def _require_same_weights(self) -> None:
        """Refuse to put the name of other weights on what was measured."""
        found = sha256(self.checkpoint)
        if found != self._weights:
            shown = f"{self._weights[:12]} before and {found[:12]} after, in {str(self.checkpoint)!r}"
            raise ValueError(f"checkpoint changed while it was evaluated: {shown}.")

    def _content(self, engine: Any, names: list[str]) -> dict[str, Any]:
        self._require_same_weights()
        columns = {key: engine.state.metric_details[f"val_{key}"].cpu() for key in self.metrics}
        nothing = torch.full((len(names), 1), float("nan"))  # surface metrics leave the background out
        columns |= {key: torch.cat([nothing, columns[key]], dim=1) for key in ("hd95_mm", "nsd")}
        dice = self.output.background_first(list(columns["dice"].split(1, dim=1)), nothing)
        columns["dice"] = torch.cat(dice, dim=1)
        note = getattr(self.metrics.get("image_quality"), "note", None)
        cases = [{"case": name, **_case(columns, row)} for row, name in enumerate(names)]
        return {
            **self.about,
            "checkpoint": {"path": str(self.checkpoint), "sha256": self._weights},
            "evaluation": {
                "inferer": inferer_facts(engine.inferer),
                "nsd_tolerance_mm": self.tolerance,
                "amp": bool(engine.amp),
            },
            "device": str(engine.state.device),
            "seconds": round(time.perf_counter() - self._started, 2),
            "versions": versions(),
            "notes": [] if note is None else [note],
            "summary": summarize(cases),
            "cases": cases,
        }


def _require_names(model_name: str, attack_name: str, classes: Sequence[str], output: Output) -> None:
    """Refuse names that are none of a file in the folder of the results, and classes that are not 2 different names.

    With the background, that is. A byte of a snapshot tells 256 classes apart.
    """
    for argument, name in (("model_name", model_name), ("attack_name", attack_name)):
        if not isinstance(name, str) or name in ("", ".", "..") or not name.isprintable() or set(name) & set("/\\"):
            raise ValueError(f"{argument} must be the name of a file, without folders, got {name!r}.")
    names = [] if isinstance(classes, str) else list(classes)
    good = all(isinstance(name, str) and name.strip() and name.isprintable() for name in names)
    least, most = (2, LARGEST_CLASSES) if output.background is not None else (1, LARGEST_CLASSES - 1)
    taken = output.background is None and "background" in names
    if not good or taken or not least <= len(set(names)) == len(names) <= most:
        first = ', none of them "background"' if output.background is None else ", background first"
        raise ValueError(f"classes must be {least} to {most} different names{first}, got {classes!r}.")


def _case(columns: dict[str, Tensor], row: int) -> dict[str, Any]:
    """Return the figures of one case."""
    per_class = {key: [_number(value) for value in columns[key][row]] for key in SEGMENTATION}
    counts = {name: int(value) for name, value in zip(PRESENCE_NAMES, columns["organ_presence"][row], strict=True)}
    return {**per_class, **counts, **_quality(columns, lambda quality: quality[row])}


def _quality(columns: dict[str, Tensor], choose: Callable[[Tensor], Tensor]) -> dict[str, float | None]:
    """Return the image-quality figures that ``choose`` takes; nothing was measured where there are none."""
    if "image_quality" not in columns:
        return dict.fromkeys(QUALITY_NAMES)
    return {name: _number(value) for name, value in zip(QUALITY_NAMES, choose(columns["image_quality"]), strict=True)}


def _number(value: Tensor) -> float | None:
    """Return a finite number, which JSON can hold, or nothing."""
    number = float(value)
    return round(number, 6) if math.isfinite(number) else None

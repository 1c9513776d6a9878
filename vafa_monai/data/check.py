"""Checks of cases before long work starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, MapTransform
from monai.utils import convert_to_tensor

from vafa_monai.data.case import CASE_NAME
from vafa_monai.data.files import file_name
from vafa_monai.data.overlap import require_apart
from vafa_monai.data.preparation import AFFINE_TOLERANCE
from vafa_monai.data.volume import displacement, require_whole
from vafa_monai.losses.output import Output

__all__ = ["check_cases", "first_cases", "written_cases"]

logger = logging.getLogger(__name__)
KINDS = ("image", "label")
RANGE_TOLERANCE = 1e-4  # of the width of value_range


def check_cases(  # noqa: PLR0913 - each is a check of its own
    data: Sequence[Mapping[str, Any]],
    *,
    num_classes: int,
    preprocessing: Callable[[Any], Any] | None = None,
    value_range: Sequence[Any] | None = (0.0, 1.0),
    roi_size: Sequence[int] | None = None,
    in_channels: int | None = None,
    output: Output | str = "softmax",
    unique_names: bool = False,
    apart: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    exit_on_error: bool = False,
) -> None:
    """Refuse cases that cannot be trained on or attacked, each with one sentence.

    Args:
        data: cases, dictionaries with the paths ``"image"`` and ``"label"``; a list of paths is stacked to channels.
        num_classes: number of classes with the background, or of channels under a sigmoid.
        preprocessing: deterministic transforms of a case. Files are loaded as its ``LoadImaged`` does, or by MONAI's
            own without it; after it intensities, classes and sizes are checked once more.
        value_range: lowest and highest intensity after ``preprocessing``, or such a pair for each channel; ``None``
            allows every finite one.
        roi_size: window of the network in voxels; a smaller volume is refused.
        in_channels: channels that the network takes; an image of any other number after ``preprocessing`` is refused.
        output: what the channels of the network and of labels mean, see :class:`vafa_monai.losses.Output`. Labels of a
            sigmoid may be anything in their files; after ``preprocessing`` each channel has 0 or 1.
        unique_names: refuse two images of one file name, but for its ending and case: results could not be told apart.
        apart: parts of the dataset by name that must share no image, by content; what is not here is not compared.
        exit_on_error: end the process with the sentence and exit code 1, as configs do, instead of raising.

    Raises:
        ValueError: if there is no case, a file is missing, damaged, of colors or complex numbers, or needs more memory
            than itself and ``VAFA_MONAI_LARGEST_GB`` allow; an image has NaN or is constant, a label is outside the
            classes, image and label differ in shape or by a tenth of a voxel in place, an intensity is outside
            ``value_range``, a volume is smaller than the window or has other channels than the network takes, or two
            parts share an image.
    """
    try:
        _check_list(data, unique_names)
        loader = _loader(preprocessing)
        meaning = Labels(num_classes, Output.of(output))
        for case in data:
            _check_loaded(case, loader, meaning)
            if preprocessing is not None:
                _check_preprocessed(case, preprocessing, meaning, value_range, roi_size, in_channels)
        require_apart(apart or {})
    except ValueError as error:
        _fail(error, exit_on_error)
    logger.info("checked %d cases", len(data))


def first_cases(data: Sequence[Mapping[str, Any]], num_cases: int | None = None) -> list[Mapping[str, Any]]:
    """Return the first cases of a list, or all; a number below 1 is refused, which Python takes for the end of a list.

    Example:
        >>> len(first_cases([{"image": "a"}, {"image": "b"}], 1)), len(first_cases([{"image": "a"}]))
        (1, 1)

    Raises:
        ValueError: if ``num_cases`` is no whole number of at least 1.
    """
    if num_cases is not None and (type(num_cases) is not int or num_cases < 1):
        raise ValueError(f"num_cases must be a whole number from 1 on, or None for all, got {num_cases!r}.")
    return list(data)[:num_cases]


def written_cases(data: Sequence[Mapping[str, Any]], folder: str | Path) -> list[dict[str, str]]:
    """Return the files that :class:`vafa_monai.handlers.AdversarialSaver` writes for cases: of these, and no others.

    Example:
        >>> written_cases([{"image": "imagesTs/case_03.nii.gz"}], "adv")[0]["native_label"]
        'adv/case_03_native_label.nii.gz'
    """
    names = [case.get(CASE_NAME) or file_name(_files(case["image"])[0]) for case in data]
    kinds = ("image", "label", "native_label")
    return [{kind: str(Path(folder) / f"{name}_{kind}.nii.gz") for kind in kinds} for name in names]


def _check_list(data: Sequence[Mapping[str, Any]], unique_names: bool) -> None:
    """Check that there are cases, each with files."""
    if not data:
        raise ValueError("data must hold at least one case, got an empty list.")
    names: dict[str, str] = {}
    for case in data:
        for kind in KINDS:
            files = _files(case.get(kind)) if isinstance(case, Mapping) else []
            if not files or not all(isinstance(file, (str, Path)) for file in files):
                value = case.get(kind) if isinstance(case, Mapping) else case
                raise ValueError(f"case must have a path, or a list of them, as {kind!r}, got {value!r}.")
        name = case.get(CASE_NAME) or Path(_files(case["image"])[0]).name
        stem = (name if CASE_NAME in case else name.removesuffix(".gz").rpartition(".")[0] or name).casefold()
        if unique_names and stem in names:
            both = f"{name!r} twice" if name == names[stem] else f"{names[stem]!r} and {name!r}"
            raise ValueError(f"images must have file names that differ, got {both}.")
        names[stem] = name


def _files(value: Any) -> list[Any]:
    """Return one file or several as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _fail(error: ValueError, exit_on_error: bool) -> None:
    """Raise the error, or end the process with its sentence."""
    if exit_on_error:
        raise SystemExit(str(error)) from None
    raise error


def _loader(preprocessing: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Return what loads a case as ``preprocessing`` does: its first transforms, or else what MONAI has for files."""
    steps = list(preprocessing.flatten().transforms) if isinstance(preprocessing, Compose) else []
    if steps and not any(isinstance(step, LoadImaged) for step in steps):
        return Compose(steps)  # with a loader of its own
    first = list(takewhile(lambda step: isinstance(step, (LoadImaged, EnsureChannelFirstd)), steps))
    more = []
    for kind in (LoadImaged, EnsureChannelFirstd):
        known = [step for step in first if isinstance(step, kind)]
        for key in sorted({*KINDS} - {key for step in known for key in step.keys}):
            more.append(_for_key(known[0], key) if known else kind([key]))
    return Compose([*first, *more])


def _for_key(step: MapTransform, key: str) -> MapTransform:
    """Return the same transform of another key, such as of an image that others are joined to."""
    twin = copy(step)
    twin.keys = (key,)
    return twin


def _load(case: Mapping[str, Any], loader: Callable[[Any], Any]) -> tuple[MetaTensor, MetaTensor]:
    """Load image and label, each of shape (C, H, W, D), from files that are whole."""
    for kind in KINDS:
        for path in map(Path, _files(case[kind])):
            if not path.is_file():
                raise ValueError(f"{kind} must be a file, got {str(path)!r}.")
            try:
                require_whole(path)
            except ValueError as error:
                raise ValueError(f"{kind} must be a readable volume, got {str(path)!r} ({error}).") from error
    try:
        loaded = loader(dict(case))
        image, label = (convert_to_tensor(loaded[kind], track_meta=True) for kind in KINDS)
    except Exception as error:  # readers raise errors of many kinds; MONAI's name the transform, its cause the reason
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"case must be readable by the transforms, got {_where(case)} ({reason}).") from error
    for kind, volume in zip(KINDS, (image, label), strict=True):
        if volume.ndim != 4 or not volume.numel():
            raise ValueError(
                f"{kind} must be 3D, with channels or without, got {tuple(volume.shape)} for {_where(case)}."
            )
    return image, label


def _where(case: Mapping[str, Any]) -> str:
    files = [str(file) for file in _files(case["image"])]
    return repr(files[0]) if len(files) == 1 else repr(files)


def _check_loaded(case: Mapping[str, Any], loader: Callable[[Any], Any], meaning: Labels) -> None:
    """Check what is loaded of a case."""
    image, label = _load(case, loader)
    where = f" for {_where(case)}"
    shape, found = tuple(image.shape[1:]), tuple(label.shape[1:])
    if shape != found:
        raise ValueError(f"label must have the shape of its image {shape}, got {found}{where}.")
    _check_place(image, label, shape, where)
    if not (finite := torch.isfinite(image)).all():
        raise ValueError(f"image must be finite, got {int((~finite).sum())} NaN or infinite voxels{where}.")
    _require_contrast(image, "", where)
    if meaning.output.is_sigmoid:
        return
    if len(label) != 1:
        raise ValueError(f"label must have one channel, got {len(label)}{where}.")
    meaning.check(label, "", where)


def _check_place(image: MetaTensor, label: MetaTensor, shape: tuple[int, ...], where: str) -> None:
    """Check that a label lies on its image, to the tolerance with which datasets are prepared."""
    try:
        first, second = (np.asarray(volume.affine, dtype=np.float64) for volume in (image, label))
        voxels = displacement(first, second, shape)
    except np.linalg.LinAlgError:
        voxels = math.nan
    if not voxels <= AFFINE_TOLERANCE:  # NaN fails
        rule = f"lie on its image to within {AFFINE_TOLERANCE:g} voxels"
        raise ValueError(f"label must {rule}, got a corner {voxels:.3g} voxels away by its affine{where}.")


def _require_contrast(image: torch.Tensor, when: str, where: str) -> None:
    """Refuse an image whose channels are all constant."""
    lows, highs = image.flatten(1).amin(dim=1), image.flatten(1).amax(dim=1)
    if torch.equal(lows, highs):
        raise ValueError(f"image must not be constant{when}, got {lows[0]:g} everywhere{where}.")


def _require_channels(found: int, wanted: int, where: str) -> None:
    """Refuse an image of other channels than the network takes."""
    if found != wanted:
        rule = f"have the {wanted} channel{'s' * (wanted != 1)} that the network takes"
        raise ValueError(f"image must {rule}, got {found}{where}; the last axis of a 4D file is its channels.")


@dataclass(frozen=True)
class Labels:
    """What labels may hold: as many classes or channels, and what they mean."""

    num_classes: int
    output: Output

    def check(self, label: torch.Tensor, when: str, where: str) -> None:
        """Check that a label holds classes, or 0 and 1 in each channel."""
        label = label if label.is_floating_point() else label.long()
        low, high, broken = float(label.min()), float(label.max()), int((label != label.round()).sum())
        if self.output.is_sigmoid and len(label) != self.num_classes:
            rule = f"have the {self.num_classes} channels of the network, each 0 or 1{when}"
            raise ValueError(f"label must {rule}, got {len(label)} channels{where}.")
        last = 1 if self.output.is_sigmoid else self.num_classes - 1
        if not (low >= 0 and high <= last and not broken):
            what = "0 or 1 in each channel" if self.output.is_sigmoid else f"whole class indices from 0 to {last}"
            more = f", {broken} of them not whole" if broken else ""
            raise ValueError(f"label must hold {what}{when}, got values from {low:g} to {high:g}{more}{where}.")


def _check_range(image: torch.Tensor, value_range: Sequence[Any] | None, when: str, where: str) -> None:
    """Check the intensities of an image, or of each of its channels."""
    if value_range is not None and isinstance(value_range[0], Sequence):
        if len(value_range) != len(image):
            rule = f"have a pair for each of {len(image)} channels"
            raise ValueError(f"value_range must {rule}, got {len(value_range)}{where}.")
        for index, pair in enumerate(value_range):
            _check_range(image[index : index + 1], pair, f" in channel {index}{when}", where)
        return
    low, high = float(image.min()), float(image.max())
    least, most = (-math.inf, math.inf) if value_range is None else value_range
    slack = 0.0 if value_range is None else RANGE_TOLERANCE * (most - least)
    if not (-math.inf < low and least - slack <= low and high <= most + slack and high < math.inf):  # NaN fails
        rule = f"lie in value_range {(least, most)}{when}"
        raise ValueError(f"image must {rule}, got {low:.4g} to {high:.4g}{where}.")


def _check_preprocessed(
    case: Mapping[str, Any],
    preprocessing: Callable[[Any], Any],
    meaning: Labels,
    value_range: Sequence[Any] | None,
    roi_size: Sequence[int] | None,
    in_channels: int | None,
) -> None:
    """Check what the network will see of a case."""
    made = preprocessing(dict(case))
    image, label = made["image"], made.get("label")
    where, when = f" for {_where(case)}", " after preprocessing"
    shape = tuple(image.shape[1:])
    if in_channels is not None:
        _require_channels(len(image), in_channels, where)
    if roi_size is not None and any(size < edge for size, edge in zip(shape, roi_size, strict=True)):
        raise ValueError(f"image must be at least as large as the window {tuple(roi_size)}, got {shape}{where}.")
    _check_range(image, value_range, when, where)
    _require_contrast(torch.as_tensor(image), when, where)
    if isinstance(label, torch.Tensor):
        if tuple(label.shape[1:]) != shape:
            found = tuple(label.shape[1:])
            raise ValueError(f"label must have the shape of its image {shape}{when}, got {found}{where}.")
        meaning.check(label, when, where)

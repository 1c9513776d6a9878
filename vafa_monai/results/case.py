"""The measurements of one case under one attack, as a result holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vafa_monai.metrics.image_quality import QUALITY_NAMES as IMAGE_QUALITY
from vafa_monai.results.json_file import counts, numbers, require, require_texts

__all__ = ["COUNTS", "IMAGE_QUALITY", "SEGMENTATION", "Case", "mean_known", "parse_case"]

SEGMENTATION = ("dice", "hd95_mm", "nsd")
COUNTS = ("lost", "invented")
GOAL_SHARES = ("reached_before", "reached", "collateral")


@dataclass(frozen=True, kw_only=True)
class Case:
    """The measurements of one case; ``dice``, ``hd95_mm`` and ``nsd`` have one value a class, ``None`` if undefined.

    Args:
        volume_ml: predicted and true volume of every class in milliliters, or nothing if the result does not hold them.
        attack_details: what the attack tells of the case, such as the members of an ensemble.
        files: SHA-256 of the files of image and label, or nothing if the result does not say.
        input: shape, mean and deviation of the image as the network gets it, or nothing.
    """

    case: str
    dice: tuple[float | None, ...]
    hd95_mm: tuple[float | None, ...]
    nsd: tuple[float | None, ...]
    ssim: float | None
    psnr_db: float | None
    rms_grey: float | None
    linf_grey: float | None
    lpips: float | None
    lost: int
    invented: int
    volume_ml: tuple[tuple[float, float], ...] = ()
    attack_details: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str | None] = field(default_factory=dict)
    input: Mapping[str, Any] = field(default_factory=dict)

    @property
    def foreground_dice(self) -> float | None:
        """The mean DSC of the classes after the first, which is the background."""
        return mean_known(self.dice[1:])

    @property
    def organs(self) -> int:
        """The number of foreground classes that the truth has: those with a DSC."""
        return sum(value is not None for value in self.dice[1:])


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not ``None``, or ``None`` if there are none.

    Example:
        >>> mean_known([1.0, None, 2.0]), mean_known([None])
        (1.5, None)
    """
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def parse_case(case: Mapping[str, Any], classes: Sequence[str], where: str) -> Case:
    """Turn one entry of ``cases`` into a case."""
    n_classes = len(classes)
    per_class = {key: _per_class(case.get(key), n_classes, f"{key} in {where}", key) for key in SEGMENTATION}
    objects: dict[str, Any] = {key: case.get(key) or {} for key in ("attack_details", "files", "input")}
    for key, value in objects.items():
        require(isinstance(value, dict), f"{key} in {where}", "be an object", value)
    require_texts(objects["files"], f"files in {where}", undefined=True)
    _check_input(objects["input"], f"input in {where}")
    _check_details(objects["attack_details"], f"attack_details in {where}")
    volumes = [_per_class(one, n_classes, f"volume_ml in {where}", "volume_ml") for one in _volumes(case, where)]
    known = all(value is not None for volume in volumes for value in volume)
    require(known, f"volume_ml in {where}", "have a number for every class", volumes)
    figures: dict[str, Any] = {**per_class, **numbers(case, IMAGE_QUALITY, where), **counts(case, COUNTS, where)}
    return Case(case=case["case"], **figures, volume_ml=tuple(zip(*volumes, strict=True)), **objects)


def _check_input(found: Mapping[str, Any], where: str) -> None:
    """Refuse the look of an image that is none."""
    if found:
        shape = found.get("shape")
        whole = isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape)
        require(whole, f"shape in {where}", "be a list of sizes", shape)
        known = numbers(found, ("mean", "std"), where)
        require(None not in known.values(), where, "have mean and std as numbers", known)


def _check_details(details: Mapping[str, Any], where: str) -> None:
    """Refuse what no ensemble and no anatomical target tells of a case."""
    members = details.get("members", {})
    entries = isinstance(members, dict) and all(isinstance(one, dict) for one in members.values())
    require(entries, f"members in {where}", "be an object of objects", members)
    for name, member in members.items():
        _per_class(member.get("dice", []), None, f"dice of {name} in {where}", "dice")
    goal = details.get("goal")
    if isinstance(goal, dict):
        objection = goal.get("objection")
        require(objection is None or isinstance(objection, str), f"objection in {where}", "be a text", objection)
        numbers({key: goal.get(key) for key in GOAL_SHARES}, GOAL_SHARES, where)
    else:
        require(goal is None, f"goal in {where}", "be an object", goal)


def _per_class(values: Any, n_classes: int | None, where: str, name: str) -> tuple[Any, ...]:
    """Return one number that can be measured, or ``None``, for each class."""
    right = isinstance(values, list) and n_classes in (None, len(values))
    require(right, where, "be a list" if n_classes is None else f"have {n_classes} values", values)
    return tuple(numbers(dict(enumerate(values)), range(len(values)), where, name).values())


def _volumes(case: Mapping[str, Any], where: str) -> list[Any]:
    """Return predicted and true volumes, if the case has them."""
    volumes = case.get("volume_ml")
    if volumes is None:
        return []
    both = isinstance(volumes, dict) and {"pred", "truth"} <= volumes.keys()
    require(both, f"volume_ml in {where}", "have pred and truth", volumes)
    return [volumes["pred"], volumes["truth"]]

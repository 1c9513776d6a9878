"""The measurements of one case under one attack, as a result holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vafa_monai.metrics import QUALITY_NAMES as IMAGE_QUALITY
from vafa_monai.reports.document_file import numbers, require

__all__ = ["COUNTS", "IMAGE_QUALITY", "SEGMENTATION", "Case", "mean_known", "parse_case"]

SEGMENTATION = ("dice", "hd95_mm", "nsd")
COUNTS = ("lost", "invented")


@dataclass(frozen=True, kw_only=True)
class Case:
    """The measurements of one case; ``dice``, ``hd95_mm`` and ``nsd`` have one value a class, ``None`` if undefined.

    Args:
        volume_ml: predicted and true volume of every class in milliliters, or nothing if the result does not hold them.
        attack_details: what the attack tells of the case, such as the members of an ensemble.
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


def parse_case(case: Mapping[str, Any], n_classes: int, where: str) -> Case:
    """Turn one entry of ``cases`` into a case."""
    per_class = {key: _per_class(case.get(key), n_classes, f"{key} in {where}") for key in SEGMENTATION}
    details = case.get("attack_details") or {}
    require(isinstance(details, dict), f"attack_details in {where}", "be an object", details)
    volumes = [_per_class(one, n_classes, f"volume_ml in {where}") for one in _volumes(case, where)]
    figures: dict[str, Any] = {**per_class, **numbers(case, (*IMAGE_QUALITY, *COUNTS), where)}
    return Case(
        case=case["case"],
        **figures,
        volume_ml=tuple(zip(*volumes, strict=True)),
        attack_details=details,
    )


def _per_class(values: Any, n_classes: int, where: str) -> tuple[Any, ...]:
    """Return one finite number or ``None`` for each class."""
    require(isinstance(values, list) and len(values) == n_classes, where, f"have {n_classes} values", values)
    return tuple(numbers(dict(enumerate(values)), range(n_classes), where).values())


def _volumes(case: Mapping[str, Any], where: str) -> list[Any]:
    """Return predicted and true volumes, if the case has them."""
    volumes = case.get("volume_ml")
    if volumes is None:
        return []
    both = isinstance(volumes, dict) and {"pred", "truth"} <= volumes.keys()
    require(both, f"volume_ml in {where}", "have pred and truth", volumes)
    return [volumes["pred"], volumes["truth"]]

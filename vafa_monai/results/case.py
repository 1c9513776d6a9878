"""The measurements of one case under one attack, as a result holds them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field

from vafa_monai.metrics.image_quality import QUALITY_NAMES as IMAGE_QUALITY
from vafa_monai.results.document import ROUNDING, Amount, As, Count, Document, Look, Number, Share, Text

__all__ = ["IMAGE_QUALITY", "SEGMENTATION", "Case", "mean_known"]

SEGMENTATION = ("dice", "hd95_mm", "nsd")  # figures with one value a class
Similarity = Annotated[Number, Field(ge=-1 - ROUNDING, le=1 + ROUNDING)]


class Volumes(Document):
    """Predicted and true volume of every class in milliliters."""

    pred: tuple[Amount, ...]
    truth: tuple[Amount, ...]


class Member(Document):
    """What a member of an ensemble left of a case: a DSC a class."""

    dice: tuple[Share | None, ...] = ()


class Goal(Document):
    """How far an anatomical target was reached, in shares of voxels, or why it was none."""

    objection: Text | None = None
    reached_before: Number | None = None
    reached: Number | None = None
    collateral: Number | None = None


class AttackDetails(Document):
    """What an attack tells of a case, as far as a report speaks of it."""

    members: dict[str, Member] = Field(default_factory=dict)
    goal: Goal | None = None


class Case(Document):
    """The measurements of one case; ``dice``, ``hd95_mm`` and ``nsd`` have one value a class, ``None`` if undefined.

    Args:
        attack_details: what the attack tells of the case, such as the members of an ensemble.
        files: SHA-256 of the files of image and label, or nothing if the result does not say.
        input: shape, mean and deviation of the image as the network gets it, or nothing.
    """

    case: Text
    dice: tuple[Share | None, ...]
    hd95_mm: tuple[Amount | None, ...]
    nsd: tuple[Share | None, ...]
    ssim: Similarity | None
    psnr_db: Number | None
    rms_grey: Amount | None
    linf_grey: Amount | None
    lpips: Amount | None
    lost: Count
    invented: Count
    volumes: Volumes | None = Field(default=None, alias="volume_ml")
    attack_details: Annotated[dict[str, Any], As(AttackDetails | None)] = Field(default_factory=dict)
    files: Annotated[dict[str, Any], As(dict[str, Text | None] | None)] = Field(default_factory=dict)
    input: Annotated[dict[str, Any], As(Look | None)] = Field(default_factory=dict)

    @property
    def volume_ml(self) -> tuple[tuple[float, float], ...]:
        """Predicted and true volume of every class in milliliters, or nothing if the result does not hold them."""
        return () if self.volumes is None else tuple(zip(self.volumes.pred, self.volumes.truth, strict=True))

    @property
    def foreground_dice(self) -> float | None:
        """The mean DSC of the classes after the first, which is the background."""
        return mean_known(self.dice[1:])

    @property
    def organs(self) -> int:
        """The number of foreground classes that the truth has: those with a DSC."""
        return sum(value is not None for value in self.dice[1:])

    @property
    def per_class(self) -> dict[str, tuple[Any, ...]]:
        """What has a value for each class, by its place in the document."""
        volumes = {} if self.volumes is None else {"pred": self.volumes.pred, "truth": self.volumes.truth}
        figures = {name: getattr(self, name) for name in SEGMENTATION}
        return figures | {f"volume_ml.{name}": values for name, values in volumes.items()}


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not ``None``, or ``None`` if there are none.

    Example:
        >>> mean_known([1.0, None, 2.0]), mean_known([None])
        (1.5, None)
    """
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None

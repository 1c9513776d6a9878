"""One organ under one attack: the figures of a cell of the organ table and how dark it is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vafa_monai.reports.attack_name import CLEAN
from vafa_monai.reports.case import mean_known
from vafa_monai.reports.comparison import Comparison
from vafa_monai.reports.result import Result

__all__ = ["OrganCell", "organ_cell"]

DARKEST = 75  # percent of the color, so that black ink can be read on it


@dataclass(frozen=True, kw_only=True)
class OrganCell:
    """Means over the cases that have the organ.

    Args:
        drop: DSC lost to the attack; ``None`` for the clean run, and where there is none.
        share: percent of the color: the root of the drop as a part of the clean DSC, so that small drops can be seen.
    """

    dice: float | None
    drop: float | None
    hd95: float | None
    share: float


def organ_cell(comparison: Comparison, model: str, attack: str, index: int) -> OrganCell:
    """Return the cell of the class with that index."""
    result, clean = comparison.get(model, attack), comparison.get(model, CLEAN)
    dice, before = _mean(result, "dice", index), _mean(clean, "dice", index)
    known = dice is not None and before is not None and attack != CLEAN
    drop = before - dice if known and before is not None and dice is not None else None
    share = 0.0 if drop is None or not before else DARKEST * math.sqrt(min(1.0, max(0.0, drop / before)))
    return OrganCell(dice=dice, drop=drop, hd95=_mean(result, "hd95_mm", index), share=round(share, 1))


def _mean(result: Result | None, metric: str, index: int) -> float | None:
    """Return the mean of one class over cases."""
    return None if result is None else mean_known(getattr(case, metric)[index] for case in result.cases)

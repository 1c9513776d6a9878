"""Anatomical targets that change the shape or the place of an organ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from vafa_monai.attacks.organ_goal import OrganGoal, fill, require_organ, require_other
from vafa_monai.attacks.setting import require_at_least, require_count

__all__ = ["GrowOrgan", "MoveOrgan", "ShrinkOrgan", "distance_to"]


def distance_to(mask: Tensor) -> Tensor:
    """Return how far every voxel of ``mask`` ``(H, W, D)`` is from the nearest voxel outside it, in voxels, 0 outside.

    Infinite where there is nothing outside. The border of the volume counts as nothing.

    Example:
        >>> distance_to(torch.tensor([[[True, True, False]]])).tolist()
        [[[2.0, 1.0, 0.0]]]
    """
    if mask.all():
        return torch.full(mask.shape, float("inf"), device=mask.device)
    return torch.as_tensor(distance_transform_edt(mask.cpu().numpy()), dtype=torch.float32, device=mask.device)


@dataclass(frozen=True, kw_only=True)
class GrowOrgan(OrganGoal):
    """Let an organ grow by a ball.

    Args:
        organ: class of the organ, from 1 on.
        voxels: how far it grows.
        over: classes that it may cover; ``None`` is every other one.

    Raises:
        ValueError: if ``organ`` is the background or in ``over``, or ``voxels`` is below 1.

    Example:
        >>> GrowOrgan(organ=1, voxels=1)(torch.tensor([2, 1, 0, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [1, 1, 1, 0]
    """

    organ: int
    voxels: float = 2
    over: Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_organ("organ", self.organ)
        require_at_least("voxels", self.voxels, 1)
        if self.over is not None:
            object.__setattr__(self, "over", tuple(self.over))
            for covered in self.over:
                require_count("over", covered)
                require_other("over", covered, self.organ)

    @property
    def organs(self) -> tuple[int, ...]:
        """The organ."""
        return (self.organ,)

    def reach(self, labels: Tensor) -> Tensor:
        """Return the labels with the organ grown."""
        near = distance_to(labels != self.organ) <= self.voxels
        if self.over is not None:
            near &= torch.isin(labels, torch.tensor(self.over, device=labels.device))
        return labels.masked_fill(near, self.organ)


@dataclass(frozen=True, kw_only=True)
class ShrinkOrgan(OrganGoal):
    """Let an organ shrink by a ball; what it gives up takes the nearest other class.

    Args:
        organ: class of the organ, from 1 on.
        voxels: how far it shrinks; a sample where nothing would be left of it is not attacked, that is to erase it.

    Raises:
        ValueError: if ``organ`` is the background, or ``voxels`` is below 1.

    Example:
        >>> ShrinkOrgan(organ=1, voxels=1)(torch.tensor([2, 1, 1, 1, 0]).view(1, 1, 1, 1, 5)).flatten().tolist()
        [2, 2, 1, 0, 0]
    """

    organ: int
    voxels: float = 2

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_organ("organ", self.organ)
        require_at_least("voxels", self.voxels, 1)

    @property
    def organs(self) -> tuple[int, ...]:
        """The organ."""
        return (self.organ,)

    def reach(self, labels: Tensor) -> Tensor:
        """Return the labels with the organ shrunk."""
        organ = labels == self.organ
        others = fill(labels, organ)
        return torch.where(organ & (distance_to(organ) <= self.voxels), others, labels)


@dataclass(frozen=True, kw_only=True)
class MoveOrgan(OrganGoal):
    """Let the boundary of an organ be elsewhere: the whole organ is shifted, and must not leave the volume.

    What it leaves takes the nearest other class, what leaves the volume is lost, and it covers what is in its way.

    Args:
        organ: class of the organ, from 1 on.
        shift: voxels along the axes ``(h, w, d)``.

    Raises:
        ValueError: if ``organ`` is the background, or ``shift`` is not three whole numbers, one of them not 0.

    Example:
        >>> MoveOrgan(organ=1, shift=(0, 0, 1))(torch.tensor([2, 1, 1, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [2, 2, 1, 1]
    """

    organ: int
    shift: Sequence[int] = (2, 0, 0)

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_organ("organ", self.organ)
        shift = tuple(self.shift)
        if len(shift) != 3 or not all(type(step) is int for step in shift) or not any(shift):
            raise ValueError(f"shift must be three whole numbers, one of them not 0, got {self.shift!r}.")
        object.__setattr__(self, "shift", shift)

    @property
    def organs(self) -> tuple[int, ...]:
        """The organ."""
        return (self.organ,)

    def reach(self, labels: Tensor) -> Tensor:
        """Return the labels with the organ shifted."""
        organ = labels == self.organ
        places = organ.nonzero() + torch.tensor(self.shift, device=labels.device)
        inside = ((places >= 0) & (places < torch.tensor(labels.shape, device=labels.device))).all(1)
        goal = fill(labels, organ)
        goal[places[inside].unbind(1)] = self.organ
        return goal

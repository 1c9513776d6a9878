"""Anatomical targets: what a label map is to become; nothing here knows a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from vafa_monai.attacks.setting import require_count

__all__ = ["EraseOrgan", "OrganGoal", "SwapOrgans", "fill", "require_organ", "require_other"]


def fill(labels: Tensor, hole: Tensor) -> Tensor:
    """Give every voxel of ``hole`` the class of the nearest voxel outside it; the first in memory of equally near ones.

    Args:
        labels: class indices ``(H, W, D)``.
        hole: mask of the same shape, with a voxel outside it at least.

    Example:
        >>> labels = torch.tensor([[[2, 1, 1, 0]]])
        >>> fill(labels, labels == 1).tolist()
        [[[2, 2, 0, 0]]]
    """
    nearest = distance_transform_edt(hole.cpu().numpy(), return_distances=False, return_indices=True)
    return labels[tuple(torch.as_tensor(nearest, dtype=torch.long, device=labels.device))]


@dataclass(frozen=True, kw_only=True)
class OrganGoal(ABC):
    """Map the labels of a sample to those that an attack is to bring about; immutable, built from JSON by ``_target_``.

    Distances are in voxels of the grid that the network sees.
    """

    keeps_organs: ClassVar[bool] = True

    @property
    @abstractmethod
    def organs(self) -> tuple[int, ...]:
        """The classes that a sample must have; their voxels tell what the attack achieved."""

    @abstractmethod
    def reach(self, labels: Tensor) -> Tensor:
        """Return the goal of labels ``(H, W, D)`` that have the organs."""

    def __call__(self, labels: Tensor) -> Tensor:
        """Return the goal of every sample ``(B, 1, H, W, D)``; a sample where it makes no sense keeps its labels."""
        goals = [one if self.objection(one) else self.reach(one) for one in labels[:, 0]]
        return torch.stack(goals)[:, None].to(labels.dtype)

    def objection(self, labels: Tensor) -> str:
        """Say why the goal makes no sense for labels ``(H, W, D)``; an empty text if it does."""
        for organ in self.organs:
            if not (labels == organ).any():
                return f"class {organ} is absent"
            if (labels == organ).all():
                return f"class {organ} fills the volume"
        goal = self.reach(labels)
        if torch.equal(goal, labels):
            return "there is nothing to change"
        lost = [organ for organ in self.organs if not (goal == organ).any()]
        return f"nothing would be left of class {lost[0]}" if lost and self.keeps_organs else ""


@dataclass(frozen=True, kw_only=True)
class EraseOrgan(OrganGoal):
    """Let an organ disappear.

    Args:
        organ: class of the organ, from 1 on.
        replacement: class of its voxels afterwards; ``None`` is the nearest other one.

    Raises:
        ValueError: if ``organ`` is the background, or ``replacement`` is ``organ``.

    Example:
        >>> EraseOrgan(organ=1)(torch.tensor([2, 1, 1, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [2, 2, 0, 0]
    """

    keeps_organs: ClassVar[bool] = False

    organ: int
    replacement: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_organ("organ", self.organ)
        if self.replacement is not None:
            require_count("replacement", self.replacement)
            require_other("replacement", self.replacement, self.organ)

    @property
    def organs(self) -> tuple[int, ...]:
        """The organ."""
        return (self.organ,)

    def reach(self, labels: Tensor) -> Tensor:
        """Return the labels without the organ."""
        hole = labels == self.organ
        return fill(labels, hole) if self.replacement is None else labels.masked_fill(hole, self.replacement)


@dataclass(frozen=True, kw_only=True)
class SwapOrgans(OrganGoal):
    """Let two organs be taken for each other.

    Args:
        first: class of one, from 1 on.
        second: class of the other.

    Raises:
        ValueError: if they are the same, or one is the background.

    Example:
        >>> SwapOrgans(first=1, second=2)(torch.tensor([2, 1, 1, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [1, 2, 2, 0]
    """

    first: int
    second: int

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_organ("first", self.first)
        require_organ("second", self.second)
        require_other("second", self.second, self.first)

    @property
    def organs(self) -> tuple[int, ...]:
        """Both organs."""
        return (self.first, self.second)

    def reach(self, labels: Tensor) -> Tensor:
        """Return the labels with the two exchanged."""
        first, second = labels == self.first, labels == self.second
        return labels.masked_fill(first, self.second).masked_fill(second, self.first)


def require_organ(name: str, organ: int) -> None:
    """Refuse what is no class of an organ."""
    require_count(name, organ)
    if organ == 0:
        raise ValueError(f"{name} must be the class of an organ, from 1 on, got 0, the background.")


def require_other(name: str, value: int, organ: int) -> None:
    """Refuse the same class twice."""
    if value == organ:
        raise ValueError(f"{name} must be another class than {organ}, got {value!r}.")

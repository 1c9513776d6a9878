"""Goals of a targeted attack: organs that vanish, swap, move, grow or shrink."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from vafa_monai.attacks.validation import require_at_least, require_count
from vafa_monai.losses.output import Output

__all__ = ["EraseOrgan", "GrowOrgan", "MoveOrgan", "OrganGoal", "ShrinkOrgan", "SwapOrgans"]


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

    Distances are in voxels of the grid that the network sees. Regions that overlap change each by itself: what one
    gives up becomes no other, and what it takes stays what it was, too.
    """

    keeps_organs: ClassVar[bool] = True

    @property
    @abstractmethod
    def organs(self) -> tuple[int, ...]:
        """The classes that a sample must have; their voxels tell what the attack achieved."""

    @abstractmethod
    def reach(self, labels: Tensor) -> Tensor:
        """Return the goal of labels ``(H, W, D)`` that have the organs."""

    def reach_regions(self, regions: Tensor) -> Tensor:
        """Return the goal of regions ``(channels, H, W, D)`` that have the organs, each as class 1 of 0 and 1."""
        goal, alone = regions.clone(), replace(self, organ=1)  # type: ignore[call-arg]
        for organ in self.organs:
            goal[organ] = alone.reach(regions[organ])
        return goal

    def require_output(self, output: Output) -> None:
        """Refuse a goal that makes no sense for the kind of labels.

        Raises:
            ValueError: if an organ is the background, or the goal says which other class is to change, which regions
                that overlap do not.
        """
        if output.background in self.organs:
            raise ValueError(f"goal must have organs as its classes, got {output.background}, the background.")
        for name in ("replacement", "over"):
            value = getattr(self, name, None)
            if output.is_sigmoid and value is not None:
                raise ValueError(f"{name} must be None for regions that overlap, got {value!r}.")

    def __call__(self, labels: Tensor, output: Output | str = "softmax") -> Tensor:
        """Return the goal of every sample, in the form of ``labels``; one where it makes no sense keeps its labels.

        Args:
            labels: class indices ``(B, 1, H, W, D)``, or 0 and 1 of shape ``(B, channels, H, W, D)`` for a sigmoid.
            output: what they mean.
        """
        output = Output.of(output)
        reach = self.reach_regions if output.is_sigmoid else self._reach_labels
        goals = [one if self.objection(one, output) else reach(one) for one in labels]
        return torch.stack(goals).to(labels.dtype)

    def _reach_labels(self, labels: Tensor) -> Tensor:
        """Return the goal of labels ``(1, H, W, D)``."""
        return self.reach(labels[0])[None]

    def objection(self, labels: Tensor, output: Output | str = "softmax") -> str:
        """Say why the goal makes no sense for the labels of a sample; an empty text if it does.

        Args:
            labels: as in a call, without the axis of the batch.
            output: what they mean.
        """
        sigmoid = Output.of(output).is_sigmoid

        def voxels(of: Tensor, organ: int) -> Tensor:
            return of[organ] > 0 if sigmoid else of == organ

        for organ in self.organs:
            if not voxels(labels, organ).any():
                return f"class {organ} is absent"
            if voxels(labels, organ).all():
                return f"class {organ} fills the volume"
        goal = self.reach_regions(labels) if sigmoid else self._reach_labels(labels)
        if torch.equal(goal, labels):
            return "there is nothing to change"
        lost = [organ for organ in self.organs if not voxels(goal, organ).any()]
        return f"nothing would be left of class {lost[0]}" if lost and self.keeps_organs else ""


@dataclass(frozen=True, kw_only=True)
class EraseOrgan(OrganGoal):
    """Let an organ disappear.

    Args:
        organ: class of the organ; which one is the background, which is none, the output of the attack says.
        replacement: class of its voxels afterwards; ``None`` is the nearest other one.

    Raises:
        ValueError: if ``organ`` is negative, or ``replacement`` is ``organ``.

    Example:
        >>> EraseOrgan(organ=1)(torch.tensor([2, 1, 1, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [2, 2, 0, 0]
    """

    keeps_organs: ClassVar[bool] = False

    organ: int
    replacement: int | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_count("organ", self.organ)
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
    """Let two organs be taken for each other; regions that overlap change their channels.

    Args:
        first: class of one; none is the background.
        second: class of the other.

    Raises:
        ValueError: if they are the same, or one is negative.

    Example:
        >>> SwapOrgans(first=1, second=2)(torch.tensor([2, 1, 1, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [1, 2, 2, 0]
    """

    first: int
    second: int

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_count("first", self.first)
        require_count("second", self.second)
        require_other("second", self.second, self.first)

    @property
    def organs(self) -> tuple[int, ...]:
        """Both organs."""
        return (self.first, self.second)

    def reach_regions(self, regions: Tensor) -> Tensor:
        """Return the regions with the two exchanged."""
        goal = regions.clone()
        goal[[self.first, self.second]] = regions[[self.second, self.first]]
        return goal

    def reach(self, labels: Tensor) -> Tensor:
        """Return the labels with the two exchanged."""
        first, second = labels == self.first, labels == self.second
        return labels.masked_fill(first, self.second).masked_fill(second, self.first)


def require_other(name: str, value: int, organ: int) -> None:
    """Refuse the same class twice."""
    if value == organ:
        raise ValueError(f"{name} must be another class than {organ}, got {value!r}.")


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
        organ: class of the organ; which one is the background, which is none, the output of the attack says.
        voxels: how far it grows.
        over: classes that it may cover; ``None`` is every other one.

    Raises:
        ValueError: if ``organ`` is negative or in ``over``, or ``voxels`` is below 1.

    Example:
        >>> GrowOrgan(organ=1, voxels=1)(torch.tensor([2, 1, 0, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [1, 1, 1, 0]
    """

    organ: int
    voxels: float = 2
    over: Sequence[int] | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_count("organ", self.organ)
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
        organ: class of the organ; which one is the background, which is none, the output of the attack says.
        voxels: how far it shrinks; a sample where nothing would be left of it is not attacked, that is to erase it.

    Raises:
        ValueError: if ``organ`` is negative, or ``voxels`` is below 1.

    Example:
        >>> ShrinkOrgan(organ=1, voxels=1)(torch.tensor([2, 1, 1, 1, 0]).view(1, 1, 1, 1, 5)).flatten().tolist()
        [2, 2, 1, 0, 0]
    """

    organ: int
    voxels: float = 2

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_count("organ", self.organ)
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
        organ: class of the organ; which one is the background, which is none, the output of the attack says.
        shift: voxels along the axes ``(h, w, d)``.

    Raises:
        ValueError: if ``organ`` is negative, or ``shift`` is not three whole numbers, one of them not 0.

    Example:
        >>> MoveOrgan(organ=1, shift=(0, 0, 1))(torch.tensor([2, 1, 1, 0]).view(1, 1, 1, 1, 4)).flatten().tolist()
        [2, 2, 1, 1]
    """

    organ: int
    shift: Sequence[int] = (2, 0, 0)

    def __post_init__(self) -> None:
        """Refuse what makes no sense in any sample."""
        require_count("organ", self.organ)
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

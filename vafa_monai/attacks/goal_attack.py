"""An attack with an anatomical target: what it was to achieve, and what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.utils import StrEnum, look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, require_numbers
from vafa_monai.attacks.attack import AttackWrapper, LossAttack, Network
from vafa_monai.attacks.organ_goal import OrganGoal
from vafa_monai.losses.output import Output, require_channels

__all__ = ["GoalAscent", "GoalAttack", "GoalSource"]


class GoalSource(StrEnum):
    """Whose labels the goal is made of."""

    LABEL = "label"
    PREDICTION = "prediction"


@dataclass(frozen=True)
class GoalAscent(Ascent):
    """What an attack with a goal found, and how near it came, one dictionary a sample."""

    achieved: Sequence[dict[str, Any]] = ()

    def details(self) -> list[dict[str, Any]]:
        """Return ``{"goal": ...}`` for every sample."""
        return [{"goal": dict(one)} for one in self.achieved]


@dataclass(frozen=True, kw_only=True)
class GoalAttack(AttackWrapper):
    """Let the network find an anatomy that is not there: an organ erased, swapped, grown, shrunk or moved.

    The goal is made of the labels of each sample, and ``attack`` descends towards it. A sample for which the goal makes
    no sense, such as one without the organ, is returned as it is, and its details say so.

    The details of a sample are ``objection`` (why it was left alone, or empty), ``voxels`` (how many the goal changes),
    ``reached`` and ``reached_before`` (share of these that have the class of the goal, under attack and before),
    ``collateral`` (share of all others whose prediction changed), and ``organ_voxels`` (how many voxels of the organs
    the network finds before and under attack, and how many the goal has). They are in the grid of the network.

    Args:
        attack: a targeted attack, such as ``PGD(targeted=True)``.
        goal: what the labels are to become.
        source: ``"label"`` makes the goal of ``targets``; ``"prediction"`` of what the network says of the clean
            volume, which needs no labels.
        value_range: that of ``attack``, which is taken where none is given.
        output: that of ``attack``, in the same way. Under a sigmoid an organ is the number of a channel, from 0 on, and
            voxels are counted channel by channel.

    Raises:
        TypeError: if ``attack`` cannot have a target, or ``goal`` is no goal.
        ValueError: if ``attack`` is not targeted, ``source`` is unknown, ``value_range`` or ``output`` is not that of
            ``attack``, an organ is the background, or the network has no such class.

    Example:
        >>> from vafa_monai.attacks import PGD, EraseOrgan
        >>> attack = GoalAttack(attack=PGD(eps=0.5, steps=5, targeted=True), goal=EraseOrgan(organ=1))
        >>> volume = torch.tensor([0.1, 0.9, 0.9]).view(1, 1, 1, 1, 3)
        >>> found = attack.run(volume, (volume > 0.5).long(), lambda x: 8 * torch.cat([0.5 - x, x - 0.5], 1))
        >>> goal = found.details()[0]["goal"]
        >>> goal["reached_before"], goal["reached"], goal["collateral"]
        (0.0, 1.0, 0.0)
    """

    goal: OrganGoal
    source: GoalSource | str = GoalSource.LABEL

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if not isinstance(self.attack, LossAttack):
            raise TypeError(f"attack must be one that can have a target, got {type(self.attack).__name__}.")
        if not self.attack.targeted:
            raise ValueError("attack must be targeted, got targeted=False.")
        if not isinstance(self.goal, OrganGoal):
            raise TypeError(f"goal must be a goal of vafa_monai.attacks, got {type(self.goal).__name__}.")
        self.goal.require_output(Output.of(self.output))
        object.__setattr__(self, "source", look_up_option(self.source, GoalSource))

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> GoalAscent:
        """Find the attacked volumes."""
        before, output = self._predict(inputs, network), Output.of(self.output)
        labels = before if self.source == GoalSource.PREDICTION else targets.to(before.dtype)
        output.require_shape(before, labels, name="targets")
        goals, objections = self.goal(labels, output), [self.goal.objection(one, output) for one in labels]
        sensible = torch.tensor([not objection for objection in objections], device=inputs.device)
        adv = inputs.clone()
        if sensible.any():
            adv[sensible] = self.attack(inputs[sensible], goals[sensible], network)
        after = self._predict(adv, network)
        achieved = [
            {"objection": objection, **self._achieved(truth, goal, old, new)}
            for objection, truth, goal, old, new in zip(objections, labels, goals, before, after, strict=True)
        ]
        return GoalAscent(adv, achieved=achieved)

    def _predict(self, volume: Tensor, network: Network) -> Tensor:
        """Return the labels that the network finds, in the form of targets; refuse a goal beyond its classes."""
        output = Output.of(self.output)
        with torch.no_grad():
            logits = require_numbers(network(volume))
        channels = logits.shape[1]
        require_channels(channels, output=output)
        asked = [*self.goal.organs, getattr(self.goal, "replacement", None) or 0]
        if max(asked) >= channels:
            first = 1 if output.background == 0 else 0
            rule = f"have classes from {first} to {channels - 1}, those of the network"
            raise ValueError(f"goal must {rule}, got {max(asked)}.")
        return output.predict(logits)

    def _achieved(self, labels: Tensor, goal: Tensor, before: Tensor, after: Tensor) -> dict[str, Any]:
        """Return the figures of one sample, of labels without the axis of the batch."""
        changed = goal != labels
        found = {name: self._voxels(part) for name, part in (("before", before), ("after", after), ("goal", goal))}
        return {
            "voxels": int(changed.sum()),
            "reached_before": _share(before[changed] == goal[changed]),
            "reached": _share(after[changed] == goal[changed]),
            "collateral": _share(after[~changed] != before[~changed]),
            "organ_voxels": found,
        }

    def _voxels(self, labels: Tensor) -> int:
        """Return how many voxels are of any of the organs."""
        organs = torch.tensor(self.goal.organs, device=labels.device)
        sigmoid = Output.of(self.output).is_sigmoid
        return int((labels[organs].any(0) if sigmoid else torch.isin(labels, organs)).sum())


def _share(hits: Tensor) -> float | None:
    """Return the share of true values; nothing of none."""
    return round(hits.float().mean().item(), 6) if hits.numel() else None

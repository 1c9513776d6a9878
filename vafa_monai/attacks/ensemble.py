"""The attack that a number is quoted by: several attacks of fixed settings, of which the worst counts."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from monai.metrics import compute_dice
from torch import Tensor

from vafa_monai.attacks.apgd import APGD
from vafa_monai.attacks.ascent import Ascent, require_numbers
from vafa_monai.attacks.attack import Attack, Network
from vafa_monai.attacks.frequency_pgd import FrequencyPGD
from vafa_monai.attacks.pgd import CosPGD
from vafa_monai.attacks.square_attack import SquareAttack
from vafa_monai.attacks.vafa import VAFA
from vafa_monai.attacks.validation import require_at_least, require_block_size, require_count, require_strength
from vafa_monai.losses.output import Output
from vafa_monai.losses.voxel_loss import JensenShannonLoss, MaskedCrossEntropyLoss

__all__ = ["AttackEnsemble", "EnsembleAscent", "class_dice", "foreground_dice"]

VERSION = 1
ANNEALING = ((2.0, 0.3), (1.5, 0.3), (1.0, 0.4))  # as published for APGD on segmentation (Croce et al., ECCV 2024)
UNHARMED = "none"  # the clean volume, where no attack did any harm


@dataclass(frozen=True)
class EnsembleAscent(Ascent):
    """What an ensemble found: the worst volume of every sample, and the DSC that every member left.

    Args:
        members: DSC of every class, ``(B, classes)``, by the name of the member; NaN for a class absent from a sample,
            and everywhere if the sample was broken before the member's turn.
        worst_member: the member whose volume is returned, sample by sample; ``"none"`` is the clean volume.
        output: what the classes are.
    """

    members: Mapping[str, Tensor] = field(default_factory=dict)
    worst_member: tuple[str, ...] = ()
    output: Output = Output()  # noqa: RUF009 - it is immutable

    def details(self) -> list[dict[str, Any]]:
        """Return for every sample, as JSON: the DSC of each member, its worst member, the worst DSC of each class.

        The background is first, with nothing where there is none.
        """
        return [
            {
                "members": {name: {"dice": self._row(dice[sample])} for name, dice in self.members.items()},
                "worst_member": worst,
                "worst_dice": self._row(torch.stack([_known(dice[sample]) for dice in self.members.values()]).amin(0)),
            }
            for sample, worst in enumerate(self.worst_member)
        ]

    def _row(self, dice: Tensor) -> list[float | None]:
        """Return DSC as JSON."""
        row = [round(value, 6) if math.isfinite(value) else None for value in dice.tolist()]
        return self.output.background_first(row, None)


@dataclass(frozen=True, kw_only=True)
class AttackEnsemble(Attack):
    """Run seven attacks of fixed settings, and return for every case the volume of the lowest foreground DSC.

    The members, in their order: ``apgd_masked_ce``, ``apgd_js`` and ``apgd_dice_ce`` (:class:`APGD` on the masked cross
    entropy balanced over classes, the Jensen-Shannon divergence, and Dice plus cross entropy, each from a random start
    and annealed from twice the radius), ``cos_pgd`` (best iterate), ``frequency_pgd`` on the masked cross entropy,
    ``vafa_audit`` on the Jensen-Shannon divergence, and ``square``, which needs no gradient. A case whose foreground
    DSC is ``broken_at`` or less is not attacked further.

    Its name in reports is ``VolAA 1``: a version stands for its members and their settings, so that numbers of the same
    name and budget compare. Steps, queries and ``broken_at`` that are not the standard are said in the name. There are
    two budgets, voxels by ``eps`` and coefficients by ``q_max``; the DSC of each member is kept, to tell them apart.

    Args:
        eps: radius of the attacks on voxels, L-inf, as a fraction of the width of ``value_range``, or as text in gray
            levels, such as ``"4 gray"``.
        q_max: width of the box of coefficients, and largest quantization step, in gray levels.
        block_size: block edges ``(h, w, d)`` of the attacks on coefficients, in voxels.
        steps: number of steps of each attack that climbs; 100 is the standard.
        queries: how often the attack without gradient asks the network; 1000 is the standard.
        broken_at: foreground DSC at which a case is left alone, in [0, 1].
        seed: seed of the random starts and of the black box.
        version: 1, the only one.
        value_range: lowest and highest intensity that the network's input can have.
        output: what the channels of logits and labels mean; every member climbs and is judged accordingly.

    Raises:
        ValueError: if a setting is impossible, or the version unknown.

    Example:
        >>> AttackEnsemble().name, AttackEnsemble(steps=20, queries=50).name
        ('VolAA 1', 'VolAA 1 (steps 20, queries 50)')
    """

    STANDARD: ClassVar[Mapping[str, float]] = {"steps": 100, "queries": 1000, "broken_at": 0.02}

    eps: float = 4 / 255
    q_max: float = 20
    block_size: Sequence[int] = (32, 32, 32)
    steps: int = 100
    queries: int = 1000
    broken_at: float = 0.02
    seed: int = 0
    version: int = VERSION
    name: str = field(init=False)

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "block_size", require_block_size(self.block_size))
        object.__setattr__(self, "eps", require_strength("eps", self.eps))
        for name, lowest in (("q_max", 1), ("broken_at", 0)):
            require_at_least(name, getattr(self, name), lowest)
        for name in ("steps", "queries"):
            require_count(name, getattr(self, name))
        if self.broken_at > 1:
            raise ValueError(f"broken_at must be at most 1, got {self.broken_at!r}.")
        if self.version != VERSION:
            raise ValueError(f"version must be {VERSION}, got {self.version!r}.")
        now = {name: getattr(self, name) for name in self.STANDARD}
        changed = ", ".join(f"{name} {value:g}" for name, value in now.items() if value != self.STANDARD[name])
        object.__setattr__(self, "name", f"VolAA {self.version}" + (f" ({changed})" if changed else ""))

    @property
    def members(self) -> dict[str, Attack]:
        """The attacks, in the order of their turns."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that this attack was warned of
            return self._members()

    def _members(self) -> dict[str, Attack]:
        """Build the attacks."""
        masked, divergence = (
            MaskedCrossEntropyLoss(balanced=True, output=self.output),
            JensenShannonLoss(output=self.output),
        )
        common: dict[str, Any] = {"value_range": self.value_range, "output": self.output}
        voxels = {**common, "eps": self.eps, "steps": self.steps, "seed": self.seed, "random_start": True}
        annealed = {**voxels, "schedule": ANNEALING}
        blocks = {**common, "q_max": self.q_max, "block_size": self.block_size, "steps": self.steps}
        return {
            "apgd_masked_ce": APGD(loss_function=masked, **annealed),
            "apgd_js": APGD(loss_function=divergence, **annealed),
            "apgd_dice_ce": APGD(**annealed),
            "cos_pgd": CosPGD(iterate="best", **voxels),
            "frequency_pgd": FrequencyPGD(loss_function=masked, **blocks),
            "vafa_audit": VAFA.preset("audit", loss_function=divergence, **blocks),
            "square": SquareAttack(eps=self.eps, queries=self.queries, seed=self.seed, **common),
        }

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return what is left of the excess over the budget that a sample fits best."""
        return torch.stack([attack.excess(clean, adv) for attack in self.members.values()]).amin(0)

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> EnsembleAscent:
        """Find the attacked volumes."""
        adv, (dice, lowest) = self.clip(inputs).clone(), self._measure(network, inputs, targets)
        worst = [UNHARMED] * len(inputs)
        members = {}
        for name, attack in self.members.items():
            alive = lowest > self.broken_at
            members[name] = torch.full_like(dice, math.nan)
            if not alive.any():
                continue
            volumes = attack(inputs[alive], targets[alive], network)
            members[name][alive], after = self._measure(network, volumes, targets[alive])
            for sample, volume, left in zip(alive.nonzero().flatten().tolist(), volumes, after, strict=True):
                if left < lowest[sample] or (left == lowest[sample] and worst[sample] == UNHARMED):
                    adv[sample], lowest[sample], worst[sample] = volume, left, name
        return EnsembleAscent(adv, None, 1 - lowest, members, tuple(worst), Output.of(self.output))

    def _measure(self, network: Network, volume: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the DSC that ``network`` leaves of every class, and of the foreground."""
        with torch.no_grad():
            logits = require_numbers(network(volume))
        return class_dice(logits, targets, self.output), foreground_dice(logits, targets, self.output)


def class_dice(logits: Tensor, targets: Tensor, output: Output | str = "softmax") -> Tensor:
    """Return the DSC of every class as MONAI has it, ``(B, classes)``: NaN for a class absent from the truth.

    A channel of a sigmoid is a class, whatever the others are; voxels that are to be ignored do not count.

    Args:
        logits: of shape ``(B, channels, H, W, D)``.
        targets: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 in the shape of the logits for a sigmoid.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.

    Raises:
        ValueError: if ``targets`` do not fit the logits, or are no labels of ``output``.

    Example:
        >>> logits, targets = torch.tensor([[2.0, 2.0], [0.0, 0.0]]), torch.tensor([0, 1])
        >>> class_dice(logits.view(1, 2, 1, 1, 2), targets.view(1, 1, 1, 1, 2))
        tensor([[0.6667, 0.0000]])
        >>> class_dice(logits.view(1, 2, 1, 1, 2), torch.ones(1, 2, 1, 1, 2), "sigmoid")
        tensor([[1., 0.]])
    """
    output, (pred, truth) = Output.of(output), _masks(logits, targets, output)
    dice = compute_dice(pred, truth)
    if output.ignore is not None and output.ignore < logits.shape[1]:
        dice[:, output.ignore] = math.nan
    return dice


def foreground_dice(logits: Tensor, targets: Tensor, output: Output | str = "softmax") -> Tensor:
    """Return the mean DSC of the classes but the background, ``(B,)``, which tells volumes of one case apart.

    Where the truth is background alone, it is 1 if nothing else is predicted, and else 0.

    Args:
        logits: of shape ``(B, channels, H, W, D)``.
        targets: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 in the shape of the logits for a sigmoid.
        output: what the channels mean, see :class:`vafa_monai.losses.Output`.

    Example:
        >>> logits = torch.tensor([[2.0, 2.0], [0.0, 0.0]]).view(1, 2, 1, 1, 2)
        >>> foreground_dice(logits, torch.zeros(1, 1, 1, 1, 2))
        tensor([1.])
    """
    output = Output.of(output)
    pred, truth = (output.foreground(mask.flatten(2).any(2)).any(1) for mask in _masks(logits, targets, output))
    mean = output.foreground(class_dice(logits, targets, output)).nanmean(1)
    return torch.where(truth, mean, (~pred).to(mean))


def _masks(logits: Tensor, targets: Tensor, output: Output | str) -> tuple[Tensor, Tensor]:
    """Return where each class is predicted and where it is, ``(B, channels, H, W, D)``, without ignored voxels."""
    output, channels = Output.of(output), logits.shape[1]
    labels = output.indices(logits, targets, "targets")
    truth = output.masks(labels if output.is_sigmoid else labels[:, None], channels)
    pred = output.masks(output.predict(logits), channels)
    counted = torch.ones_like(targets, dtype=torch.bool) if output.ignore is None else targets != output.ignore
    return pred & counted, truth & counted


def _known(dice: Tensor) -> Tensor:
    """Return DSC with infinity for NaN, which no minimum takes."""
    return dice.masked_fill(dice.isnan(), math.inf)

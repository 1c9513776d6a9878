"""PGD and its family in a ball of voxels: BIM, FGSM, SegPGD, CosPGD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, Iterate, climb
from vafa_monai.attacks.attack import GradientAttack, Network
from vafa_monai.attacks.norm import Move, Norm, SteepestMove, VoxelBall, gaussian_like, rms, uniform_like
from vafa_monai.attacks.validation import require_count, require_strength, strength, warn, warn_of_step
from vafa_monai.losses.weighted_cross_entropy import CosPGDLoss, Likeness, SegPGDLoss

__all__ = ["BIM", "FGSM", "PGD", "CosPGD", "SegPGD", "VoxelAttack"]


@dataclass(frozen=True, kw_only=True)
class VoxelAttack(GradientAttack):
    """A gradient attack that may move every voxel.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in gray levels, such as ``"4 gray"``.
        norm: ``"linf"``: no voxel moves further than ``eps``. ``"l2"``: the root mean square of the change is at most
            ``eps``, which is the L2 ball of radius ``eps * sqrt(number of voxels)``; a volume of any size is changed by
            as many gray levels in the mean, and the ball contains the one of ``"linf"``.
        steps: number of steps.
        random_start: start at a random point of the ball instead of the clean volume: uniform in the cube of
            ``"linf"``, on the surface of the ball of ``"l2"``.
        seed: seed of that point; the same for every sample.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.
    """

    eps: float = 4 / 255
    norm: Norm | str = Norm.LINF
    steps: int = 20
    random_start: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "eps", require_strength("eps", self.eps))
        require_count("steps", self.steps)
        object.__setattr__(self, "norm", look_up_option(self.norm, Norm))
        if self.eps == 0:
            warn(f"eps is 0, so {type(self).__name__} changes nothing.")

    def _ball(self, inputs: Tensor, run: int = 0) -> VoxelBall:
        """Return what may change; every run but the first starts at a random point."""
        offset = self._offset(inputs, self.seed + run) if self.random_start or run else None
        return VoxelBall(inputs, self.eps * self.width, self.one_range, offset, self.norm)

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        return VoxelBall(clean, self.eps * self.width, self.one_range, norm=self.norm).excess(adv)

    def _offset(self, inputs: Tensor, seed: int) -> Tensor:
        """Return a random point of the ball of radius 1."""
        if self.norm == Norm.LINF:
            return uniform_like(inputs, seed)
        noise = gaussian_like(inputs, seed)
        return noise / rms(noise)


STEP_SHARE = 2.5  # step_size = 2.5 eps / steps: any point of the ball can be reached, and left again


@dataclass(frozen=True, kw_only=True)
class PGD(VoxelAttack):
    """Climb the loss by gradient steps of one length, inside a ball of radius ``eps`` (Madry et al., ICLR 2018).

    https://arxiv.org/abs/1706.06083. The experiments of the VAFA paper use ``step_size=0.01`` and no random start.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in gray levels, such as ``"4 gray"``.
        norm: ``"linf"``: no voxel moves further than ``eps``; ``"l2"``: nor does the root mean square of the change.
        step_size: length of a step in the same unit and norm; ``None`` is ``2.5 * eps / steps``.
        steps: number of steps.
        random_start: start at a random point of the ball instead of the clean volume.
        seed: seed of that point.
        iterate: ``"last"`` (as published) or ``"best"``, sample by sample.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``eps``, ``step_size`` or ``steps`` is negative.

    Example:
        >>> import torch
        >>> volume, label = torch.full((1, 1, 4, 5, 6), 0.5), torch.zeros(1, 1, 4, 5, 6)
        >>> adv = PGD(eps=0.1, steps=5)(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).abs().max().item(), 4)
        0.1
    """

    step_size: float | None = None
    iterate: Iterate | str = Iterate.LAST

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if self.step_size is not None:
            object.__setattr__(self, "step_size", strength(self.step_size, name="step_size"))
            warn_of_step(self.step_size, 2 * self.eps, "2 * eps")
        object.__setattr__(self, "iterate", look_up_option(self.iterate, Iterate))

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        ball = self._ball(inputs)
        return climb(ball, self.objective(targets, network), self._move(ball), steps=self.steps, iterate=self.iterate)

    def _move(self, ball: VoxelBall) -> Move:
        """Return how to step."""
        return SteepestMove(ball, self._absolute_step_size, self.norm)

    @property
    def _absolute_step_size(self) -> float:
        """The length of a step, in intensities."""
        share = STEP_SHARE * self.eps / max(self.steps, 1) if self.step_size is None else self.step_size
        return share * self.width


@dataclass(frozen=True, kw_only=True)
class BIM(PGD):
    """:class:`PGD` from the clean volume in steps of ``2 * eps / steps`` (Kurakin et al., 2016).

    https://arxiv.org/abs/1607.02533. With the ``step_size=0.01`` of the VAFA paper it equals that paper's PGD.

    Example:
        >>> BIM(eps=0.1, steps=10).random_start
        False
    """

    def __post_init__(self) -> None:
        """Refuse a random start, which is PGD."""
        super().__post_init__()
        if self.random_start:
            raise ValueError("random_start must be False for BIM, got True; use PGD.")
        if self.step_size is None:
            object.__setattr__(self, "step_size", 2 * self.eps / max(self.steps, 1))


@dataclass(frozen=True, kw_only=True)
class FGSM(PGD):
    """:class:`PGD` with one step of length ``eps`` (Goodfellow et al., ICLR 2015, https://arxiv.org/abs/1412.6572).

    Example:
        >>> attack = FGSM(eps=0.1)
        >>> attack.steps, attack.step_size
        (1, 0.1)
    """

    steps: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no single step."""
        super().__post_init__()
        if self.steps != 1 or self.step_size not in (None, self.eps):
            raise ValueError(f"steps must be 1 and step_size eps for FGSM, got {self.steps!r} and {self.step_size!r}.")
        object.__setattr__(self, "step_size", self.eps)


@dataclass(frozen=True, kw_only=True)
class SegPGD(PGD):
    """:class:`PGD` on the cross entropy of right and wrong voxels, weighted by ``1 - lambda`` and ``lambda``.

    Step t of T has ``lambda = (t - 1) / 2T`` (Gu et al., ECCV 2022, https://arxiv.org/abs/2207.12391). As published it
    starts at a random point and returns the last iterate. The best iterate is the one of the highest mean probability
    of a wrong class, since the loss changes from step to step. It takes no ``loss_function``.

    Example:
        >>> SegPGD(eps=0.1, steps=10).loss_function.at(0.5).progress
        0.5
    """

    loss_function: Callable[[Tensor, Tensor], Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Choose the loss."""
        super().__post_init__()
        object.__setattr__(self, "loss_function", SegPGDLoss(targeted=self.targeted, output=self.output))


@dataclass(frozen=True, kw_only=True)
class CosPGD(PGD):
    """:class:`PGD` on the cross entropy weighted by the cosine similarity of prediction and truth, voxel by voxel.

    A voxel that looks right counts, one that is surely wrong does not (Agnihotri et al., ICML 2024,
    https://arxiv.org/abs/2302.02213); see :func:`vafa_monai.losses.cospgd_weight`. As published it starts at a random
    point and returns the last iterate. The best iterate is the one of the highest mean probability of a wrong class,
    since the loss falls where a voxel is wrong. It takes no ``loss_function``.

    Args:
        likeness: what of the logits is compared with the one-hot truth, ``"softmax"`` or ``"sigmoid"``.

    Example:
        >>> str(CosPGD(eps=0.1, steps=10).loss_function.likeness)
        'softmax'
    """

    likeness: Likeness | str = Likeness.SOFTMAX
    loss_function: Callable[[Tensor, Tensor], Tensor] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Choose the loss."""
        super().__post_init__()
        object.__setattr__(self, "likeness", look_up_option(self.likeness, Likeness))
        object.__setattr__(self, "loss_function", CosPGDLoss(self.likeness, targeted=self.targeted, output=self.output))

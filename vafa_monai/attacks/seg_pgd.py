"""SegPGD: projected gradient descent that begins with the voxels that are still right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from vafa_monai.attacks.pgd import PGD
from vafa_monai.losses import SegPGDLoss

__all__ = ["SegPGD"]


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
        object.__setattr__(self, "loss_function", SegPGDLoss(targeted=self.targeted))

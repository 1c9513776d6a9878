"""CosPGD: projected gradient descent that weighs voxels by how much they look like the truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from monai.utils import look_up_option
from torch import Tensor

from vafa_monai.attacks.pgd import PGD
from vafa_monai.losses import CosPGDLoss
from vafa_monai.losses.weighted_cross_entropy import Likeness

__all__ = ["CosPGD"]


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
        object.__setattr__(self, "loss_function", CosPGDLoss(self.likeness, targeted=self.targeted))

"""PGD whose perturbations are made to fool other networks, too."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vafa_monai.attacks.ascent import Iterate
from vafa_monai.attacks.attack import Network
from vafa_monai.attacks.input_diversity import DiverseObjective
from vafa_monai.attacks.move import MomentumMove, Move
from vafa_monai.attacks.objective import LossObjective
from vafa_monai.attacks.pgd import PGD
from vafa_monai.attacks.setting import require_at_least
from vafa_monai.attacks.voxel_ball import VoxelBall

__all__ = ["TransferPGD"]


@dataclass(frozen=True, kw_only=True)
class TransferPGD(PGD):
    """:class:`PGD` with momentum (MI-FGSM) and input diversity (DI-FGSM), to be tested on another network.

    Momentum: Dong et al., CVPR 2018, https://arxiv.org/abs/1710.06081. Diversity: Xie et al., CVPR 2019,
    https://arxiv.org/abs/1803.06978; in some steps the network sees the volume a little smaller, at another place, and
    its logits are brought back. The last iterate is returned: what the surrogate finds best is not what transfers best.

    Args:
        momentum: what is left of the sum of gradients at the next step, in [0, 1]; 0 is none.
        diversity: chance of a step to see the volume shrunk, in [0, 1]; 0 is none.
        least_share: smallest size of the shrunk volume along every axis, as a share of the full one, in (0, 1].
        seed: seed of the random start and of the diversity.

    Raises:
        ValueError: if a setting is outside its range, or ``iterate`` is ``"best"``.

    Example:
        >>> TransferPGD(eps=0.1, diversity=0.7).momentum
        1.0
    """

    momentum: float = 1.0
    diversity: float = 0.5
    least_share: float = 0.9

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        for name in ("momentum", "diversity", "least_share"):
            require_at_least(name, getattr(self, name), 0)
            if getattr(self, name) > 1:
                raise ValueError(f"{name} must be at most 1, got {getattr(self, name)!r}.")
        if self.least_share == 0:
            raise ValueError(f"least_share must be positive, got {self.least_share!r}.")
        if self.iterate == Iterate.BEST:
            raise ValueError('iterate must not be "best" for TransferPGD: steps see the volume differently; use PGD.')

    def _move(self, ball: VoxelBall) -> Move:
        return MomentumMove(ball, self._absolute_step_size, self.norm, decay=self.momentum)

    def _objective(self, targets: Tensor, network: Network) -> LossObjective:
        plain = super()._objective(targets, network)
        settings = {name: getattr(plain, name) for name in ("loss_function", "targets", "network", "sign", "steps")}
        return DiverseObjective(
            **settings,
            probability=self.diversity,
            least_share=self.least_share,
            fill=self.value_range[0],
            seed=self.seed,
        )

"""What every attack has in common: its call, the checks of its inputs, and the network it leaves untouched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.isolation import isolated
from vafa_monai.attacks.objective import LossObjective
from vafa_monai.attacks.setting import require_range
from vafa_monai.losses import dice_ce
from vafa_monai.losses.voxel_loss import class_indices

__all__ = ["Attack", "GradientAttack", "LossAttack", "Network"]

Network = Callable[[Tensor], Tensor]
RANGE_TOLERANCE = 1e-4  # of the width of value_range: resampling and float32 round a little beyond it


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """Map a batch of volumes to attacked volumes; an immutable configuration without a network and without memory.

    Args:
        value_range: lowest and highest intensity that the network's input can have; attacks stay inside it, and every
            strength is relative to its width.
    """

    value_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        object.__setattr__(self, "value_range", require_range("value_range", self.value_range))

    def __call__(self, inputs: Tensor, targets: Tensor, network: Network) -> Tensor:
        """Attack a batch.

        The network is left as it was found: weights, gradients, buffers, train or eval mode. The mode is the caller's
        choice; an attack on a network in eval mode is what an adversary meets.

        Args:
            inputs: volumes of shape ``(B, C, H, W, D)``, inside ``value_range``.
            targets: class indices of shape ``(B, 1, H, W, D)``: the truth to get away from, or the goal of a targeted
                attack.
            network: maps volumes to logits ``(B, classes, H, W, D)``.

        Returns:
            Attacked volumes with the shape, dtype, device and metadata of ``inputs``.

        Raises:
            ValueError: if ``inputs`` are not 5D, not finite or outside ``value_range``, or ``targets`` do not fit them
                or are no whole numbers.
            RuntimeError: if the network gives no finite loss, so that no attack is possible.
        """
        adv = self.run(inputs, targets, network).adv
        return convert_to_dst_type(adv, dst=inputs)[0] if isinstance(inputs, MetaTensor) else adv

    def run(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Attack a batch and return, beside the volumes, the variable that made them; arguments as in a call."""
        volume, labels = _plain(inputs).detach(), _plain(targets).detach()
        labels = labels if labels.is_floating_point() else labels.long()  # no loss knows bool or uint16
        self._check(volume, labels)
        with torch.enable_grad(), isolated(network, volume.device, seed=getattr(self, "seed", 0)):
            found = self._search(volume, labels, network)
        if not torch.isfinite(found.adv).all():
            raise RuntimeError(
                f"{type(self).__name__} must return finite volumes, got NaN; check the network and loss."
            )
        return replace(found, adv=found.adv.detach().to(volume.dtype))

    @abstractmethod
    def _search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes for inputs that passed the checks."""

    @property
    def asks_network(self) -> bool:
        """Whether the network has a part in what comes out; it has none in that of a control."""
        return True

    @property
    def width(self) -> float:
        """Width of ``value_range``."""
        return self.value_range[1] - self.value_range[0]

    def clip(self, volume: Tensor) -> Tensor:
        """Clip ``volume`` to ``value_range``."""
        return volume.clamp(*self.value_range)

    def _check(self, inputs: Tensor, targets: Tensor) -> None:
        """Refuse volumes and labels that cannot be attacked."""
        if inputs.ndim != 5 or not inputs.is_floating_point() or not inputs.numel():
            kind = f"{inputs.dtype} of shape {tuple(inputs.shape)}"
            raise ValueError(f"inputs must be floating-point volumes of shape (B, C, H, W, D), got {kind}.")
        if targets.shape[0] != inputs.shape[0] or targets.shape[2:] != inputs.shape[2:]:
            shapes = f"{tuple(targets.shape)} for inputs of shape {tuple(inputs.shape)}"
            raise ValueError(f"targets must have the batch and spatial shape of inputs, got {shapes}.")
        if targets.shape[1] == 1:
            class_indices(targets, name="targets")
        elif not targets.isfinite().all():
            raise ValueError(f"targets must be finite, got NaN or infinity in {targets.shape[1]} channels.")
        low, high = inputs.min().item(), inputs.max().item()
        slack = RANGE_TOLERANCE * self.width
        if not (self.value_range[0] - slack <= low and high <= self.value_range[1] + slack):  # NaN fails both
            raise ValueError(
                f"inputs must be finite and lie in value_range {self.value_range}, got {low:.4g} to {high:.4g}; "
                "scale and clip them in the preprocessing, or set value_range."
            )


@dataclass(frozen=True, kw_only=True)
class LossAttack(Attack):
    """An attack that raises the loss of the network.

    Args:
        loss_function: loss of ``(logits, targets)`` with no dimension, called for one sample at a time; the default is
            soft Dice plus cross entropy, the loss of the published experiments. See
            :class:`vafa_monai.attacks.objective.LossObjective` for the methods that it may have.
        targeted: descend towards ``targets`` instead of ascending away from them.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``loss_function`` has an attribute ``targeted`` that differs.
    """

    loss_function: Callable[[Tensor, Tensor], Tensor] = field(default_factory=dice_ce, compare=False)
    targeted: bool = False

    def __post_init__(self) -> None:
        """Refuse a loss made for the other direction: it would count the voxels that are there already."""
        super().__post_init__()
        wanted = getattr(getattr(self, "loss_function", None), "targeted", self.targeted)
        if wanted != self.targeted:
            raise ValueError(f"targeted must be that of loss_function, which is {wanted!r}, got {self.targeted!r}.")

    def _objective(self, targets: Tensor, network: Network) -> LossObjective:
        """Return what is raised: the loss of every sample, negative if targeted."""
        sign = -1.0 if self.targeted else 1.0
        return LossObjective(self.loss_function, targets, network, sign, self._steps)

    @property
    def _steps(self) -> int:
        """How many steps there are, for a loss that changes in their course."""
        return getattr(self, "steps", 1)


@dataclass(frozen=True, kw_only=True)
class GradientAttack(LossAttack):
    """An attack that climbs the loss of the network by its gradient to the input; arguments as :class:`LossAttack`."""


def _plain(tensor: Tensor) -> Tensor:
    """Strip the metadata, which every operation of an attack would otherwise copy."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor

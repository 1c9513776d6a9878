"""What every attack has in common: its call, the checks of its inputs, and the network it leaves untouched."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from monai.data import MetaTensor
from monai.utils import convert_to_dst_type
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, GuardedNetwork, LossObjective, isolated
from vafa_monai.attacks.intensity import (
    ChannelUnits,
    ValueRange,
    channel_limits,
    is_one_range,
    require_channel_ranges,
    require_chosen,
    require_ranges,
)
from vafa_monai.attacks.validation import RANGE_TOLERANCE, settle
from vafa_monai.losses.consistency import dice_ce
from vafa_monai.losses.output import SEVERAL, Output, OutputKind, class_indices, require_loss_for, yes_or_no

__all__ = ["Attack", "AttackWrapper", "GradientAttack", "LossAttack", "Network"]

Network = Callable[[Tensor], Tensor]
ROUNDING = 1e-5  # of the width: float32 through a block DCT and back


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """Map a batch of volumes to attacked volumes; an immutable configuration without a network and without memory.

    Args:
        value_range: lowest and highest intensity that the network's input can have, or such a pair for each channel;
            attacks stay inside it, and every strength is relative to its width, channel by channel.
        channels: numbers of the channels that may change, such as those that are images; ``None`` is all. An L2 norm is
            that of these alone, and the others may have any intensities.
        output: what the channels of logits and labels mean, ``"softmax"``, ``"sigmoid"`` or a
            :class:`vafa_monai.losses.Output`.
    """

    value_range: ValueRange = (0.0, 1.0)
    channels: Sequence[int] | None = None
    output: Output | str = OutputKind.SOFTMAX

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        settle(self)
        object.__setattr__(self, "value_range", require_ranges("value_range", self.value_range))
        object.__setattr__(self, "channels", require_chosen(self.channels))
        output = Output.of(self.output)
        object.__setattr__(self, "output", output.kind if output == Output(output.kind) else output)

    def __call__(self, inputs: Tensor, targets: Tensor, network: Network) -> Tensor:
        """Attack a batch.

        The network is left as it was found: weights, gradients, buffers, train or eval mode. The mode is the caller's
        choice; an attack on a network in eval mode is what an adversary meets. The network gets copies, into which it
        may write, and what comes out is measured against the clean volume: intensities and budget, whoever broke them.

        Args:
            inputs: volumes of shape ``(B, C, H, W, D)``, inside ``value_range``.
            targets: class indices of shape ``(B, 1, H, W, D)``, or 0 and 1 of shape ``(B, channels, H, W, D)`` where
                ``output`` is of sigmoids: the truth to get away from, or the goal of a targeted attack.
            network: maps volumes to logits ``(B, channels, H, W, D)``.

        Returns:
            Attacked volumes with the shape, dtype, device and metadata of ``inputs``.

        Raises:
            ValueError: if ``inputs`` are not 5D, not finite or outside ``value_range``, or ``targets`` do not fit them
                or the logits, or are no labels of ``output``.
            TypeError: if ``inputs`` or what the network returns is no tensor.
            RuntimeError: if the network gives no finite loss or no gradient, so that no attack is possible, or if the
                attack returns anything but finite volumes inside its budget and ``value_range``.
        """
        adv = self.run(inputs, targets, network).adv
        return convert_to_dst_type(adv, dst=inputs)[0] if isinstance(inputs, MetaTensor) else adv

    def run(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Attack a batch and return, beside the volumes, the variable that made them; arguments as in a call."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            clean, labels = (_copied(*pair) for pair in (("inputs", inputs), ("targets", targets)))
            labels = labels if labels.is_floating_point() else labels.long()  # no loss knows bool or uint16
            self._check(clean, labels)
            with isolated(network, clean.device, seed=getattr(self, "seed", 0)):
                found = self._found(clean, labels, GuardedNetwork(network))
            adv = found.adv.detach().to(clean.dtype)
            with torch.no_grad():
                self._require_kept(clean, adv)
        return replace(found, adv=adv)

    @abstractmethod
    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes for inputs that passed the checks."""

    def _units(self, clean: Tensor) -> ChannelUnits | None:
        """Return what the search sees of volumes that it does not see as they are: some channels, or fractions."""
        plain = self.channels is None and is_one_range(self.value_range)
        return None if plain else ChannelUnits(clean, self.value_range, require_chosen(self.channels))

    def _within(self, units: ChannelUnits) -> Attack:
        """Return the attack on all channels of one range that does the work."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of settings that this attack was warned of
            return replace(self, value_range=units.inner_range, channels=None)

    def _found(self, clean: Tensor, labels: Tensor, network: Network) -> Ascent:
        """Search in the volumes as they are, or in what is seen of them."""
        units = self._units(clean)
        if units is None:
            return self.search(clean.clone(), labels, network)
        inside = self._within(units).search(units.inner(clean), labels, lambda part: network(units.outer(part)))
        return replace(inside, adv=units.result(inside.adv))

    def limits(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """Return lowest and highest intensity allowed, each ``(B, C, 1, 1, 1)`` or ``(B, 1, 1, 1, 1)``."""
        if self.channels is not None or not is_one_range(self.value_range):
            return channel_limits(clean, self.value_range, self.channels)
        low, high = (clean.new_full((len(clean), 1, 1, 1, 1), bound) for bound in self.one_range)
        return low, high

    def beyond(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return :meth:`excess` for volumes of any channels, ``(B,)``, in intensities of the widest attacked one."""
        units = self._units(clean)
        if units is None:
            return self.excess(clean, adv)
        return units.width * (self._within(units).excess(units.inner(clean), units.inner(adv)) - units.rounding)

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget of the attack, ``(B,)``, in intensities of ``clean``.

        Every result is refused where this is positive beyond rounding. Where only a part of the change of a volume is
        left, it is no larger. An attack without a budget but the intensities, as here, has 0. It is asked for
        volumes of the attacked channels alone, in one ``value_range``; see :meth:`beyond` for others.
        """
        return clean.new_zeros(len(clean))

    def _require_kept(self, clean: Tensor, adv: Tensor, rounding: float = 0.0) -> None:
        """Refuse a result that is not finite, or not inside the allowed intensities and the budget."""
        name = type(self).__name__
        if adv.shape != clean.shape:
            raise RuntimeError(f"{name} must return volumes of shape {tuple(clean.shape)}, got {tuple(adv.shape)}.")
        if not torch.isfinite(adv).all():
            raise RuntimeError(f"{name} must return finite volumes, got NaN; check the network and loss.")
        units = self._units(clean)
        if units is not None:
            others = [channel for channel in range(clean.shape[1]) if channel not in units.chosen]
            if not torch.equal(adv[:, others], clean[:, others]):
                raise RuntimeError(f"{name} must leave all channels but {units.chosen} as they are.")
            self._within(units)._require_kept(units.inner(clean), units.inner(adv), units.rounding)
            return
        low, high = self.limits(clean)
        width, beyond = (high - low).flatten(1).amax(1), _outside(adv, low, high)
        if (beyond > RANGE_TOLERANCE * width + rounding).any():
            raise RuntimeError(f"{name} must keep the allowed intensities, got one {beyond.max():.4g} outside of them.")
        reach = torch.maximum(torch.maximum(low.abs(), high.abs()).flatten(1).amax(1), clean.abs().flatten(1).amax(1))
        slack = ROUNDING * width + 4 * torch.finfo(clean.dtype).eps * reach + _outside(clean, low, high) + rounding
        excess = self.excess(clean, adv)
        if not (excess <= slack).all():
            raise RuntimeError(f"{name} must stay inside its budget, got a volume {excess.max():.4g} beyond it.")

    @property
    def asks_network(self) -> bool:
        """Whether the network has a part in what comes out; it has none in that of a control."""
        return True

    @property
    def of_predictions(self) -> bool:
        """Whether targets are logits to compare those of the network with, as a loss says that takes no labels."""
        return getattr(getattr(self, "loss_function", None), "of_predictions", False)

    @property
    def one_range(self) -> tuple[float, float]:
        """The ``value_range`` of a search, which is one for all channels that it sees."""
        low, high = self.value_range
        return low, high  # type: ignore[return-value]

    @property
    def width(self) -> float:
        """Width of the ``value_range`` of a search."""
        return self.one_range[1] - self.one_range[0]

    def clip(self, volume: Tensor) -> Tensor:
        """Clip ``volume`` to the ``value_range`` of a search."""
        return volume.clamp(*self.one_range)

    def _check(self, inputs: Tensor, targets: Tensor) -> None:
        """Refuse volumes and labels that cannot be attacked."""
        if inputs.ndim != 5 or not inputs.is_floating_point() or not inputs.numel():
            kind = f"{inputs.dtype} of shape {tuple(inputs.shape)}"
            raise ValueError(f"inputs must be floating-point volumes of shape (B, C, H, W, D), got {kind}.")
        if targets.shape[0] != inputs.shape[0] or targets.shape[2:] != inputs.shape[2:]:
            shapes = f"{tuple(targets.shape)} for inputs of shape {tuple(inputs.shape)}"
            raise ValueError(f"targets must have the batch and spatial shape of inputs, got {shapes}.")
        self._check_labels(targets)
        require_channel_ranges("inputs", inputs, self.value_range, self.channels)

    def _check_labels(self, targets: Tensor) -> None:
        """Refuse targets that are no labels of the output."""
        output, channels = Output.of(self.output), targets.shape[1]
        if self.of_predictions:
            if not targets.isfinite().all():
                raise ValueError(f"targets must be finite, got NaN or infinity in {channels} channels.")
        elif output.is_sigmoid:
            yes_or_no(targets, name="targets")
        elif channels == 1:
            class_indices(output.without_ignored(targets), name="targets")
        else:
            raise ValueError(f"targets must have one channel of class indices, got {channels}; labels of {SEVERAL}.")


@dataclass(frozen=True, kw_only=True)
class LossAttack(Attack):
    """An attack that raises the loss of the network.

    Args:
        loss_function: loss of ``(logits, targets)`` with no dimension, called for one sample at a time; the default is
            soft Dice plus cross entropy, the loss of the published experiments, binary where ``output`` is of
            sigmoids. See :class:`vafa_monai.attacks.ascent.LossObjective` for the methods that it may have.
        targeted: descend towards ``targets`` instead of ascending away from them.
        value_range: lowest and highest intensity that the network's input can have.
        output: what the channels of logits and labels mean.

    Raises:
        ValueError: if ``loss_function`` has an attribute ``targeted`` that differs, or is made for another output.
    """

    loss_function: Callable[[Tensor, Tensor], Tensor] = field(default=None, compare=False)  # type: ignore[assignment]
    targeted: bool = False

    def __post_init__(self) -> None:
        """Choose a loss; refuse one made for the other direction: it would count the voxels that are there already."""
        super().__post_init__()
        output = Output.of(self.output)
        if getattr(self, "loss_function", None) is None:
            object.__setattr__(self, "loss_function", dice_ce(output))
        require_loss_for(self.loss_function, output)
        wanted = getattr(getattr(self, "loss_function", None), "targeted", self.targeted)
        if wanted != self.targeted:
            raise ValueError(f"targeted must be that of loss_function, which is {wanted!r}, got {self.targeted!r}.")

    def objective(self, targets: Tensor, network: Network) -> LossObjective:
        """Return what is raised: the loss of every sample, negative if targeted."""
        sign = -1.0 if self.targeted else 1.0
        return LossObjective(self.loss_function, targets, network, sign, self._steps, Output.of(self.output))

    @property
    def _steps(self) -> int:
        """How many steps there are, for a loss that changes in their course."""
        return getattr(self, "steps", 1)


@dataclass(frozen=True, kw_only=True)
class GradientAttack(LossAttack):
    """An attack that climbs the loss of the network by its gradient to the input; arguments as :class:`LossAttack`."""


def _copied(name: str, tensor: Tensor) -> Tensor:
    """Return a copy without the metadata, which every operation of an attack would otherwise copy."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}.")
    return (tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor).detach().clone()


def _outside(volume: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return how far each sample reaches beyond the intensities, ``(B,)``; 0 inside."""
    return torch.maximum(low - volume, volume - high).flatten(1).amax(1).clamp_min(0)


@dataclass(frozen=True, kw_only=True)
class AttackWrapper(Attack):
    """An attack that runs another one, in the same intensities.

    Args:
        attack: the attack inside.
        value_range: that of ``attack``, which is taken where none is given.
        channels: those of ``attack``, in the same way.
        output: that of ``attack``, in the same way.

    Raises:
        TypeError: if ``attack`` is no attack.
        ValueError: if ``value_range``, ``channels`` or ``output`` is not that of ``attack``.
    """

    attack: Attack

    def __post_init__(self) -> None:
        """Refuse what is no attack, and other intensities."""
        if not isinstance(self.attack, Attack):
            raise TypeError(f"attack must be an attack of vafa_monai.attacks, got {type(self.attack).__name__}.")
        super().__post_init__()
        for name in ("value_range", "channels", "output"):
            own, inside = getattr(self, name), getattr(self.attack, name)
            if own not in (inside, getattr(Attack, name)):
                raise ValueError(f"{name} must be that of attack, {inside}, got {own}.")
            object.__setattr__(self, name, inside)

    @property
    def of_predictions(self) -> bool:
        """Whether the attack inside wants logits as targets."""
        return self.attack.of_predictions

    @property
    def asks_network(self) -> bool:
        """Whether the attack inside does."""
        return self.attack.asks_network

    def _units(self, clean: Tensor) -> ChannelUnits | None:
        """Return nothing: the attack inside sees channels and ranges as it must."""
        return None

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        return self.attack.beyond(clean, adv)

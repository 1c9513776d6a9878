"""Trainers of nnU-Net v2 that harden: every batch is doubled by an attack on the network as it is then."""

from __future__ import annotations

from abc import abstractmethod
from contextlib import nullcontext
from typing import Any, ClassVar

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn

from vafa_monai.attacks.attack import Attack
from vafa_monai.attacks.pgd import PGD
from vafa_monai.attacks.range_adapter import RangeAdapter
from vafa_monai.attacks.vafa import VAFA
from vafa_monai.inferers.inferred_network import InferredNetwork, evaluating
from vafa_monai.losses.consistency import AdversarialConsistencyLoss
from vafa_monai.nnunet.plan import require_plain

__all__ = ["nnUNetTrainerPGD", "nnUNetTrainerVAFT"]


class RobustTrainer(nnUNetTrainer):  # type: ignore[misc] # nnU-Net has no types
    """Train on ``[clean; adversarial]`` with :class:`vafa_monai.losses.AdversarialConsistencyLoss`.

    Everything else is nnU-Net's: plans, augmentation, deep supervision, optimizer, checkpoints. The attack meets the
    augmented patches in the network's eval mode, at full resolution, with soft Dice plus cross entropy, and through
    :class:`vafa_monai.attacks.RangeAdapter`, because nnU-Net's intensities are standardized: budgets are fractions of
    the intensities of each patch. nnU-Net passes no arguments to trainers; other settings are attributes of a subclass.

    A step takes ``attack_steps`` passes forward and backward more, and the memory of two batches.
    """

    loss: Any  # nnU-Net's own

    attack_steps: ClassVar[int] = 20
    clean_weight: ClassVar[float] = 1.0
    adversarial_weight: ClassVar[float] = 1.0
    consistency_weight: ClassVar[float] = 1.0

    @abstractmethod
    def build_attack(self) -> Attack:
        """Return the attack, for intensities in [0, 1]."""

    def initialize(self) -> None:
        """Build network, optimizer and losses.

        Raises:
            ValueError: if the configuration is not 3D, or the labels are regions or have an ignore label.
        """
        require_plain(self.configuration_name, self.configuration_manager, self.label_manager)
        super().initialize()
        self.attack = RangeAdapter(attack=self.build_attack())
        self.robust_loss = AdversarialConsistencyLoss(
            self.loss,
            clean_weight=self.clean_weight,
            adversarial_weight=self.adversarial_weight,
            consistency_weight=self.consistency_weight,
        )
        self.print_to_log_file(f"{type(self).__name__} trains on {self.attack}")

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Attack a batch, append what comes out, and make nnU-Net's step with the robust loss."""
        own, self.loss = self.loss, self.robust_loss
        try:
            return super().train_step(self.doubled(batch))  # type: ignore[no-any-return]
        finally:
            self.loss = own

    def doubled(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with its attacked copy behind it."""
        data, target = batch["data"].to(self.device), batch["target"]
        adv = self.attacked(data, (target[0] if isinstance(target, list) else target).to(self.device))
        twice = [torch.cat([part, part]) for part in target] if isinstance(target, list) else torch.cat([target] * 2)
        return {**batch, "data": torch.cat([data, adv]), "target": twice}

    def attacked(self, data: Tensor, labels: Tensor) -> Tensor:
        """Return attacked patches ``(B, C, H, W, D)`` for labels ``(B, 1, H, W, D)``."""
        network = self.network.module if self.is_ddp else self.network
        with evaluating(network), torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            return self.attack(data, labels, InferredNetwork(network, _finest))


class nnUNetTrainerVAFT(RobustTrainer):  # noqa: N801 - nnU-Net's way to name trainers
    """Frequency adversarial training (Hanif et al., MICCAI 2023, Algorithm 2 and Eq. 3) of an nnU-Net.

    Attributes:
        attack_steps: steps of VAFA.
        q_max: its largest quantization step, in gray levels of 255.
    """

    q_max: ClassVar[float] = 20

    def build_attack(self) -> Attack:
        """Return VAFA as the authors' code has it."""
        return VAFA.preset("authors", q_max=self.q_max, steps=self.attack_steps)


class nnUNetTrainerPGD(RobustTrainer):  # noqa: N801 - nnU-Net's way to name trainers
    """Adversarial training with PGD (Madry et al., ICLR 2018) of an nnU-Net, on clean and attacked patches.

    Attributes:
        attack_steps: steps of PGD.
        eps: radius, as a fraction of the intensities of a patch.
    """

    eps: ClassVar[float] = 4 / 255
    consistency_weight: ClassVar[float] = 0.0

    def build_attack(self) -> Attack:
        """Return PGD."""
        return PGD(eps=self.eps, steps=self.attack_steps)


def _finest(inputs: Tensor, network: nn.Module) -> Tensor:
    """Return the logits of full resolution."""
    logits = network(inputs)
    return logits if isinstance(logits, Tensor) else logits[0]

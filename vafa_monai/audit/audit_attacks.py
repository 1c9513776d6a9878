"""The attacks of an audit, at the budgets of its settings: equal settings are run once, whoever asks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vafa_monai.attacks.apgd import APGD
from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Attack, AttackWrapper, Network
from vafa_monai.attacks.controls import Identity
from vafa_monai.attacks.ensemble import AttackEnsemble
from vafa_monai.attacks.frequency_pgd import FrequencyPGD
from vafa_monai.attacks.pgd import PGD
from vafa_monai.audit.audited_model import AttackOutcome, AuditedModel
from vafa_monai.losses.voxel_loss import MaskedCrossEntropyLoss

__all__ = ["box_attack", "ensemble", "headline", "longer_attack", "unbounded", "voxel_attack"]

STEP_SHARE = 2.5  # of eps over steps, as PGD chooses it
UNBOUNDED_STEPS = 3  # times those of the other attacks; the way is longer


@contextmanager
def _meant() -> Iterator[None]:
    """Build attacks without warnings of their budgets: none at all, or no bound, is what an audit asks for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"(eps|step_size) is ")
        yield


def voxel_attack(subject: AuditedModel, eps: float | None = None, steps: int | None = None, seed: int = 0) -> Attack:
    """Return PGD with the best iterate: from the clean volume, or for a ``seed`` above 0 from a random start."""
    settings = subject.settings
    eps = settings.eps if eps is None else eps
    if eps == 0:
        return Identity(**subject.common)
    with _meant():
        return PGD(
            eps=eps,
            steps=settings.steps if steps is None else steps,
            iterate="best",
            random_start=seed > 0,
            seed=seed,
            **subject.common,
        )


def longer_attack(subject: AuditedModel, steps: int) -> Attack:
    """Return the attack on voxels with more or fewer steps, all of the length that those of the settings have.

    One run is a part of the other, so the two differ by their number of steps alone.
    """
    settings = subject.settings
    if settings.eps == 0:
        return Identity(**subject.common)
    own = STEP_SHARE * settings.eps / settings.steps
    with _meant():
        return PGD(
            eps=settings.eps,
            steps=steps,
            step_size=None if steps == settings.steps else own,  # that which PGD chooses: one and the same run
            iterate="best",
            **subject.common,
        )


def box_attack(subject: AuditedModel, q_max: float | None = None, edge: int | None = None) -> Attack:
    """Return PGD in a box of DCT coefficients, of the block size of the settings or of cubes of ``edge`` voxels."""
    settings = subject.settings
    return FrequencyPGD(
        q_max=settings.q_max if q_max is None else q_max,
        block_size=settings.block_size if edge is None else (edge,) * 3,
        steps=settings.steps,
        loss_function=MaskedCrossEntropyLoss(balanced=True, output=subject.output),
        **subject.common,
    )


def ensemble(subject: AuditedModel) -> AttackEnsemble:
    """Return the attack that the headline is quoted by."""
    settings = subject.settings
    with _meant():
        return AttackEnsemble(
            eps=settings.eps,
            q_max=settings.q_max,
            block_size=settings.block_size,
            steps=settings.steps,
            queries=settings.queries,
            seed=settings.seed,
            **subject.common,
        )


def headline(subject: AuditedModel, attack: Attack | None = None) -> tuple[AttackOutcome, ...]:
    """Return what the ensemble, or another attack in its place, did to every case, with the volumes."""
    return subject.outcomes(ensemble(subject) if attack is None else attack, keep=True)


@dataclass(frozen=True, kw_only=True)
class Emptied(AttackWrapper):
    """Run a targeted attack towards a segmentation of background alone."""

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        return self.attack.run(inputs, torch.zeros_like(targets), network)


def unbounded(subject: AuditedModel) -> tuple[Attack, Attack]:
    """Return attacks that may change every voxel to every intensity: away from the truth, and towards no organ at all.

    The first may end where every voxel is wrong in an organ that it does not belong to, which still overlaps.
    """
    common: dict[str, Any] = {"eps": 1, "steps": UNBOUNDED_STEPS * subject.settings.steps, **subject.common}
    with _meant():
        away = APGD(loss_function=MaskedCrossEntropyLoss(balanced=True, output=subject.output), **common)
        return away, Emptied(attack=APGD(targeted=True, **common))

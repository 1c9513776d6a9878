"""Checks of the network itself: it answers the same twice, with logits, and is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from vafa_monai.attacks import PGD
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditSubject
from vafa_monai.inferers import evaluating

__all__ = ["NETWORK_CHECKS", "check_determinism", "check_logits", "check_untouched"]

PASSES = 3
NOISE = 1e-4  # of the spread of the logits: what a GPU may differ by from call to call
UNIT_SUM = 1e-3


def check_determinism(subject: AuditSubject) -> Finding:
    """S11: three passes over the first case give the same logits."""
    first, *others = (subject.logits(subject.cases[0].image) for _ in range(PASSES))
    spread = first.std().item() or 1.0
    difference = max((other - first).abs().max().item() for other in others) / spread
    changed = max((other.argmax(1) != first.argmax(1)).sum().item() for other in others)
    good = difference <= NOISE
    return Finding(
        status=Status.PASS if good else Status.FAIL,
        sentence=f"Logits of one volume differ by {difference:.3g} of their spread, and {changed} voxels change class.",
        value=difference,
        limit=NOISE,
        unit="of the spread",
    )


def check_logits(subject: AuditSubject) -> Finding:
    """S12: the output is logits, one tensor with a gradient, no probabilities and no classes."""
    whole = subject.pipeline()
    with evaluating(whole):
        volume = subject.cases[0].image.clone().requires_grad_()
        logits: Any = whole(volume)
    kind = _kind(logits, len(subject.classes))
    return Finding(
        status=Status.FAIL if kind else Status.PASS,
        sentence=f"The network returns {kind or 'logits in one tensor'}.",
    )


def check_untouched(
    subject: AuditSubject, attack: Callable[[Tensor, Tensor, nn.Module], Tensor] | None = None
) -> Finding:
    """S21: an attack leaves weights, buffers, gradients, and train or eval mode as they were."""
    attack = attack or PGD(eps=subject.settings.eps, steps=2, value_range=subject.value_range)
    network = subject.network
    volume, label = subject.window(subject.cases[0])
    before = _state(network)
    attack(volume, label, network)  # itself: the sliding window gives its weights no gradient, whatever the attack does
    changed = [name for name, part in _state(network).items() if not _same(part, before[name])]
    return Finding(
        status=Status.FAIL if changed else Status.PASS,
        sentence=f"The attack changes {', '.join(changed[:3]) or 'nothing of the network'}.",
        value=len(changed),
        limit=0,
        unit="parts",
    )


def _kind(logits: Any, classes: int) -> str:
    """Say what an output is, if it is no logits."""
    if not isinstance(logits, Tensor):
        return f"{type(logits).__name__}, not one tensor"
    if not logits.requires_grad:
        return "classes: there is no gradient to the volume"
    if logits.shape[1] not in (classes, 1):
        return f"{logits.shape[1]} channels for {classes} classes"
    if logits.detach().min() >= 0 and logits.detach().max() <= 1:
        sums = logits.detach().sum(1)
        one = (sums - 1).abs().max() <= UNIT_SUM
        return "probabilities that add up to 1" if one else "numbers from 0 to 1, as a sigmoid gives them"
    return ""


def _state(network: nn.Module) -> dict[str, Any]:
    """Return all that an attack might change, by name."""
    state: dict[str, Any] = {f"state {name}": value.detach().clone() for name, value in network.state_dict().items()}
    for name, weight in network.named_parameters():
        state[f"gradient of {name}"] = None if weight.grad is None else weight.grad.detach().clone()
        state[f"requires_grad of {name}"] = weight.requires_grad
    return state | {f"mode of {name or 'the network'}": part.training for name, part in network.named_modules()}


def _same(one: Any, other: Any) -> bool:
    """Tell whether two parts are equal."""
    both = isinstance(one, Tensor) and isinstance(other, Tensor)
    return torch.equal(one, other) if both else one is other or (not isinstance(one, Tensor) and one == other)


NETWORK_CHECKS = (
    Check(
        id="S11",
        name="determinism",
        title="The network answers the same twice",
        meaning="The network is random, so an attack must average over its answers, and one run proves nothing.",
        run=check_determinism,
    ),
    Check(
        id="S12",
        name="logits",
        title="The network returns logits",
        meaning="Losses are computed of the wrong numbers: their gradients are small or none.",
        run=check_logits,
    ),
    Check(
        id="S21",
        name="untouched",
        title="The attack leaves the network as it was",
        meaning="The model that is evaluated after the attack is not the one that was attacked.",
        run=check_untouched,
    ),
)

"""Checks of the network: the same each time, and with a gradient that leads somewhere."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import fall_back_tuple
from torch import Tensor, nn

from vafa_monai.attacks.pgd import PGD
from vafa_monai.audit.audited_model import AuditCase, AuditedModel, Check, CheckResult, Status
from vafa_monai.inferers.inferred_network import InferredNetwork, evaluating
from vafa_monai.inferers.sliding_window_network import SlidingWindowNetwork
from vafa_monai.losses.consistency import dice_ce
from vafa_monai.losses.voxel_loss import class_logits

__all__ = ["GRADIENT_CHECKS", "NETWORK_CHECKS"]

PASSES = 3
NOISE = 1e-4  # of the spread of the logits: what a GPU may differ by from call to call
UNIT_SUM = 1e-3


def check_determinism(subject: AuditedModel) -> CheckResult:
    """S11: three passes over the first case give the same logits."""
    first, *others = (subject.logits(subject.cases[0].image) for _ in range(PASSES))
    spread = first.std().item() or 1.0
    difference = max((other - first).abs().max().item() for other in others) / spread
    predict = subject.output.predict
    changed = max((predict(other) != predict(first)).any(1).sum().item() for other in others)
    good = difference <= NOISE
    return CheckResult(
        status=Status.PASS if good else Status.FAIL,
        sentence=f"Logits of one volume differ by {difference:.3g} of their spread, and {changed} voxels change class.",
        value=difference,
        limit=NOISE,
        unit="of the spread",
    )


def check_logits(subject: AuditedModel) -> CheckResult:
    """S12: the output is logits, one tensor with a gradient, no probabilities and no classes."""
    whole = subject.pipeline()
    with evaluating(whole):
        volume = subject.cases[0].image.clone().requires_grad_()
        logits: Any = whole(volume)
    kind = _kind(logits, subject.channels)
    return CheckResult(
        status=Status.FAIL if kind else Status.PASS,
        sentence=f"The network returns {kind or 'logits in one tensor'}.",
    )


def check_untouched(
    subject: AuditedModel, attack: Callable[[Tensor, Tensor, nn.Module], Tensor] | None = None
) -> CheckResult:
    """S21: an attack leaves weights, buffers, gradients, and train or eval mode as they were."""
    attack = attack or PGD(eps=subject.settings.eps, steps=2, **subject.common)
    network = subject.network
    volume, label = subject.window(subject.cases[0])
    before = _state(network)
    attack(volume, label, network)  # itself: the sliding window gives its weights no gradient, whatever the attack does
    changed = [name for name, part in _state(network).items() if not _same(part, before[name])]
    return CheckResult(
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
    return torch.equal(one, other) if both else one == other


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
        meaning="Losses are computed from the wrong numbers: their gradients are small or zero.",
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


STEPS = (1e-5, 1e-6, 1e-7, 1e-8)  # of the width: one of them is free of kinks of rectifiers, and large for float64
DIFFERENCE = 1e-2
ZERO_SHARE = 0.5
MARGIN = 40.0  # between the two highest logits: exp(-40) is nothing beside 1 in float32
EXACT = 1e-6
WINDOWS = 1.5  # edge of the volume that the sliding window is checked on, along the first axis, in windows


def check_gradient(subject: AuditedModel) -> CheckResult:
    """S10: gradients are finite, not zero, not lost in rounding, and agree with finite differences in float64."""
    network = copy.deepcopy(subject.network).double()
    whole = subject.pipeline(network)
    rows = [_gradient_facts(subject, whole, case) for case in subject.cases[:2]]
    worst = {name: max(row[name] for row in rows) for name in rows[0]}
    finite = worst["infinite"] == 0
    fatal = not finite or worst["zero"] >= 1 or worst["difference"] > DIFFERENCE or worst["margin"] > MARGIN
    doubtful = worst["zero"] > ZERO_SHARE
    return CheckResult(
        status=Status.FAIL if fatal else Status.WARN if doubtful else Status.PASS,
        sentence=(
            f"{worst['zero']:.1%} of the gradient is zero, it differs from finite differences by "
            f"{worst['difference']:.2g}, and the median logit margin is {worst['margin']:.3g}."
        ),
        value=worst["difference"],
        limit=DIFFERENCE,
        unit="relative",
        details=worst,
    )


def check_sliding_window(
    subject: AuditedModel, build: Callable[[nn.Module, SlidingWindowInferer], nn.Module] | None = None
) -> CheckResult:
    """S14: the gradient through the sliding window is that of autograd through MONAI's own."""
    deployed = subject.inferer
    if not isinstance(deployed, SlidingWindowInferer) or not SlidingWindowNetwork.can_stand_for(deployed):
        return CheckResult(status=Status.SKIP, sentence="The model is not deployed with MONAI's sliding window.")
    build = build or SlidingWindowNetwork.from_inferer
    network = copy.deepcopy(subject.network).double().requires_grad_(False)
    volume, inferer = _small_volume(subject.cases[0].image, deployed), copy.copy(deployed)
    inferer.sw_batch_size = 1  # so that there are several calls
    autograd = InferredNetwork(network, cast(Callable[..., Tensor], inferer))
    found, expected = (_pull(one, volume) for one in (build(network, inferer), autograd))
    difference = ((found - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float64).tiny)).item()
    return CheckResult(
        status=Status.PASS if difference <= EXACT else Status.FAIL,
        sentence=f"The gradient of several windows differs from autograd through MONAI by {difference:.2g}.",
        value=difference,
        limit=EXACT,
        unit="relative",
    )


def _gradient_facts(subject: AuditedModel, whole: nn.Module, case: AuditCase) -> dict[str, float]:
    """Return what there is to say of the gradient of one case, in float64."""
    loss_function = dice_ce(subject.output)
    volume = case.image.double().requires_grad_()

    def loss_at(step: float, direction: Tensor) -> float:
        with torch.no_grad():
            return loss_function(whole(volume + step * direction), case.label).item()

    with evaluating(whole):
        logits = whole(volume)
        (gradient,) = torch.autograd.grad(loss_function(logits, case.label), volume, allow_unused=True)
        gradient = torch.zeros_like(volume) if gradient is None else gradient
        generator = torch.Generator().manual_seed(subject.settings.seed)
        direction = torch.randn(volume.shape, generator=generator, dtype=torch.float64).to(volume.device)
        direction += gradient * (direction.norm() / gradient.norm().clamp_min(torch.finfo(torch.float64).tiny))
        direction /= direction.abs().max()
        steps = [share * subject.width for share in STEPS]
        slopes = [(loss_at(step, direction) - loss_at(-step, direction)) / (2 * step) for step in steps]
        expected = (gradient * direction).sum().item()
    highest = class_logits(logits.detach(), case.label, output=subject.output)[0].topk(2, dim=1).values
    return {
        "infinite": float((~gradient.isfinite()).sum()),
        "zero": (gradient == 0).double().mean().item(),
        "difference": min(_relative(slope, expected) for slope in slopes),
        "margin": (highest[:, 0] - highest[:, 1]).median().item(),
    }


def _relative(one: float, other: float) -> float:
    """Return how far two numbers are apart, relative to the larger; infinite if one is no number."""
    gap = abs(one - other) / max(abs(one), abs(other), torch.finfo(torch.float64).tiny)
    return gap if math.isfinite(gap) else math.inf


def _small_volume(image: Tensor, inferer: SlidingWindowInferer) -> Tensor:
    """Return a part of a case, repeated where it is too small, of one window and a half along the first axis."""
    sizes = fall_back_tuple(inferer.roi_size, image.shape[2:])
    edges = [round(WINDOWS * sizes[0]), *sizes[1:]]
    volume = image[:1].double()
    for axis, edge in enumerate(edges, start=2):
        repeats = -(-edge // volume.shape[axis])
        volume = torch.cat([volume] * repeats, dim=axis).narrow(axis, 0, edge)
    return volume


def _pull(whole: nn.Module, volume: Tensor) -> Tensor:
    """Return the gradient of a fixed random weighting of the logits."""
    leaf = volume.clone().requires_grad_()
    with evaluating(whole):
        logits = whole(leaf)
        weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return torch.autograd.grad(logits, leaf, weights.to(logits.device))[0]


GRADIENT_CHECKS = (
    Check(
        id="S10",
        name="gradient",
        title="Gradients are there and right",
        meaning="Attacks follow gradients; where these are zero, wrong or lost in rounding, any model looks robust.",
        run=check_gradient,
    ),
    Check(
        id="S14",
        name="sliding_window",
        title="The gradient is that of the deployed pipeline",
        meaning="The attack climbs another function than the one that segments, so it does less harm than it could.",
        run=check_sliding_window,
    ),
)

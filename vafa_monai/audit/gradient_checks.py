"""Checks of the gradient that the attacks follow: there, right, and that of the deployed pipeline."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import cast

import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import fall_back_tuple
from torch import Tensor, nn

from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditCase, AuditSubject
from vafa_monai.inferers import InferredNetwork, SlidingWindowNetwork, evaluating
from vafa_monai.losses import dice_ce
from vafa_monai.losses.voxel_loss import class_logits

__all__ = ["GRADIENT_CHECKS", "check_gradient", "check_sliding_window"]

STEPS = (1e-5, 1e-6, 1e-7, 1e-8)  # of the width: one of them is free of kinks of rectifiers, and large for float64
DIFFERENCE = 1e-2
ZERO_SHARE = 0.5
MARGIN = 40.0  # between the two highest logits: exp(-40) is nothing beside 1 in float32
EXACT = 1e-6
WINDOWS = 1.5  # edge of the volume that the sliding window is checked on, along the first axis, in windows


def check_gradient(subject: AuditSubject) -> Finding:
    """S10: gradients are finite, not zero, not lost in rounding, and agree with finite differences in float64."""
    network = copy.deepcopy(subject.network).double()
    whole = subject.pipeline(network)
    rows = [_gradient_facts(subject, whole, case) for case in subject.cases[:2]]
    worst = {name: max(row[name] for row in rows) for name in rows[0]}
    finite = worst["infinite"] == 0
    fatal = not finite or worst["zero"] >= 1 or worst["difference"] > DIFFERENCE or worst["margin"] > MARGIN
    doubtful = worst["zero"] > ZERO_SHARE
    return Finding(
        status=Status.FAIL if fatal else Status.WARN if doubtful else Status.PASS,
        sentence=(
            f"{worst['zero']:.1%} of the gradient is zero, it is {worst['difference']:.2g} off finite differences, "
            f"and the median voxel is sure by {worst['margin']:.3g} in logits."
        ),
        value=worst["difference"],
        limit=DIFFERENCE,
        unit="relative",
        details=worst,
    )


def check_sliding_window(
    subject: AuditSubject, build: Callable[[nn.Module, SlidingWindowInferer], nn.Module] | None = None
) -> Finding:
    """S14: the gradient through the sliding window is that of autograd through MONAI's own."""
    deployed = subject.inferer
    if not isinstance(deployed, SlidingWindowInferer) or not SlidingWindowNetwork.can_stand_for(deployed):
        return Finding(status=Status.SKIP, sentence="The model is not deployed with MONAI's sliding window.")
    build = build or SlidingWindowNetwork.from_inferer
    network = copy.deepcopy(subject.network).double().requires_grad_(False)
    volume, inferer = _small_volume(subject.cases[0].image, deployed), copy.copy(deployed)
    inferer.sw_batch_size = 1  # so that there are several calls
    autograd = InferredNetwork(network, cast(Callable[..., Tensor], inferer))
    found, expected = (_pull(one, volume) for one in (build(network, inferer), autograd))
    difference = ((found - expected).norm() / expected.norm().clamp_min(torch.finfo(torch.float64).tiny)).item()
    return Finding(
        status=Status.PASS if difference <= EXACT else Status.FAIL,
        sentence=f"The gradient of a volume of several windows is {difference:.2g} off autograd through MONAI.",
        value=difference,
        limit=EXACT,
        unit="relative",
    )


def _gradient_facts(subject: AuditSubject, whole: nn.Module, case: AuditCase) -> dict[str, float]:
    """Return what there is to say of the gradient of one case, in float64."""
    loss_function = dice_ce()
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
    highest = class_logits(logits.detach(), case.label)[0].topk(2, dim=1).values
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
        meaning="The attack climbs another function than the one that segments, so it finds less than there is.",
        run=check_sliding_window,
    ),
)

"""How much harm attacks do: more with more budget and steps, all of it without a bound, and less in the dark."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vafa_monai.attacks import APGD, PGD, VAFA, Attack, CosPGD, FrequencyPGD, SegPGD, SquareAttack
from vafa_monai.losses import JensenShannonLoss, MaskedCrossEntropyLoss, dice_ce

BLOCK = (4, 4, 4)


def loss_of(network: nn.Module, volume: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice plus cross entropy of every sample."""
    with torch.no_grad():
        logits = network(volume)
    return torch.stack([dice_ce()(one, label) for one, label in zip(logits.split(1), targets.split(1), strict=True)])


def dice_of(network: nn.Module, volume: Tensor, targets: Tensor) -> Tensor:
    """Mean foreground Dice of every sample; every class is present."""
    with torch.no_grad():
        predicted = network(volume).argmax(1, keepdim=True)
    scores = []
    for label in (1, 2):
        mine, truth = ((part == label).flatten(1) for part in (predicted, targets))
        scores.append(2 * (mine & truth).sum(1) / (mine.sum(1) + truth.sum(1)))
    return torch.stack(scores).mean(0)


BY_EPS = {
    "pgd": lambda eps: PGD(eps=eps / 255, iterate="best"),
    "pgd_l2": lambda eps: PGD(eps=eps / 255, norm="l2", iterate="best"),
    "apgd": lambda eps: APGD(eps=eps / 255),
    "apgd_masked": lambda eps: APGD(eps=eps / 255, loss_function=MaskedCrossEntropyLoss()),
    "seg_pgd": lambda eps: SegPGD(eps=eps / 255, iterate="best"),
    "cos_pgd": lambda eps: CosPGD(eps=eps / 255, iterate="best"),
    "frequency_pgd": lambda eps: FrequencyPGD(q_max=3 * eps, block_size=BLOCK),
    "vafa": lambda eps: VAFA.preset("audit", q_max=3 * eps, block_size=BLOCK),
}


@pytest.mark.parametrize("attack", BY_EPS.values(), ids=BY_EPS.keys())
def test_loss_rises_and_dice_falls_with_the_budget(attack, cases, trained_network):
    inputs, targets = cases
    volumes = [inputs, *(attack(eps)(inputs, targets, trained_network) for eps in (1, 4, 16, 64))]
    losses = torch.stack([loss_of(trained_network, volume, targets) for volume in volumes])
    dice = torch.stack([dice_of(trained_network, volume, targets) for volume in volumes])
    assert (losses.diff(dim=0) > -1e-4).all()
    assert (losses[-1] > losses[0] + 0.2).all()
    assert (dice.mean(1).diff() < 0).all()


@pytest.mark.parametrize("kind", [PGD, CosPGD, FrequencyPGD, VAFA])
def test_best_iterate_gets_no_worse_with_more_steps(kind, cases, trained_network):
    """Steps of one length: the iterates of fewer steps are among those of more."""
    voxels = kind in (PGD, CosPGD)
    settings = {"eps": 0.05, "step_size": 0.02} if voxels else {"block_size": BLOCK, "step_size": 2}
    objectives = [
        kind(steps=steps, iterate="best", **settings).run(*cases, trained_network).objective for steps in (1, 3, 9, 27)
    ]
    assert (torch.stack(objectives).diff(dim=0) >= 0).all()
    assert (objectives[-1] > objectives[0]).all()


UNBOUNDED = {
    "apgd_masked": APGD(eps=1, steps=60, loss_function=MaskedCrossEntropyLoss(balanced=True)),
    "apgd_js": APGD(eps=1, steps=60, loss_function=JensenShannonLoss(balanced=True)),
    "cos_pgd": CosPGD(eps=1, steps=60, iterate="best"),
    "frequency_pgd": FrequencyPGD(
        q_max=510, block_size=BLOCK, steps=60, loss_function=MaskedCrossEntropyLoss(balanced=True)
    ),
}


@pytest.mark.parametrize("attack", UNBOUNDED.values(), ids=UNBOUNDED.keys())
def test_without_a_bound_nothing_is_left_of_the_foreground(attack: Attack, cases, trained_network):
    inputs, targets = cases
    assert (dice_of(trained_network, inputs, targets) > 0.8).all()
    assert dice_of(trained_network, attack(inputs, targets, trained_network), targets).mean() <= 0.02


@pytest.mark.parametrize("eps", [4 / 255, 12 / 255])
def test_apgd_is_as_harmful_as_pgd_sample_by_sample(eps, cases, trained_network):
    """By the loss that both climb, up to the last thousandth; the step sizes of PGD are good ones."""
    chosen, fixed = (
        kind(eps=eps, steps=40, **settings).run(*cases, trained_network).objective
        for kind, settings in ((APGD, {}), (PGD, {"iterate": "best"}))
    )
    assert (chosen > fixed - 1e-3).all()


@pytest.mark.parametrize("eps", [4 / 255, 12 / 255])
def test_black_box_is_weaker_than_white_box_sample_by_sample(eps, cases, trained_network):
    black = SquareAttack(eps=eps, queries=300).run(*cases, trained_network).objective
    white = APGD(eps=eps, steps=20).run(*cases, trained_network).objective
    assert (black < white).all()


def test_l2_ball_is_worth_more_than_the_cube_inside_it(cases, trained_network):
    cube, ball = (APGD(eps=0.05, norm=norm).run(*cases, trained_network).objective for norm in ("linf", "l2"))
    assert (ball > cube).all()

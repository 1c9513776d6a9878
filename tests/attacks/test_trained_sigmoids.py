"""Attacks on trained networks of sigmoids: one channel, and three whose regions overlap, found in balls in noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.metrics import DiceMetric
from torch import Tensor, nn

from vafa_monai.attacks import APGD, PGD, Attack, AttackEnsemble, CosPGD, SegPGD, SquareAttack
from vafa_monai.attacks.ensemble import class_dice
from vafa_monai.losses import DiceBCELoss, JensenShannonLoss, MaskedCrossEntropyLoss

SHAPE = (12, 11, 10)
EPS, STEPS = 0.1, 20


def balls(samples: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    """Balls in noise, brighter towards their middle, and the nested regions that are within 4, 3 and 2 voxels of it."""
    generator = torch.Generator().manual_seed(seed)
    grid = torch.stack(torch.meshgrid(*(torch.arange(size) for size in SHAPE), indexing="ij"))
    middle = 4 + 3 * torch.rand(samples, 3, 1, 1, 1, generator=generator)
    distance = (grid - middle).square().sum(1, keepdim=True).sqrt()
    regions = torch.cat([distance < radius for radius in (4, 3, 2)[:channels]], 1)
    noise = 0.15 * torch.randn(distance.shape, generator=generator)
    return (0.2 + 0.15 * (4.5 - distance).clamp(0, 4) + noise).clamp(0, 1), regions.float()


def trained(channels: int) -> nn.Module:
    """Three layers and 80 steps of the loss that is the network's own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv3d(1, 8, 3, padding=1), nn.Softplus(), nn.Conv3d(8, 8, 3, padding=1), nn.Softplus()]
        network = nn.Sequential(*layers, nn.Conv3d(8, channels, 1))
    optimizer, loss_function = torch.optim.Adam(network.parameters(), lr=0.02), DiceBCELoss()
    for step in range(80):
        volume, regions = balls(4, channels, seed=step + 1)
        optimizer.zero_grad()
        loss_function(network(volume), regions).backward()
        optimizer.step()
    return network.eval()


@pytest.fixture(scope="module", params=[1, 3], ids=["one channel", "three that overlap"])
def task(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, volumes that it was not trained on, and their regions."""
    return trained(request.param), *balls(3, request.param, seed=0)


Left = Callable[[Attack], float]


@pytest.fixture(scope="module")
def left(task: tuple[nn.Module, Tensor, Tensor]) -> Left:
    """The mean DSC that an attack leaves, by MONAI's metric."""
    network, volume, regions = task

    def measure(attack: Attack) -> float:
        with torch.no_grad():
            pred = network(attack(volume, regions, network)) > 0
        return DiceMetric(reduction="mean")(pred, regions).mean().item()

    return measure


@pytest.fixture(scope="module")
def own(left: Left) -> float:
    """The DSC that plain PGD with the loss of the network's training leaves."""
    return left(PGD(eps=EPS, steps=STEPS, iterate="best", loss_function=DiceBCELoss(), output="sigmoid"))


def of(kind: type[Attack], **settings: object) -> Attack:
    return kind(**{"eps": EPS, "output": "sigmoid", **({} if kind is SquareAttack else {"steps": STEPS}), **settings})


ATTACKS = {
    "pgd": of(PGD),
    "apgd": of(APGD),
    "apgd_masked_ce": of(APGD, loss_function=MaskedCrossEntropyLoss(balanced=True, output="sigmoid")),
    "apgd_js": of(APGD, loss_function=JensenShannonLoss(output="sigmoid")),
    "seg_pgd": of(SegPGD, iterate="best"),
    "cos_pgd": of(CosPGD, iterate="best"),
    "ensemble": of(AttackEnsemble, block_size=(4, 4, 4), queries=20),
}


def test_network_finds_its_regions(task, own):
    network, volume, regions = task
    with torch.no_grad():
        clean = class_dice(network(volume), regions, "sigmoid").mean().item()
    assert clean > 0.8
    assert own < clean - 0.1


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_attack_of_the_right_kind_does_the_harm_of_plain_pgd_with_the_networks_own_loss(attack, left, own):
    assert left(attack) <= own + 0.02


def test_black_box_does_harm(task, left):
    network, volume, regions = task
    with torch.no_grad():
        clean = class_dice(network(volume), regions, "sigmoid").mean().item()
    assert left(of(SquareAttack, queries=100)) < clean - 0.02


def test_ensemble_judges_by_the_dice_of_the_regions(task):
    network, volume, regions = task
    found = of(AttackEnsemble, block_size=(4, 4, 4), steps=3, queries=3).run(volume, regions, network)
    with torch.no_grad():
        dice = class_dice(network(found.adv), regions, "sigmoid")
    torch.testing.assert_close(1 - found.objective, dice.mean(1))
    worst = found.details()[0]["worst_dice"]
    assert worst[0] is None  # the background, which is none
    assert len(worst) == 1 + regions.shape[1]

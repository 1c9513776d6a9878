"""What only APGD does: its checkpoints, its step sizes, its restarts; and that it equals the authors' own."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vafa_monai.attacks import APGD, PGD, Iterate, climb
from vafa_monai.attacks.apgd import AutoMove, checkpoints
from vafa_monai.attacks.norm import VoxelBall
from vafa_monai.attacks.pgd import VoxelAttack
from vafa_monai.losses import JensenShannonLoss, MaskedCrossEntropyLoss, dice_ce


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets[:, 0].long())


class Line:
    """The variable is a number a sample, in [-10, 10], and so is the volume."""

    def __init__(self, *start: float) -> None:
        self.first = torch.tensor(start, dtype=torch.float64).view(-1, 1, 1, 1, 1)

    def start(self) -> Tensor:
        return self.first

    def apply(self, variable: Tensor, step: int) -> Tensor:
        return variable

    def project(self, variable: Tensor) -> Tensor:
        return variable.clamp(-10, 10)


class Recorder(AutoMove):
    """Notes the size of every step and the number that it starts from."""

    def __init__(self, *args, **settings) -> None:
        super().__init__(*args, **settings)
        self.sizes: list[list[float]] = []
        self.met: list[list[float]] = []

    def __call__(self, variable, gradient, score):
        moved = super().__call__(variable, gradient, score)
        self.met.append(self.previous.flatten().tolist())
        self.sizes.append(self.size.tolist())
        return moved


def recorded(height, *start: float, radius: float, steps: int, rho: float = 0.75) -> Recorder:
    line = Line(*start)
    move = Recorder(line, radius, steps=steps, rho=rho)
    climb(line, lambda adv: height(adv.flatten()), move, steps=steps)
    return move


# Checkpoints


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),  # printed in the paper
        (1000, [220, 410, 570, 700, 800, 870, 930, 990]),
        (10, [3, 5, 6, 7, 8, 9, 10]),  # ceil(2.2), ceil(4.1), ceil(5.7), 7, 8, ceil(8.7), ceil(9.3), ceil(9.9)
        (1, [1]),
        (0, [0]),
    ],
)
def test_checkpoints_are_those_of_the_paper(steps, expected):
    assert checkpoints(steps) == expected


# Steps by hand, along a line


def test_first_step_is_twice_the_radius_and_later_ones_have_momentum():
    """Uphill without end: 0, then +2, then 3/4 of 2 and 1/4 of the last move."""
    met = recorded(lambda x: x, 0.0, radius=1.0, steps=20).met
    assert [number for (number,) in met[:4]] == [0.0, 2.0, 4.0, 6.0]


def test_momentum_keeps_a_quarter_of_the_last_move():
    """Downhill after the first step: 0 -> 2 -> 2 - 3/4 * 2 + 1/4 * 2 = 1 -> 1 - 3/4 * 2 - 1/4 * 1 = -3/4."""
    met = recorded(lambda x: torch.where(x < 0.5, x, -x), 0.0, radius=1.0, steps=20).met
    assert [number for (number,) in met[:4]] == [0.0, 2.0, 1.0, -0.75]


def test_step_is_halved_at_a_checkpoint_where_too_few_steps_rose_and_goes_on_from_the_best_point():
    """Ten steps have checkpoints 3, 5, 6, ...; of the first three steps from the top none rises."""
    move = recorded(lambda x: -x.abs(), 0.0, radius=1.0, steps=10)
    assert [size for (size,) in move.sizes[:6]] == [2.0, 2.0, 2.0, 1.0, 1.0, 0.5]
    assert move.met[3] == [0.0]  # back at the start, the best of all
    assert move.met[5] == [0.0]


def test_step_is_not_halved_where_enough_steps_rose():
    move = recorded(lambda x: x, -9.0, radius=0.5, steps=10)
    assert {size for (size,) in move.sizes} == {1.0}


def test_a_share_of_rho_is_too_small():
    """All of the first three steps rise, which is the share 1."""
    assert recorded(lambda x: x, -9.0, radius=0.5, steps=10, rho=1.0).sizes[3] == [0.5]
    assert recorded(lambda x: x, -9.0, radius=0.5, steps=10, rho=0.99).sizes[3] == [1.0]


def test_step_is_halved_where_the_best_score_stands_still_after_a_period_without_halving():
    """With ``rho = 0`` a single rise is enough, so only the second condition is left.

    -5 -> -3 -> -1 -> 1, whose height is that of -1: at checkpoint 3 nothing was halved before, so the best score of
    that moment, -1, is noted; at checkpoint 5 it must have risen.
    """
    move = recorded(lambda x: -x.abs().clamp_min(1), -5.0, radius=1.0, steps=10, rho=0.0)
    sizes = [size for (size,) in move.sizes]
    assert sizes[:5] == [2.0] * 5
    assert sizes[5] == 1.0


def test_samples_have_step_sizes_of_their_own():
    move = recorded(lambda x: torch.where(x > 5, x, -x.abs()), 0.0, 6.0, radius=0.1, steps=10)
    assert move.sizes[3] == pytest.approx([0.1, 0.2])


# The attack


@pytest.mark.parametrize("norm", ["Linf", "L2"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_equals_torchattacks_on_a_2d_problem(norm, seed, monkeypatch):
    """Its port of the authors' code, from the same random start; in double precision, or signs near 0 would differ."""
    torchattacks = pytest.importorskip("torchattacks")
    torch.set_default_dtype(torch.float64)
    try:
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.SiLU(), nn.Linear(16, 3))
        images, labels = torch.rand(6, 1, 8, 6), torch.randint(0, 3, (6,))
        size = 0.1 if norm == "Linf" else 0.5 / 48**0.5
        theirs = torchattacks.APGD(network, norm=norm, eps=0.1 if norm == "Linf" else 0.5, steps=100)
        torch.manual_seed(seed)
        expected, _, expected_loss, _ = theirs.attack_single_run(images, labels)
        torch.manual_seed(seed)
        start = 2 * torch.rand(images.shape) - 1 if norm == "Linf" else torch.randn(images.shape)
    finally:
        torch.set_default_dtype(torch.float32)
    largest = start.abs().amax((1, 2, 3)) if norm == "Linf" else start.square().mean((1, 2, 3)).sqrt()
    offset = (start / largest.view(-1, 1, 1, 1))[..., None]
    monkeypatch.setattr(VoxelAttack, "_offset", lambda attack, inputs, seed: offset)
    attack = APGD(norm=norm.lower(), eps=size, steps=100, random_start=True, loss_function=cross_entropy)

    def segment(volume: Tensor) -> Tensor:
        """Give every voxel the class of its image."""
        return network(volume[..., 0]).view(-1, 3, 1, 1, 1).expand(-1, 3, 8, 6, 1)

    found = attack.run(images[..., None], labels.view(-1, 1, 1, 1, 1).expand(-1, 1, 8, 6, 1), segment)
    torch.testing.assert_close(found.adv[..., 0], expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(found.objective, expected_loss, rtol=0, atol=1e-10)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("eps", [4 / 255, 12 / 255])
@pytest.mark.parametrize("loss_function", [dice_ce(), JensenShannonLoss()], ids=["dice_ce", "js"])
def test_it_is_at_least_as_harmful_as_pgd_sample_by_sample(norm, eps, loss_function, cases, trained_network):
    settings = {"eps": eps, "norm": norm, "loss_function": loss_function, "steps": 20}
    pgd = PGD(iterate=Iterate.BEST, **settings).run(*cases, trained_network).objective
    apgd = APGD(**settings).run(*cases, trained_network).objective
    assert (apgd >= pgd).all()


def test_best_of_the_restarts_counts_sample_by_sample(cases, trained_network):
    objectives = [APGD(restarts=n, steps=6).run(*cases, trained_network).objective for n in (1, 2, 4)]
    assert (objectives[0] <= objectives[1]).all()
    assert (objectives[1] <= objectives[2]).all()
    assert (objectives[0] < objectives[2]).any()


def test_restarts_begin_at_points_of_their_own(cases, trained_network):
    inputs, _ = cases
    attack = APGD(eps=0.1, seed=3)
    clean, second, third = (attack._ball(inputs, run).start() for run in range(3))
    assert torch.equal(clean, inputs)
    assert torch.equal(second, APGD(eps=0.1, seed=4, random_start=True)._ball(inputs).start())
    assert not torch.equal(second, third)


def test_masked_loss_is_not_lost_where_it_wins(cases, trained_network):
    """The masked loss itself is 0 where every voxel is wrong, so the best iterate is chosen by the harm done."""
    inputs, targets = cases
    attack = APGD(eps=1.0, steps=40, loss_function=MaskedCrossEntropyLoss(balanced=True))
    found = attack.run(inputs, targets, trained_network)
    with torch.no_grad():
        harm = attack.loss_function.harm(trained_network(found.adv), targets)
    torch.testing.assert_close(found.objective, harm)
    assert (harm > 0.9).all()


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"restarts": 0}, ValueError, "restarts must be at least 1, got 0"),
        ({"restarts": 1.5}, TypeError, r"restarts must be a whole number, got 1\.5"),
        ({"rho": 1.1}, ValueError, r"rho must be at most 1, got 1\.1"),
        ({"rho": -0.1}, ValueError, r"rho must be at least 0 and finite, got -0\.1"),
        ({"norm": "l3"}, ValueError, "'l3'"),
        ({"eps": -1}, ValueError, "eps must be at least 0 and finite, got -1"),
        ({"steps": -1}, ValueError, "steps must be at least 0, got -1"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, error, match):
    with pytest.raises(error, match=match):
        APGD(**setting)


# A schedule of radii

PUBLISHED = [[2, 0.3], [1.5, 0.3], [1, 0.4]]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_schedule_walks_through_larger_balls_and_ends_in_its_own(norm, volume, label, tiny_network):
    inputs, far = 0.3 + 0.4 * volume, []

    def network(adv: Tensor) -> Tensor:
        change = adv.detach() - inputs
        far.append((change.abs().max() if norm == "linf" else change.square().mean((1, 2, 3, 4)).max().sqrt()).item())
        return tiny_network(adv)

    APGD(eps=0.05, norm=norm, steps=10, schedule=PUBLISHED)(inputs, label, network)
    limits = [0.1] * 4 + [0.075] * 4 + [0.05] * 5  # every stage evaluates the image after its last step, too
    assert [distance <= limit + 1e-6 for distance, limit in zip(far, limits, strict=True)] == [True] * 13
    assert max(far[:4]) > 0.09
    assert max(far[4:8]) > 0.07


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_stage_starts_at_the_best_volume_of_the_last_one_brought_into_its_ball(norm, volume, label, tiny_network):
    inputs, seen = (0.3 + 0.4 * volume)[:1], []

    def network(adv: Tensor) -> Tensor:
        seen.append(adv.detach())
        return tiny_network(adv)

    attack = APGD(eps=0.05, norm=norm, steps=10, schedule=PUBLISHED)
    attack(inputs, label[:1], network)
    stages = [seen[:4], seen[4:8], seen[8:]]
    for before, after, radius in zip(stages, stages[1:], (0.075, 0.05), strict=False):
        best = max(before, key=lambda adv: attack.loss_function(tiny_network(adv), label[:1]).item())
        torch.testing.assert_close(after[0], VoxelBall(inputs, radius, (0.0, 1.0), None, norm).project(best))


def test_a_schedule_of_one_stage_is_the_plain_attack(volume, label, tiny_network):
    plain, staged = (APGD(steps=6, **kind)(volume, label, tiny_network) for kind in ({}, {"schedule": [[1, 1]]}))
    assert torch.equal(plain, staged)


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_schedule_of_fewer_steps_than_stages_stays_in_its_ball(steps, volume, label, tiny_network):
    adv = APGD(eps=0.05, steps=steps, schedule=PUBLISHED, random_start=True)(volume, label, tiny_network)
    assert (adv - volume).abs().max() <= 0.05 + 1e-6


@pytest.mark.parametrize(
    "schedule",
    [[], [[2, 1]], [[1, 0.5], [2, 0.5]], [[2, 0.5], [1, 0.4]], [[2, 0], [1, 1]], [[1]], [[0.5, 0.5], [1, 0.5]]],
    ids=["empty", "ends at 2", "rises", "shares of 0.9", "no share", "no pair", "below 1"],
)
def test_schedules_that_do_not_end_in_the_ball_are_refused(schedule):
    with pytest.raises(ValueError, match="schedule must be factors that fall to 1 and shares that add up to 1, got"):
        APGD(schedule=schedule)

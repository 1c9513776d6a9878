"""What only Square Attack does: its stripes, its boxes, its queries."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vafa_monai.attacks import SquareAttack
from vafa_monai.attacks.norm import VoxelBall
from vafa_monai.attacks.square_attack import SquareMove, box_share, stripes
from vafa_monai.losses import dice_ce


@pytest.fixture
def inputs(volume):
    """Far from 0 and 1, so that nothing is clipped."""
    return 0.3 + 0.4 * volume


class Asked:
    """A network that remembers what it was asked."""

    def __init__(self, network) -> None:
        self.network = network
        self.volumes: list[Tensor] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        assert not inputs.requires_grad
        assert not torch.is_grad_enabled()
        self.volumes.append(inputs.clone())
        return self.network(inputs)


def losses_of(asked: Asked, label: Tensor) -> Tensor:
    """Return the loss of every volume that was asked for and every sample, ``(queries, B)``."""
    with torch.no_grad():
        logits = [asked.network(volume).split(1) for volume in asked.volumes]
    return torch.tensor([[dice_ce()(one, t[None]) for one, t in zip(ones, label, strict=True)] for ones in logits])


@pytest.mark.parametrize("queries", [1, 2, 17])
def test_network_is_asked_as_often_as_allowed(queries, inputs, label, tiny_network):
    asked = Asked(tiny_network)
    SquareAttack(queries=queries)(inputs, label, asked)
    assert len(asked.volumes) == queries


def test_it_starts_at_stripes_along_the_first_axis(inputs, label, tiny_network):
    start = (SquareAttack(eps=0.1, queries=1)(inputs, label, tiny_network) - inputs) / 0.1
    torch.testing.assert_close(start.abs(), torch.ones_like(start), rtol=0, atol=1e-5)
    assert (start.sign() == start.sign()[:, :, :1]).all()
    lines = start[0, 0, 0].sign()  # one for every place along the other two
    assert 10 < (lines > 0).sum() < 44  # of 54
    assert torch.equal(stripes((1, 5, 9, 6), torch.Generator().manual_seed(0))[0, 0], lines)


@pytest.mark.parametrize(
    ("query", "divisor"),
    [(0, 1), (10, 1), (11, 2), (50, 2), (51, 4), (201, 8), (501, 16), (1001, 32), (2001, 64), (4001, 128)],
)
def test_share_of_the_box_halves_at_the_published_moments(query, divisor):
    assert box_share(query, 10_000, 0.8) == 0.8 / divisor
    assert box_share(10 * query, 100_000, 0.8) == 0.8 / divisor  # which scale with the number of queries


def test_last_boxes_are_the_smallest():
    assert [0.8 / box_share(query, 1000, 0.8) for query in (601, 801, 999)] == [256, 512, 512]


def test_candidates_differ_from_the_best_in_one_box_of_the_size_due(inputs, label, tiny_network):
    asked = Asked(tiny_network)
    SquareAttack(eps=0.1, queries=30, first_share=0.5)(inputs, label, asked)
    losses = losses_of(asked, label)
    for sample in range(2):
        for query in range(1, 30):
            best = asked.volumes[losses[:query, sample].argmax()][sample, 0]
            changed = (asked.volumes[query][sample, 0] != best).nonzero()
            share = box_share(query - 1, 29, 0.5) ** (1 / 3)
            edges = [max(round(share * size), 1) for size in best.shape]
            assert len(changed) > 0  # no query is wasted
            assert ((changed.amax(0) - changed.amin(0) + 1) <= torch.tensor(edges)).all()


def test_result_is_the_best_of_all_candidates_sample_by_sample(inputs, label, tiny_network):
    asked = Asked(tiny_network)
    found = SquareAttack(eps=0.1, queries=40).run(inputs, label, asked)
    losses = losses_of(asked, label)
    torch.testing.assert_close(found.objective, losses.amax(0))
    for sample in range(2):
        assert torch.equal(found.adv[sample], asked.volumes[losses[:, sample].argmax()][sample])
    assert losses[:, 0].argmax() != losses[:, 1].argmax()  # they went different ways


def test_every_voxel_is_at_the_edge_of_the_ball(inputs, label, tiny_network):
    change = SquareAttack(eps=0.1, queries=30)(inputs, label, tiny_network) - inputs
    torch.testing.assert_close(change.abs(), torch.full_like(change, 0.1), rtol=0, atol=1e-6)  # float32


def test_channels_have_signs_of_their_own():
    clean = torch.full((1, 3, 6, 5, 4), 0.5)
    ball = VoxelBall(clean, 0.1, (0.0, 1.0))
    signs = set()
    for seed in range(10):
        move = SquareMove(ball, queries=50, first=1.0, generator=torch.Generator().manual_seed(seed))
        box = move(clean, clean, torch.zeros(1)) > clean
        assert (box == box[..., :1, :1, :1]).all()  # the first box is the whole volume
        signs.add(tuple(box[0, :, 0, 0, 0].tolist()))
    assert len(signs) > 3


def test_more_queries_do_more_harm(cases, trained_network):
    losses = [SquareAttack(eps=0.05, queries=q).run(*cases, trained_network).objective.mean() for q in (1, 30, 300)]
    assert losses[0] < losses[1] < losses[2]


def test_it_does_more_harm_than_noise_of_the_same_size(cases, trained_network):
    inputs, targets = cases
    found = SquareAttack(eps=0.05, queries=200).run(inputs, targets, trained_network)
    rms = (found.adv - inputs).square().mean().sqrt()
    noise = torch.randn(10, *inputs.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        losses = torch.stack([dice_ce()(trained_network(inputs + rms * n), targets) for n in noise])
    assert found.objective.mean() > losses.mean() + 3 * losses.std()


@pytest.mark.parametrize(
    ("setting", "error", "match"),
    [
        ({"queries": -1}, ValueError, "queries must be at least 0, got -1"),
        ({"queries": 1e3}, TypeError, r"queries must be a whole number, got 1000\.0"),
        ({"first_share": 0}, ValueError, "first_share must be positive and at most 1, got 0"),
        ({"first_share": 1.5}, ValueError, r"first_share must be positive and at most 1, got 1\.5"),
        ({"eps": -1}, ValueError, "eps must be at least 0 and finite, got -1"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(setting, error, match):
    with pytest.raises(error, match=match):
        SquareAttack(**setting)

"""Counts of forward and backward passes."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks import APGD, PGD, SquareAttack
from vafa_monai.inferers import PassCounter, SlidingWindowNetwork


@pytest.mark.parametrize(
    ("attack", "forward", "backward"),
    [(PGD(steps=3), 3, 3), (PGD(steps=3, iterate="best"), 4, 3), (APGD(steps=5, restarts=2), 12, 10),
     (SquareAttack(queries=7), 7, 0)],
    ids=["pgd", "pgd_best", "apgd_two_runs", "square"],
)  # fmt: skip
def test_an_attack_costs_its_steps_for_every_sample(attack, forward, backward, volume, label, tiny_network):
    with PassCounter(tiny_network) as passes:
        attack(volume, label, tiny_network)
    assert (passes.forward, passes.backward) == (len(volume) * forward, len(volume) * backward)


def test_a_sliding_window_runs_every_window_twice_forward_and_once_backward(volume, tiny_network):
    whole = SlidingWindowNetwork(tiny_network, roi_size=(6, 6, 6), sw_batch_size=3, overlap=0.5)
    inputs = volume.requires_grad_()
    with PassCounter(tiny_network) as passes:
        torch.autograd.grad(whole(inputs).sum(), inputs)
    windows = len(volume) * 3 * 2  # 11 x 9 x 6 voxels in steps of 3
    assert (passes.forward, passes.backward) == (2 * windows, windows)


@pytest.mark.parametrize(
    ("settings", "weights", "forward"),
    [({}, False, 1), ({}, True, 2), ({"sw_batch_size": 11}, False, 2), ({"windows_per_gradient": 6}, False, 2)],
    ids=["frozen", "weights want a gradient", "two calls", "drawn windows"],
)
def test_windows_of_one_call_with_frozen_weights_are_not_run_again(settings, weights, forward, volume, tiny_network):
    settings = {"roi_size": (6, 6, 6), "sw_batch_size": 12, "overlap": 0.5, **settings}
    whole = SlidingWindowNetwork(tiny_network.requires_grad_(weights), **settings)
    inputs = volume.requires_grad_()
    with PassCounter(tiny_network) as passes:
        (gradient,) = torch.autograd.grad(whole(inputs).square().sum(), inputs)
    assert passes.forward == forward * 12
    expected = torch.autograd.grad(whole.inferer(inputs, tiny_network).square().sum(), inputs)[0]
    torch.testing.assert_close(gradient, expected)


def test_nothing_is_counted_afterwards(volume, tiny_network):
    with PassCounter(tiny_network) as passes:
        pass
    tiny_network(volume)
    assert passes.forward == 0

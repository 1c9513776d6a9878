"""Calls that are made again: the same random numbers, the same precision, and nothing moved elsewhere."""

from __future__ import annotations

import torch
from torch import nn

from vafa_monai.inferers.sliding_window_network import RepeatableCalls

CPU = torch.device("cpu")


def test_every_call_is_repeated_with_its_own_random_numbers_in_any_order():
    network = nn.Dropout(0.5)
    calls, inputs = RepeatableCalls(network, CPU), torch.ones(64)
    first = [calls(inputs) for _ in range(3)]
    with calls.repeating() as rewind:
        for index in (2, 0, 1):
            rewind(index)
            assert torch.equal(network(inputs), first[index])
    assert not torch.equal(first[0], first[1])


def test_generator_is_afterwards_where_it_was_before():
    calls = RepeatableCalls(nn.Dropout(0.5), CPU)
    calls(torch.ones(8))
    torch.rand(3)
    before = torch.get_rng_state()
    with calls.repeating() as rewind:
        rewind(0)
        torch.rand(5)
    assert torch.equal(torch.get_rng_state(), before)


def test_calls_that_draw_nothing_are_told_and_share_one_note():
    calls = RepeatableCalls(nn.Identity(), CPU)
    for _ in range(100):
        calls(torch.ones(8))
    assert not calls.drew_numbers()
    assert len({id(note) for note in calls.before}) == 1
    random = RepeatableCalls(nn.Dropout(0.5), CPU)
    random(torch.ones(8))
    assert random.drew_numbers()


def test_precision_is_that_of_the_first_time():
    network = nn.Linear(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = RepeatableCalls(network, CPU)
    without = RepeatableCalls(network, CPU)
    with within.repeating():
        assert network(torch.ones(2)).dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16), without.repeating():
        assert network(torch.ones(2)).dtype == torch.float32

"""The loop alone, on a perturbation of one number a sample."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vafa_monai.attacks import Ascent, ascend


class Shift:
    """The variable is added to a volume of zeros, and stays in [-1, 1]."""

    def __init__(self, *start: float) -> None:
        self.first = torch.tensor(start).view(-1, 1, 1, 1, 1)
        self.applied: list[int] = []

    def start(self) -> Tensor:
        return self.first

    def apply(self, variable: Tensor, step: int) -> Tensor:
        self.applied.append(step)
        return variable.expand(-1, 1, 2, 3, 4)

    def project(self, variable: Tensor) -> Tensor:
        return variable.clamp(-1, 1)


def height(adv: Tensor) -> Tensor:
    """A parabola with its top at 0.5, for every sample."""
    return -(adv.mean((1, 2, 3, 4)) - 0.5).square()


def reached(steps: int, iterate: str, *start: float, step_size: float = 0.25) -> list[float]:
    return ascend(Shift(*start), height, steps=steps, step_size=step_size, iterate=iterate).variable.flatten().tolist()


def test_steps_go_uphill_by_step_size():
    assert reached(1, "last", 0.0, 1.0) == [0.25, 0.75]
    assert reached(2, "last", 0.0, 1.0) == [0.5, 0.5]


def test_every_step_is_projected():
    assert reached(1, "last", -0.5, step_size=9.0) == [1.0]
    assert reached(2, "last", -0.5, step_size=9.0) == [-1.0]


@pytest.mark.parametrize(
    ("iterate", "expected"), [("last", [0.0, 0.8]), ("last_evaluated", [0.8, 0.0]), ("best", [0.8, 0.8])], ids=str
)
def test_iterate_is_chosen_sample_by_sample(iterate, expected):
    """The step jumps over the top: the first sample from 0 to 0.8 and back, the second the other way round."""
    assert reached(2, iterate, 0.0, 0.8, step_size=0.8) == pytest.approx(expected)


def test_earlier_of_two_equal_iterates_is_kept():
    assert reached(1, "best", 0.0, step_size=1.0) == [0.0]


@pytest.mark.parametrize("iterate", ["last", "last_evaluated", "best"])
def test_without_steps_the_start_is_returned(iterate):
    assert reached(0, iterate, 0.3) == pytest.approx([0.3])


@pytest.mark.parametrize("iterate", ["last_evaluated", "best"])
def test_image_variable_and_objective_belong_together(iterate):
    found = ascend(Shift(0.0, 0.9), height, steps=3, step_size=0.3, iterate=iterate)
    assert torch.equal(found.adv, found.variable.expand(-1, 1, 2, 3, 4))
    torch.testing.assert_close(found.objective, height(found.adv))


@pytest.mark.parametrize(("iterate", "last"), [("last", 3), ("last_evaluated", 2), ("best", 3)])
def test_perturbation_is_told_the_step(iterate, last):
    shift = Shift(0.0)
    ascend(shift, height, steps=3, step_size=0.1, iterate=iterate)
    assert shift.applied == list(range(last + 1))


@pytest.mark.parametrize("iterate", ["last", "last_evaluated", "best"])
def test_nothing_found_asks_for_a_gradient(iterate):
    found = ascend(Shift(0.0), height, steps=2, step_size=0.1, iterate=iterate)
    assert isinstance(found, Ascent)
    assert not any(part.requires_grad for part in (found.adv, found.variable))


def test_start_is_not_moved():
    shift = Shift(0.0)
    ascend(shift, height, steps=2, step_size=0.1)
    assert shift.first.item() == 0
    assert not shift.first.requires_grad

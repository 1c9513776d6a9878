"""What only BIM does: PGD from the clean volume in steps of its own."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.attacks import BIM, PGD


@pytest.mark.parametrize("steps", [1, 4])
def test_it_is_pgd_in_steps_of_two_eps_over_the_steps(steps, volume, label, tiny_network):
    expected = PGD(eps=0.1, steps=steps, step_size=2 * 0.1 / steps)(volume, label, tiny_network)
    assert torch.equal(BIM(eps=0.1, steps=steps)(volume, label, tiny_network), expected)


def test_with_the_step_of_the_paper_it_is_pgd(volume, label, tiny_network):
    attacks = [attack(step_size=0.01, steps=4) for attack in (BIM, PGD)]
    assert torch.equal(*(attack(volume, label, tiny_network) for attack in attacks))


def test_a_random_start_is_refused():
    with pytest.raises(ValueError, match="random_start must be False for BIM, got True; use PGD"):
        BIM(random_start=True)

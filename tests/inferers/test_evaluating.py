"""The mode in which a network is attacked."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.inferers import evaluating


def test_everything_is_in_eval_mode_inside_and_in_its_former_mode_after(normalized_network):
    normalized_network.train()[1].eval()  # a frozen batch norm
    before = [part.training for part in normalized_network.modules()]
    with evaluating(normalized_network):
        assert not any(part.training for part in normalized_network.modules())
    assert [part.training for part in normalized_network.modules()] == before == [True, True, False, True, True, True]


def test_former_mode_comes_back_after_an_error(normalized_network):
    normalized_network.train()
    with pytest.raises(ArithmeticError), evaluating(normalized_network):
        raise ArithmeticError
    assert all(part.training for part in normalized_network.modules())


def test_gradients_are_allowed_inside_and_as_before_after(tiny_network):
    with torch.no_grad():
        with evaluating(tiny_network):
            assert torch.is_grad_enabled()
        assert not torch.is_grad_enabled()

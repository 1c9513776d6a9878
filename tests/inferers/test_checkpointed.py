"""Gradients in less memory."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNETR
from torch import nn

from vafa_monai.inferers import checkpointed


class Listed(nn.Module):
    """A network with a list of parts, and a part that is used twice."""

    def __init__(self):
        super().__init__()
        self.parts = nn.ModuleList([nn.Sequential(nn.Conv3d(3, 3, 3, padding=1), nn.Softplus()) for _ in range(3)])
        self.first = nn.Conv3d(1, 3, 1)
        self.twice = nn.Dropout(0.5)

    def forward(self, volume):
        volume = self.twice(self.first(volume))
        for part in self.parts:
            volume = part(volume)
        return self.twice(volume)


def kept_bytes(network, volume):
    """Bytes that autograd holds between the forward and the backward pass."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(volume).sum()
    return sum(kept.values())


@pytest.fixture
def volume():
    return torch.rand(2, 1, 16, 32, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_gradient_is_the_same_with_random_numbers(volume):
    torch.manual_seed(0)
    network = Listed()
    torch.manual_seed(1)
    expected = torch.autograd.grad(network(volume).square().sum(), volume)[0]
    torch.manual_seed(1)
    with checkpointed(network):
        found = torch.autograd.grad(network(volume).square().sum(), volume)[0]
    assert torch.equal(found, expected)


def test_gradient_of_a_transformer_is_the_same_and_less_is_kept(volume):
    torch.manual_seed(0)
    network = UNETR(1, 3, (16, 32, 16), feature_size=4, hidden_size=24, mlp_dim=48, num_heads=2, norm_name="instance")
    network.eval().requires_grad_(False)
    expected, before = torch.autograd.grad(network(volume).square().sum(), volume)[0], kept_bytes(network, volume)
    with checkpointed(network):
        found, after = torch.autograd.grad(network(volume).square().sum(), volume)[0], kept_bytes(network, volume)
    torch.testing.assert_close(found, expected)
    assert after < before / 2


def test_network_is_as_before_even_after_an_error():
    network = Listed()
    network.first.forward = own = network.first.forward
    with pytest.raises(ZeroDivisionError), checkpointed(network):
        1 / int(network.first.forward is own)
    assert network.first.__dict__["forward"] is own
    assert not any("forward" in part.__dict__ for part in network.modules() if part is not network.first)

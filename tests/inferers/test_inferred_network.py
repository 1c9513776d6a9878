"""A network with its inferer: the same logits, the same gradient, the same weights."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer, sliding_window_inference
from torch import nn

from vafa_monai.attacks import PGD
from vafa_monai.inferers import InferredNetwork

WINDOW = (4, 3, 5)

windows = pytest.mark.parametrize(
    ("overlap", "mode"),
    [(0.0, "constant"), (0.5, "constant"), (0.5, "gaussian"), ((0.25, 0.6, 0.4), "gaussian")],
    ids=str,
)


@windows
def test_logits_are_those_of_sliding_window_inference(overlap, mode, volume, tiny_network):
    inferer = SlidingWindowInferer(WINDOW, sw_batch_size=3, overlap=overlap, mode=mode)
    expected = sliding_window_inference(volume, WINDOW, 3, tiny_network, overlap, mode)
    assert torch.equal(InferredNetwork(tiny_network, inferer)(volume), expected)


@windows
def test_gradient_through_the_blended_windows_equals_finite_differences(overlap, mode, tiny_network):
    whole = InferredNetwork(tiny_network.double(), SlidingWindowInferer((3, 2, 4), overlap=overlap, mode=mode))
    inputs = torch.rand(1, 1, 4, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    assert torch.autograd.gradcheck(whole, inputs.requires_grad_())


def test_gradient_of_a_volume_is_not_that_of_its_tiles(volume, tiny_network):
    """Where windows overlap, a voxel acts through all of them."""
    whole = InferredNetwork(tiny_network, SlidingWindowInferer(WINDOW, overlap=0.5))
    tiles = InferredNetwork(tiny_network, SlidingWindowInferer(WINDOW, overlap=0.0))
    inputs = volume.clone().requires_grad_()
    gradients = [torch.autograd.grad(one(inputs).square().sum(), inputs)[0] for one in (whole, tiles)]
    assert (gradients[0] - gradients[1]).abs().max() > 0.01 * gradients[0].abs().max()


def test_without_an_inferer_the_network_is_called(volume, tiny_network):
    assert torch.equal(InferredNetwork(tiny_network)(volume), tiny_network(volume))


def test_any_callable_of_inputs_and_network_is_an_inferer(volume, tiny_network):
    whole = InferredNetwork(tiny_network, lambda inputs, network: network(inputs.flip(2)).flip(2))
    assert torch.equal(whole(volume), tiny_network(volume.flip(2)).flip(2))


def test_weights_and_buffers_are_those_of_the_network(normalized_network):
    whole = InferredNetwork(normalized_network, SlidingWindowInferer(WINDOW))
    assert [id(part) for part in whole.parameters()] == [id(part) for part in normalized_network.parameters()]
    assert [id(part) for part in whole.buffers()] == [id(part) for part in normalized_network.buffers()]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_mode_is_that_of_the_network(normalized_network, training):
    whole = InferredNetwork(normalized_network.train(training))
    assert whole.training == training
    assert whole.train(not training).network[1].training == (not training)


def test_attack_meets_the_blended_pipeline(volume, label, tiny_network):
    whole = InferredNetwork(tiny_network, SlidingWindowInferer(WINDOW, overlap=0.5, mode="gaussian"))
    adv = PGD(steps=2)(volume, label, whole)
    expected = PGD(steps=2)(
        volume, label, lambda inputs: sliding_window_inference(inputs, WINDOW, 1, tiny_network, 0.5, "gaussian")
    )
    assert torch.equal(adv, expected)
    assert not torch.equal(adv, PGD(steps=2)(volume, label, tiny_network))


def test_module_can_be_built_from_json():
    config = {
        "_target_": "vafa_monai.inferers.InferredNetwork",
        "network": {"_target_": "torch.nn.Identity"},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [4, 3, 5], "overlap": 0.5},
    }
    whole = ConfigParser({"whole": config}).get_parsed_content("whole")
    inputs = torch.rand(1, 1, 6, 5, 7, generator=torch.Generator().manual_seed(0))
    assert isinstance(whole.network, nn.Identity)
    torch.testing.assert_close(whole(inputs), inputs)  # the blend of what did not change

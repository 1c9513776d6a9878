"""The whole volume as one network against autograd through MONAI's sliding window."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer, sliding_window_inference
from torch import Tensor, nn

from vafa_monai.attacks import BIM, FGSM, PGD, VAFA
from vafa_monai.inferers import SlidingWindowNetwork

ROI = (6, 8, 4)


class Counted(nn.Module):
    """A smooth network that depends on the place in its window and counts the windows of each call."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv3d(1, 4, 3, padding=1), nn.Softplus(), nn.InstanceNorm3d(4), nn.Conv3d(4, 3, 1)
            )
        self.calls: list[int] = []

    def forward(self, windows: Tensor) -> Tensor:
        self.calls.append(len(windows))
        return self.layers(windows)


@pytest.fixture
def network() -> Counted:
    return Counted().double().eval()


def random_volume(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def pair(function, volume: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits and the gradient of a nonlinear function of them."""
    inputs = volume.clone().requires_grad_()
    logits = function(inputs)
    weight = random_volume(*logits.shape).to(logits.dtype)
    return logits, torch.autograd.grad((logits.square() * weight).sum() + logits.sigmoid().sum(), inputs)[0]


@pytest.mark.parametrize("shape", [(11, 9, 6), (6, 17, 9), (5, 20, 3)], ids=str)
@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75, (0.1, 0.6, 0.3)], ids=str)
def test_value_and_gradient_are_those_of_autograd_through_monai(network, shape, mode, overlap):
    settings = {"roi_size": ROI, "sw_batch_size": 3, "overlap": overlap, "mode": mode}
    volume = random_volume(2, 1, *shape)
    logits, gradient = pair(SlidingWindowNetwork(network, **settings), volume)
    expected = pair(lambda inputs: sliding_window_inference(inputs, predictor=network, **settings), volume)
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, expected[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize(("padding_mode", "cval"), [("constant", 0.3), ("replicate", 0.0), ("reflect", 0.0)])
def test_a_volume_smaller_than_the_window_is_padded_as_asked(network, padding_mode, cval):
    settings = {"roi_size": ROI, "sw_batch_size": 1, "padding_mode": padding_mode, "cval": cval}
    volume = random_volume(1, 1, 5, 9, 3)
    logits, gradient = pair(SlidingWindowNetwork(network, **settings), volume)
    expected = pair(lambda inputs: sliding_window_inference(inputs, predictor=network, **settings), volume)
    torch.testing.assert_close(logits, expected[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(gradient, expected[1], rtol=0, atol=1e-6)


def test_gradient_equals_finite_differences(network):
    whole = SlidingWindowNetwork(network, roi_size=(2, 2, 2), overlap=0.5, mode="gaussian")
    assert torch.autograd.gradcheck(whole, random_volume(1, 1, 3, 2, 3).requires_grad_())


def test_no_more_windows_are_held_than_a_batch_of_them(network):
    whole = SlidingWindowNetwork(network, roi_size=ROI, sw_batch_size=2, overlap=0.5)
    volume, saved = random_volume(1, 1, 24, 24, 12).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda x: x):
        logits = whole(volume)
    assert sum(saved) == volume.numel()
    forward = sum(network.calls)
    torch.autograd.grad(logits.sum(), volume)
    assert max(network.calls) == 2
    assert sum(network.calls) == 2 * forward


def test_weights_get_no_gradient(network):
    volume = random_volume(1, 1, 8, 8, 8).requires_grad_()
    SlidingWindowNetwork(network, roi_size=ROI)(volume).sum().backward()
    assert volume.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_without_a_gradient_to_the_volume_it_is_monai(network):
    volume = random_volume(1, 1, 11, 9, 6)
    expected = sliding_window_inference(volume, ROI, 1, network)
    assert torch.equal(SlidingWindowNetwork(network, roi_size=ROI)(volume), expected)
    with torch.no_grad():
        assert not SlidingWindowNetwork(network, roi_size=ROI)(volume.requires_grad_()).requires_grad


def test_dropout_is_the_same_in_both_passes():
    network = nn.Sequential(nn.Conv3d(1, 8, 1), nn.Dropout(0.5), nn.Conv3d(8, 2, 1)).double().train()
    whole, volume = SlidingWindowNetwork(network, roi_size=(4, 4, 4), overlap=0), random_volume(1, 1, 8, 4, 4)
    torch.manual_seed(3)
    logits, gradient = pair(whole, volume)
    torch.manual_seed(3)
    expected = pair(lambda inputs: sliding_window_inference(inputs, (4, 4, 4), 1, network, 0.0), volume)
    torch.testing.assert_close((logits, gradient), expected)


def test_autocast_is_the_same_in_both_passes():
    seen = []

    def network(windows: Tensor) -> Tensor:
        out = torch.nn.functional.conv3d(windows, torch.ones(2, 1, 1, 1, 1))
        seen.append(out.dtype)
        return out

    module = nn.Module()
    module.forward = network
    volume = random_volume(1, 1, 4, 4, 4, dtype=torch.float32).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = SlidingWindowNetwork(module, roi_size=(4, 4, 4))(volume)
    torch.autograd.grad(logits.sum(), volume)
    assert seen == [torch.bfloat16, torch.bfloat16]


@pytest.mark.parametrize(
    "attack",
    [PGD(steps=3), BIM(steps=2), FGSM(), VAFA(block_size=(4, 4, 4), steps=2), VAFA.preset("authors", steps=2)],
    ids=["pgd", "bim", "fgsm", "vafa", "authors"],
)
def test_attacks_work_unchanged_and_find_what_they_find_through_monai(network, attack):
    volume = random_volume(1, 1, 11, 9, 6, dtype=torch.float32)
    label = (volume > 0.5).long()
    network.float()
    settings = {"roi_size": ROI, "overlap": 0.5, "sw_batch_size": 2}
    whole = SlidingWindowNetwork(network, **settings)
    adv = attack(volume, label, whole)
    expected = attack(volume, label, lambda inputs: sliding_window_inference(inputs, predictor=network, **settings))
    assert (adv - expected).abs().mean() < 1e-4
    assert torch.equal(adv, attack(volume, label, whole))


def test_the_network_of_an_inferer_does_what_the_inferer_does(network):
    inferer = SlidingWindowInferer(ROI, 2, 0.6, "gaussian", 0.2, "replicate")
    volume = random_volume(1, 1, 5, 17, 9)
    whole = SlidingWindowNetwork.from_inferer(network, inferer)
    assert torch.equal(whole(volume), inferer(volume, network))
    expected = pair(lambda inputs: inferer(inputs, network), volume)
    torch.testing.assert_close(pair(whole, volume), expected, rtol=0, atol=1e-6)


def test_a_cheap_gradient_is_the_whole_one_on_average(network):
    settings = {"roi_size": ROI, "overlap": 0.25}
    volume = random_volume(1, 1, 12, 8, 4)
    exact = pair(SlidingWindowNetwork(network, **settings), volume)
    count = 300
    total = torch.zeros_like(volume)
    for seed in range(count):
        logits, gradient = pair(SlidingWindowNetwork(network, **settings, windows_per_gradient=1, seed=seed), volume)
        assert torch.equal(logits, exact[0])
        total += gradient
    assert (total / count - exact[1]).abs().max() < 0.2 * exact[1].abs().max()


def test_a_cheap_gradient_runs_fewer_windows_and_is_the_same_twice(network):
    whole = SlidingWindowNetwork(network, roi_size=ROI, overlap=0.5, windows_per_gradient=3)
    volume = random_volume(1, 1, 12, 16, 8)
    first = pair(whole, volume)[1]
    forward = len(network.calls) - 3
    assert forward > 3
    assert torch.equal(first, pair(whole, volume)[1])
    other = pair(SlidingWindowNetwork(network, roi_size=ROI, overlap=0.5, windows_per_gradient=3, seed=1), volume)[1]
    assert not torch.equal(first, other)


def test_it_can_be_built_from_json():
    config = {
        "_target_": "vafa_monai.inferers.SlidingWindowNetwork",
        "network": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1},
        "roi_size": [4, 4, 4],
        "overlap": [0.5, 0.25, 0.0],
    }
    whole = ConfigParser({"whole": config}).get_parsed_content("whole")
    assert whole(torch.zeros(1, 1, 6, 5, 4)).shape == (1, 2, 6, 5, 4)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"overlap": 1.0}, r"overlap must lie in \[0, 1\), got 1.0."),
        ({"windows_per_gradient": 0}, "windows_per_gradient must be at least 1 or None, got 0."),
        ({"mode": "linear"}, "linear"),
    ],
    ids=["overlap", "windows", "mode"],
)
def test_impossible_settings_are_refused(network, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        SlidingWindowNetwork(network, roi_size=ROI, **settings)


def test_an_inferer_that_hands_over_coordinates_is_refused(network):
    with pytest.raises(ValueError, match=r"inferer must not have with_coord, got with_coord=True\."):
        SlidingWindowNetwork.from_inferer(network, SlidingWindowInferer(ROI, with_coord=True))

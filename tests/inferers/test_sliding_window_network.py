"""The whole volume as one network against autograd through MONAI's sliding window."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer, SlidingWindowInfererAdapt, sliding_window_inference
from torch import Tensor, nn

from vafa_monai import attacks
from vafa_monai.attacks import FGSM, NFGSM, PGD, Attack, EraseOrgan, GoalAttack, RangeAdapter, TiledAttack
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


class Random(nn.Module):
    """Dropout, in train or eval mode."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = nn.Sequential(nn.Conv3d(1, 8, 1), nn.Dropout(0.5), nn.Conv3d(8, 3, 1))

    def forward(self, windows: Tensor) -> Tensor:
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
    weight = random_volume(*logits.shape).to(logits)
    return logits, torch.autograd.grad((logits.square() * weight).sum() + logits.sigmoid().sum(), inputs)[0]


def through_monai(network, **settings):
    """Let autograd go through MONAI's own function."""
    return lambda inputs: sliding_window_inference(inputs, predictor=network, **settings)


def assert_same(found: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-9)
    torch.testing.assert_close(found[1], expected[1], rtol=0, atol=1e-6)


def assert_agrees_with_monai(network: nn.Module, volume: Tensor, **settings) -> None:
    expected = pair(through_monai(network, **settings), volume)
    assert_same(pair(SlidingWindowNetwork(network, **settings), volume), expected)


# Value and gradient


@pytest.mark.parametrize("shape", [(11, 9, 6), (6, 17, 9), (5, 20, 3), (4, 5, 2)], ids=str)
@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.75, (0.1, 0.6, 0.3)], ids=str)
def test_value_and_gradient_are_those_of_autograd_through_monai(network, shape, mode, overlap):
    """Three windows a call: calls go from one volume of the batch to the next."""
    settings = {"roi_size": ROI, "sw_batch_size": 3, "overlap": overlap, "mode": mode}
    volume = random_volume(2, 1, *shape)
    assert_same(
        pair(SlidingWindowNetwork(network, **settings), volume), pair(through_monai(network, **settings), volume)
    )


@pytest.mark.parametrize("roi_size", [5, (6, -1, 4), (0, 8, 3)], ids=str)
@pytest.mark.parametrize("sigma_scale", [0.3, (0.1, 0.2, 0.4)], ids=str)
def test_windows_as_large_as_the_volume_and_gaussians_of_any_width(network, roi_size, sigma_scale):
    settings = {"roi_size": roi_size, "sw_batch_size": 2, "mode": "gaussian", "sigma_scale": sigma_scale}
    volume = random_volume(1, 1, 11, 9, 6)
    assert_same(
        pair(SlidingWindowNetwork(network, **settings), volume), pair(through_monai(network, **settings), volume)
    )


@pytest.mark.parametrize(
    ("padding_mode", "cval"), [("constant", 0.3), ("replicate", 0.0), ("reflect", 0.0), ("circular", 0.0)]
)
def test_a_volume_smaller_than_the_window_is_padded_as_asked(network, padding_mode, cval):
    settings = {"roi_size": ROI, "sw_batch_size": 1, "padding_mode": padding_mode, "cval": cval}
    volume = random_volume(1, 1, 5, 9, 3)
    assert_same(
        pair(SlidingWindowNetwork(network, **settings), volume), pair(through_monai(network, **settings), volume)
    )


def test_gradient_of_two_channels_goes_to_both():
    network = nn.Conv3d(2, 3, 3, padding=1).double()
    settings = {"roi_size": ROI, "sw_batch_size": 1, "overlap": 0.5}
    volume = random_volume(2, 2, 7, 9, 5)
    assert_same(
        pair(SlidingWindowNetwork(network, **settings), volume), pair(through_monai(network, **settings), volume)
    )


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_gradient_equals_finite_differences(network, mode):
    whole = SlidingWindowNetwork(network, roi_size=(2, 2, 2), overlap=0.5, mode=mode)
    assert torch.autograd.gradcheck(whole, random_volume(1, 1, 3, 2, 3).requires_grad_())


def test_volume_in_the_middle_of_a_graph_passes_its_gradient_on(network):
    settings = {"roi_size": ROI, "sw_batch_size": 1}
    volume = random_volume(1, 1, 11, 9, 6)
    whole, monai = SlidingWindowNetwork(network, **settings), through_monai(network, **settings)
    assert_same(pair(lambda inputs: whole(inputs.sin()), volume), pair(lambda inputs: monai(inputs.sin()), volume))


def test_without_a_gradient_to_the_volume_it_is_monai(network):
    volume = random_volume(1, 1, 11, 9, 6)
    expected = sliding_window_inference(volume, ROI, 1, network)
    assert torch.equal(SlidingWindowNetwork(network, roi_size=ROI)(volume), expected)
    with torch.no_grad():
        assert not SlidingWindowNetwork(network, roi_size=ROI)(volume.requires_grad_()).requires_grad


@pytest.mark.parametrize("gradient", [False, True], ids=["without gradient", "with gradient"])
def test_metadata_of_the_volume_is_that_of_the_logits(network, gradient):
    affine = torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0], dtype=torch.float64))
    volume = MetaTensor(random_volume(1, 1, 11, 9, 6), affine=affine).requires_grad_(gradient)
    logits = SlidingWindowNetwork(network, roi_size=ROI)(volume)
    assert isinstance(logits, MetaTensor)
    assert torch.equal(logits.affine, affine)
    assert logits.requires_grad
    if gradient:
        plain = volume.as_tensor().detach().requires_grad_()
        expected = torch.autograd.grad(sliding_window_inference(plain, ROI, 1, network).sum(), plain)
        found = torch.autograd.grad(logits.sum(), volume)
        torch.testing.assert_close(found[0].as_subclass(Tensor), expected[0], rtol=0, atol=1e-9)


def test_device_of_the_network_may_be_another_than_that_of_the_volume(network, device):
    volume = random_volume(1, 1, 11, 9, 6)
    expected = pair(through_monai(network, roi_size=ROI, sw_batch_size=2), volume)
    whole = SlidingWindowNetwork(network.to(device), roi_size=ROI, sw_batch_size=2, sw_device=device)
    assert_same(pair(whole, volume), expected)


# Memory and calls


class Weighed(nn.Module):
    """A network that weighs what autograd holds of it: now, and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Softplus(), nn.Conv3d(4, 3, 1)).double()
        self.held = self.most = 0

    def forward(self, windows: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: Held(self, tensor), lambda held: held.tensor):
            return self.layers(windows)


class Held:
    """A tensor that autograd keeps; it is weighed as long as it is kept."""

    def __init__(self, network: Weighed, tensor: Tensor) -> None:
        self.network, self.tensor = network, tensor
        network.held += tensor.numel()
        network.most = max(network.most, network.held)

    def __del__(self) -> None:
        self.network.held -= self.tensor.numel()


def most_held(build, *shape: int) -> int:
    """Return how many numbers the graph of the network holds at most in a forward and a backward pass."""
    network = Weighed()
    pair(build(network), random_volume(1, 1, *shape))
    assert network.held == 0
    return network.most


def test_graph_holds_one_batch_of_windows_however_large_the_volume_is():
    settings = {"roi_size": ROI, "sw_batch_size": 2, "overlap": 0.5}
    small, large = (12, 8, 4), (24, 24, 12)
    ours = [most_held(lambda network: SlidingWindowNetwork(network, **settings), *shape) for shape in (small, large)]
    monai = [most_held(lambda network: through_monai(network, **settings), *shape) for shape in (small, large)]
    assert ours[0] == ours[1] > 0
    assert monai[1] > 10 * monai[0] >= 10 * ours[0]


def test_forward_pass_keeps_the_volume_alone_and_each_pass_runs_each_window_once(network):
    whole = SlidingWindowNetwork(network, roi_size=ROI, sw_batch_size=2, overlap=0.5)
    volume, saved = random_volume(1, 1, 24, 24, 12).requires_grad_(), []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor.numel()) or tensor, lambda x: x):
        logits = whole(volume)
    assert sum(saved) == volume.numel()
    forward = sum(network.calls)
    torch.autograd.grad(logits.sum(), volume)
    assert max(network.calls) == 2
    assert sum(network.calls) == 2 * forward == 2 * 7 * 5 * 5


def test_weights_get_no_gradient(network):
    volume = random_volume(1, 1, 8, 8, 8).requires_grad_()
    SlidingWindowNetwork(network, roi_size=ROI)(volume).sum().backward()
    assert volume.grad is not None
    assert all(parameter.grad is None for parameter in network.parameters())


def test_weights_and_mode_are_those_of_the_network(network):
    assert not SlidingWindowNetwork(network, roi_size=ROI).training
    whole = SlidingWindowNetwork(network.train(), roi_size=ROI)
    assert whole.training
    assert [id(part) for part in whole.parameters()] == [id(part) for part in network.parameters()]


# The same in both passes


@pytest.mark.parametrize("sw_batch_size", [1, 3])
def test_random_numbers_are_the_same_in_both_passes(sw_batch_size):
    network, volume = Random().double().train(), random_volume(2, 1, 8, 9, 4)
    settings = {"roi_size": ROI, "sw_batch_size": sw_batch_size, "overlap": 0.5}
    torch.manual_seed(3)
    inputs = volume.clone().requires_grad_()
    logits = SlidingWindowNetwork(network, **settings)(inputs)
    torch.rand(5)  # what a loss draws, say
    after = torch.get_rng_state()
    (gradient,) = torch.autograd.grad(logits.square().sum(), inputs)
    assert torch.equal(torch.get_rng_state(), after)
    torch.manual_seed(3)
    inputs = volume.clone().requires_grad_()
    expected = through_monai(network, **settings)(inputs)
    assert_same((logits, gradient), (expected, torch.autograd.grad(expected.square().sum(), inputs)[0]))


def test_autocast_is_the_same_in_both_passes(device):
    seen = []
    network = nn.Conv3d(1, 3, 3, padding=1).to(device)
    network.register_forward_hook(lambda module, windows, logits: seen.append(logits.dtype))
    whole = SlidingWindowNetwork(network, roi_size=(4, 4, 4))
    volume = random_volume(1, 1, 4, 4, 4, dtype=torch.float32).to(device).requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        logits = whole(volume)
    torch.autograd.grad(logits.sum(), volume)
    with torch.autocast(device.type, enabled=False):
        logits = whole(volume)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        torch.autograd.grad(logits.sum(), volume)
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]


def test_gradient_under_autocast_is_that_of_autograd_through_monai(device):
    network = Counted().eval().to(device)
    settings = {"roi_size": ROI, "sw_batch_size": 2, "overlap": 0.5}
    volume = random_volume(1, 1, 11, 9, 6, dtype=torch.float32).to(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        found = pair(SlidingWindowNetwork(network, **settings), volume)
        expected = pair(through_monai(network, **settings), volume)
    assert found[0].dtype == found[1].dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0.01 * expected[1].abs().max().item())  # bfloat16


def test_half_precision_does_not_lose_the_gradient_of_a_mean():
    """One voxel of a large volume has a gradient below the smallest number of half precision."""
    network = nn.Module()
    network.forward = lambda windows: windows.half() * 3
    volume = random_volume(1, 1, 8, 8, 8, dtype=torch.float32).requires_grad_()
    loss = SlidingWindowNetwork(network, roi_size=(4, 4, 4))(volume).mean() * 1e-6
    (gradient,) = torch.autograd.grad(loss, volume)
    torch.testing.assert_close(gradient, torch.full_like(gradient, 3e-6 / 512), rtol=1e-3, atol=0)
    loss = SlidingWindowNetwork(network, roi_size=(4, 4, 4))(volume).mean() * 0
    assert torch.autograd.grad(loss, volume)[0].count_nonzero() == 0


# Attacks

SHORT = {"steps": 2, "queries": 4, "block_size": (4, 4, 4)}
PUBLIC = [kind for name in attacks.__all__ if inspect.isclass(kind := getattr(attacks, name))]
KINDS = [kind for kind in PUBLIC if issubclass(kind, Attack) and not inspect.isabstract(kind)]
KINDS.remove(TiledAttack)  # it does not ask the whole
AROUND = {  # attacks that run another one
    GoalAttack: {"attack": PGD(steps=2, targeted=True), "goal": EraseOrgan(organ=1)},
    RangeAdapter: {"attack": PGD(steps=2)},
}


def short(kind: type[Attack]) -> Attack:
    """Build an attack with few steps, for a small volume."""
    settings = AROUND.get(kind, {} if kind in (FGSM, NFGSM) else SHORT)
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in settings.items() if name in names})


every_attack = pytest.mark.parametrize(
    "attack",
    [short(kind) for kind in KINDS],
    ids=[kind.__name__ for kind in KINDS],
)


@every_attack
@pytest.mark.parametrize("mode", ["eval", "train"])
def test_every_attack_works_unchanged_and_finds_what_it_finds_through_monai(attack, mode):
    volume, network = random_volume(2, 1, 9, 9, 6), Random().double().train(mode == "train")
    label = (volume > 0.5).long()
    settings = {"roi_size": ROI, "overlap": 0.5, "sw_batch_size": 2}
    whole = SlidingWindowNetwork(network, **settings)
    adv = attack(volume, label, whole)
    expected = attack(volume, label, through_monai(network, **settings))
    torch.testing.assert_close(adv, expected, rtol=0, atol=1e-9)
    torch.rand(3)
    assert torch.equal(adv, attack(volume, label, whole))


def test_attack_on_the_whole_leaves_the_network_as_it_was(normalized_network, volume, label):
    network = normalized_network.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    PGD(steps=2)(volume, label, SlidingWindowNetwork(network, roi_size=ROI))
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert all(part.grad is None and part.requires_grad for part in network.parameters())


def test_attack_on_the_whole_does_more_harm_than_one_on_tiles(normalized_network, volume, label):
    """Harm is measured where the model is deployed: after the blend."""
    loss = nn.CrossEntropyLoss()
    attack = PGD(eps=0.1, steps=5, loss_function=lambda logits, targets: loss(logits, targets[:, 0].long()))
    whole = SlidingWindowNetwork(normalized_network, roi_size=ROI, overlap=0.5, mode="gaussian")
    exact = attack(volume, label, whole)
    tiled = TiledAttack(attack=attack, roi_size=ROI)(volume, label, normalized_network)
    harm = [loss(whole(adv), label[:, 0]).item() for adv in (volume, tiled, exact)]
    assert harm[0] < harm[1] < harm[2]


# A few windows


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
    settings = {"roi_size": ROI, "overlap": 0.5, "windows_per_gradient": 3}
    whole, volume = SlidingWindowNetwork(network, **settings), random_volume(1, 1, 12, 16, 8)
    first = pair(whole, volume)[1]
    assert sum(network.calls) == 3 * 3 * 3 + 3
    torch.rand(3)
    assert torch.equal(first, pair(whole, volume)[1])
    assert not torch.equal(first, pair(SlidingWindowNetwork(network, **settings, seed=1), volume)[1])


def test_other_intensities_draw_other_windows(network):
    """The steps of an attack see the volume from all sides; one voxel that moves is enough."""
    whole = SlidingWindowNetwork(network, roi_size=ROI, overlap=0.5, windows_per_gradient=2)
    volume = random_volume(1, 1, 12, 16, 8)
    drawn = set()
    for step in range(20):
        volume[0, 0, 0, 0, 0] = step / 255
        drawn.add(tuple((pair(whole, volume)[1] != 0).flatten().tolist()))
    assert len(drawn) > 10


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_windows_of_any_precision_are_drawn(network, dtype):
    whole = SlidingWindowNetwork(network.to(dtype), roi_size=ROI, windows_per_gradient=1)
    gradient = pair(whole, random_volume(1, 1, 12, 16, 8, dtype=dtype))[1]
    assert gradient.count_nonzero() == 6 * 8 * 4


def test_a_cheap_attack_on_a_batch_is_that_on_its_samples_and_raises_the_loss(network):
    loss = nn.CrossEntropyLoss()
    attack = PGD(eps=0.1, steps=8, loss_function=lambda logits, targets: loss(logits, targets[:, 0]))
    volume = random_volume(2, 1, 12, 16, 8)
    label = (volume > 0.5).long()
    whole = SlidingWindowNetwork(network, roi_size=ROI, sw_batch_size=2, overlap=0.5, windows_per_gradient=6)
    adv = attack(volume, label, whole)
    assert torch.equal(adv, attack(volume, label, whole))
    single = [attack(volume[i : i + 1], label[i : i + 1], whole) for i in range(2)]
    torch.testing.assert_close(adv, torch.cat(single), rtol=0, atol=1e-9)
    harm = {name: loss(whole(one), label[:, 0]).item() for name, one in {"clean": volume, "cheap": adv}.items()}
    exact = attack(volume, label, SlidingWindowNetwork(network, roi_size=ROI, overlap=0.5))
    assert loss(whole(exact), label[:, 0]).item() > harm["cheap"] > harm["clean"] + 0.02


@pytest.mark.parametrize(("mode", "found"), [("train", "train mode"), ("eval", "random numbers")])
def test_a_cheap_gradient_of_a_network_that_sees_more_than_its_window_is_refused(mode, found):
    network = Random().double().train(mode == "train")
    if mode == "eval":
        network.register_forward_hook(lambda module, windows, logits: logits + torch.rand_like(logits))
    whole = SlidingWindowNetwork(network, roi_size=ROI, windows_per_gradient=1)
    with pytest.raises(RuntimeError, match=f"network must be in eval mode and not random .*, got {found}"):
        whole(random_volume(1, 1, 12, 8, 4).requires_grad_())


# How it is set up


@pytest.mark.parametrize("kind", [SlidingWindowInferer, SlidingWindowInfererAdapt])
def test_the_network_of_an_inferer_does_what_the_inferer_does(network, kind):
    inferer = kind(ROI, 2, (0.6, 0.3, 0.1), "gaussian", 0.2, "replicate", cval=0.0, buffer_steps=1, device="cpu")
    volume = random_volume(1, 1, 5, 17, 9)
    whole = SlidingWindowNetwork.from_inferer(network, inferer, windows_per_gradient=100, seed=4)
    assert_same(pair(whole, volume), pair(lambda inputs: kind(ROI, 2, (0.6, 0.3, 0.1), "gaussian", 0.2, "replicate")(
        inputs, network
    ), volume))  # fmt: skip
    torch.testing.assert_close(whole(volume), inferer(volume, network), rtol=0, atol=1e-9)
    assert (whole.windows_per_gradient, whole.seed) == (100, 4)


def test_weights_that_an_inferer_has_cached_are_those_of_its_mode(network):
    inferer = SlidingWindowInferer(ROI, overlap=0.5, mode="gaussian", cache_roi_weight_map=True)
    volume = random_volume(1, 1, 11, 9, 6)
    whole = SlidingWindowNetwork.from_inferer(network, inferer)
    assert_same(pair(whole, volume), pair(lambda inputs: inferer(inputs, network), volume))


def test_arguments_and_defaults_are_those_of_the_inferer():
    ours = inspect.signature(SlidingWindowNetwork.__init__).parameters
    monai = inspect.signature(SlidingWindowInferer.__init__).parameters
    shared = [name for name in ours if name in monai]
    assert shared == list(monai)[: len(shared)]
    assert {name: ours[name].default for name in shared} == {name: monai[name].default for name in shared}
    assert set(ours) - set(shared) == {"network", "windows_per_gradient", "seed"}


def changed(inferer: SlidingWindowInferer, **attributes) -> SlidingWindowInferer:
    vars(inferer).update(attributes)
    return inferer


@pytest.mark.parametrize(
    ("inferer", "error", "sentence"),
    [
        (SliceInferer(roi_size=ROI[:2]), TypeError, "inferer must be a SlidingWindowInferer itself, got SliceInferer."),
        (
            SlidingWindowInferer(ROI, with_coord=True),
            ValueError,
            "inferer must not have with_coord, got with_coord=True",
        ),
        (
            changed(SlidingWindowInferer(ROI), roi_weight_map=torch.full(ROI, 2.0)),
            ValueError,
            r"inferer must have the weights of its mode, got a roi_weight_map of its own \(6, 8, 4\)",
        ),
    ],
    ids=["subclass", "coordinates", "weights"],
)
def test_an_inferer_that_does_more_is_refused(network, inferer, error, sentence):
    assert not SlidingWindowNetwork.can_stand_for(inferer)
    with pytest.raises(error, match=sentence):
        SlidingWindowNetwork.from_inferer(network, inferer)


def test_it_stands_for_the_stock_inferers_alone():
    assert SlidingWindowNetwork.can_stand_for(SlidingWindowInferer(ROI))
    assert SlidingWindowNetwork.can_stand_for(SlidingWindowInfererAdapt(ROI))
    assert not SlidingWindowNetwork.can_stand_for(None)


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
        ({"overlap": (0.5, -0.1, 0.0)}, r"overlap must lie in \[0, 1\), got \(0.5, -0.1, 0.0\)."),
        ({"sw_batch_size": 0}, "sw_batch_size must be at least 1, got 0."),
        ({"windows_per_gradient": 0}, "windows_per_gradient must be at least 1 or None, got 0."),
        ({"mode": "linear"}, "linear"),
        ({"padding_mode": "symmetric"}, "symmetric"),
    ],
    ids=["overlap", "overlaps", "batch", "windows", "mode", "padding"],
)
def test_impossible_settings_are_refused(network, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        SlidingWindowNetwork(network, roi_size=ROI, **settings)


@pytest.mark.parametrize("gradient", [False, True], ids=["without gradient", "with gradient"])
def test_logits_that_cannot_be_blended_are_refused(gradient):
    volume = random_volume(1, 1, 11, 9, 6).requires_grad_(gradient)
    strided = nn.Conv3d(1, 2, 2, stride=2).double()
    sizes = r"\(3, 4, 2\) for windows of \(6, 8, 4\)"
    with pytest.raises(ValueError, match=f"network must return logits of the size of their window, got {sizes}"):
        SlidingWindowNetwork(strided, roi_size=ROI)(volume)
    supervised = nn.Module()
    supervised.forward = lambda windows: [windows, windows]
    with pytest.raises(TypeError, match="network must return one tensor of logits, got list"):
        SlidingWindowNetwork(supervised, roi_size=ROI)(volume)

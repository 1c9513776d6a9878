"""Odd and hostile networks against every kind of attack: inside budget and intensities, or one clear sentence."""

from __future__ import annotations

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vafa_monai.attacks import (
    APGD,
    FGSM,
    PGD,
    VAFA,
    AttackEnsemble,
    CosPGD,
    EraseOrgan,
    FrequencyPGD,
    GaussianNoise,
    GoalAttack,
    GradientAttack,
    Identity,
    RandomQuantization,
    RangeAdapter,
    SegPGD,
    SquareAttack,
    TiledAttack,
    TransferPGD,
    UniformQuantization,
)
from vafa_monai.attacks.ascent import GuardedNetwork
from vafa_monai.inferers import SlidingWindowNetwork

SHAPE = (1, 1, 6, 5, 4)
BLOCK = (6, 3, 4)
EPS, Q_MAX = 0.1, 30.0

PLAIN = {
    "fgsm": FGSM(eps=EPS),
    "pgd_l2": PGD(eps=EPS, steps=2, norm="l2", random_start=True),
    "apgd": APGD(eps=EPS, steps=2, restarts=2, schedule=((2, 0.5), (1, 0.5))),
    "seg_pgd": SegPGD(eps=EPS, steps=2),
    "cos_pgd": CosPGD(eps=EPS, steps=2, iterate="best"),
    "transfer_pgd": TransferPGD(eps=EPS, steps=2, diversity=1, least_share=0.7),
    "frequency_pgd": FrequencyPGD(block_size=BLOCK, q_max=Q_MAX, steps=2, band=(0.0, 0.5)),
    "vafa_audit": VAFA.preset("audit", block_size=BLOCK, q_max=Q_MAX, steps=2),
    "vafa_authors": VAFA.preset("authors", block_size=BLOCK, q_max=Q_MAX, steps=2),
    "square": SquareAttack(eps=EPS, queries=3),
    "ensemble": AttackEnsemble(eps=EPS, q_max=Q_MAX, block_size=BLOCK, steps=1, queries=2),
}
CONTROLS = {
    "identity": Identity(),
    "stretch": Identity(output_norm="slice_minmax"),
    "noise": GaussianNoise(std=0.05),
    "uniform_quantization": UniformQuantization(block_size=BLOCK, q=Q_MAX),
    "random_quantization": RandomQuantization(block_size=BLOCK, q_max=Q_MAX),
}
AROUND = {
    "adapter": RangeAdapter(attack=PGD(eps=EPS, steps=2)),
    "tiles": TiledAttack(attack=PGD(eps=EPS, steps=2), roi_size=(6, 5, 3)),
    "goal": GoalAttack(attack=APGD(eps=EPS, steps=2, targeted=True), goal=EraseOrgan(organ=1)),
    "adapted_tiles": RangeAdapter(attack=TiledAttack(attack=SquareAttack(eps=EPS, queries=3), roi_size=(6, 5, 3))),
}
ASKING = {**PLAIN, **AROUND}
CLIMBING = {name: a for name, a in ASKING.items() if isinstance(a, GradientAttack)} | {"goal": AROUND["goal"]}


@pytest.fixture
def odd_volume() -> Tensor:
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def odd_label(odd_volume) -> Tensor:
    return (odd_volume > 0.4).long() + (odd_volume > 0.7).long()


def layers(*, first: nn.Module | None = None, last: nn.Module | None = None, channels: int = 3) -> nn.Sequential:
    """A convolution, softplus and another one, between what is given; in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [first, nn.Conv3d(1, 4, 3, padding=1), nn.Softplus(), nn.Conv3d(4, channels, 1), last]
    return nn.Sequential(*[part for part in parts if part is not None]).eval()


class Calling(nn.Module):
    """A network around a function of itself, its layers and the volume."""

    def __init__(self, function, **settings):
        super().__init__()
        self.function, self.layers = function, layers(**settings)

    def forward(self, inputs):
        return self.function(self, inputs)


def standardize_in_place(self, inputs):
    return self.layers(inputs.sub_(0.5).div_(0.25))


def spoil_afterwards(self, inputs):
    logits = self.layers(inputs)
    inputs.detach().mul_(1e6)
    return logits


def remember(self, inputs):
    self.last, self.all = inputs, [*getattr(self, "all", []), inputs.detach()]
    for seen in self.all:
        seen.fill_(7.0)
    return self.layers(inputs + 0.1)


def count_in_a_buffer(self, inputs):
    if not hasattr(self, "calls"):
        self.register_buffer("calls", torch.zeros(()))
    self.calls += 1
    return self.layers(inputs) * (1 + 0.1 * self.calls)


def draw(self, inputs):
    noise = torch.rand(()).item() + random.random() + np.random.rand()  # noqa: NPY002
    return self.layers(inputs) * (1 + noise)


def batch_norm_in_train_mode():
    network = layers(first=nn.BatchNorm3d(1))
    network[0].train()
    return network


def channels_last():
    return Calling(lambda self, x: self.layers(x.to(memory_format=torch.channels_last_3d))).to(
        memory_format=torch.channels_last_3d
    )


def exported():
    dynamic = (dict.fromkeys((2, 3, 4), torch.export.Dim.AUTO),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(layers(), (torch.rand(SHAPE),), dynamic_shapes=dynamic).module()


def counted_from_one(volume):
    """A callable that is no module."""
    return torch.cat([0.5 - volume, volume - 0.5, volume.square()], 1)


GOOD = {
    "in-place standardization": lambda: Calling(standardize_in_place),
    "in-place ReLU first": lambda: layers(first=nn.ReLU(inplace=True)),
    "in-place clamp": lambda: Calling(lambda self, x: self.layers(x.clamp_(0.2, 0.8))),
    "keeps and spoils what it saw": lambda: Calling(remember),
    "wrapper named module": lambda: torch.optim.swa_utils.AveragedModel(layers()),
    "dropout in train mode": lambda: layers(last=nn.Dropout(0.3)).train(),
    "batch norm in train mode": batch_norm_in_train_mode,
    "two channels": lambda: layers(channels=4),
    "bfloat16 inside": lambda: Calling(lambda self, x: self.layers.bfloat16()(x.bfloat16())),
    "double inside": lambda: Calling(lambda self, x: self.layers.double()(x.double())),
    "frozen TorchScript": lambda: torch.jit.freeze(torch.jit.trace(layers(), torch.rand(SHAPE))),
    "scripted": lambda: torch.jit.script(layers()),
    "exported": exported,
    "channels last": channels_last,
    "clamped": lambda: Calling(lambda self, x: self.layers(x).clamp(-1, 1)),
    "constant": lambda: Calling(lambda self, x: self.layers(x * 0)),
    "view of its input": lambda: Calling(lambda self, x: x.expand(-1, 3, -1, -1, -1)),
    "input itself thrice": lambda: Calling(lambda self, x: torch.cat([x, 1 - x, x * x], 1)),
    "no module": lambda: counted_from_one,
    "draws from global generators": lambda: Calling(draw),
    "counts in a buffer": lambda: Calling(count_in_a_buffer),
    "class that is ruled out": lambda: Calling(lambda self, x: F.pad(self.layers(x), [0] * 7 + [1], value=-1e30)),
}
SIZE = r"network must return logits of the batch and spatial size of its inputs, got \(\d, 3"
NONE = "network must give a gradient to its inputs, got logits without one"
BROKEN = "network and loss must be differentiable, got: one of the variables needed"
NO_LOGITS = {
    "tuple": (lambda self, x: (self.layers(x), x), "network must return one tensor of logits, got tuple"),
    "list": (lambda self, x: [self.layers(x)], "network must return one tensor of logits, got list"),
    "dictionary": (lambda self, x: {"out": self.layers(x)}, "network must return one tensor of logits, got dict"),
    "nothing": (lambda self, x: None, "network must return one tensor of logits, got NoneType"),
    "integers": (lambda self, x: self.layers(x).argmax(1, keepdim=True), "floating-point numbers, got torch.int64"),
    "complex": (lambda self, x: self.layers(x) * 1j, "floating-point numbers, got torch.complex64"),
    "wrong size": (lambda self, x: self.layers(x)[..., 1:], SIZE),
    "wrong batch": (lambda self, x: self.layers(x).repeat(2, 1, 1, 1, 1), SIZE),
    "no volume": (lambda self, x: self.layers(x).mean((2, 3, 4)), SIZE),
    "NaN": (lambda self, x: self.layers(x) * float("nan"), r"must .*finite.*, got"),
    "infinity": (lambda self, x: self.layers(x) + float("inf"), r"must .*finite.*, got"),
    "half": (lambda self, x: self.layers.half()(x), "network must take volumes of torch.float32 and shape"),
    "raises": (lambda self, x: self.layers(x[:, :0]), "network must take volumes of torch.float32 and shape"),
    "one channel": (lambda self, x: self.layers(x)[:, :1], r"one channel for each class.*, got 1|softmax of 1 channel"),
}
NO_GRADIENT = {
    "no_grad": (torch.no_grad()(lambda self, x: self.layers(x)), NONE),
    "inference_mode": (torch.inference_mode()(lambda self, x: self.layers(x)), NONE),
    "detached": (lambda self, x: self.layers(x.detach()), NONE),
    "from NumPy": (lambda self, x: torch.from_numpy(self.layers(x).detach().numpy()), NONE),
    "broken in place": (lambda self, x: self.layers(x).exp().mul_(2).exp().sub_(1), BROKEN),
    "written into afterwards": (spoil_afterwards, BROKEN),
    "gradient of NaN": (lambda self, x: self.layers(x) + 0 * (x * 0).sqrt(), "network must have finite gradients, got"),
}


def used_budget(attack, clean: Tensor, adv: Tensor) -> float:
    """Measure by hand how much of the budget of a voxel attack was used; 0 of others."""
    inner = getattr(attack, "attack", attack)
    inner = getattr(inner, "attack", inner)
    eps, change = getattr(inner, "eps", None), (adv - clean).double().flatten(1)
    if eps is None or isinstance(attack, AttackEnsemble):
        return 0.0
    width = clean.amax() - clean.amin() if isinstance(attack, RangeAdapter) else 1.0
    size = change.square().mean(1).sqrt() if getattr(inner, "norm", "linf") == "l2" else change.abs().amax(1)
    return float((size / width).max()) / eps


def require_promises(name, attack, network, volume, label, again=True):
    """Attack, and find budget, intensities, arguments and a second call as promised."""
    inputs, targets = volume.clone(), label.clone()
    adv = attack(inputs, targets, network)
    assert torch.equal(inputs, volume), name
    assert torch.equal(targets, label), name
    assert adv.isfinite().all(), name
    assert 0 <= adv.min() <= adv.max() <= 1, name
    assert used_budget(attack, volume, adv) <= 1 + 1e-5, name
    if again:
        assert torch.equal(attack(inputs, targets, network), adv), name


@pytest.mark.parametrize("build", GOOD.values(), ids=GOOD)
def test_odd_network_is_attacked_as_promised(build, odd_volume, odd_label):
    network = build()
    for name, attack in ASKING.items():
        require_promises(name, attack, network, odd_volume, odd_label)


@pytest.mark.parametrize(("function", "match"), NO_LOGITS.values(), ids=NO_LOGITS)
def test_network_without_logits_is_refused_in_a_sentence(function, match, odd_volume, odd_label):
    network, clean = Calling(function), odd_volume.clone()
    for attack in ASKING.values():
        with pytest.raises((TypeError, ValueError, RuntimeError), match=match):
            attack(odd_volume, odd_label.clamp_max(1), network)
    assert torch.equal(odd_volume, clean)


@pytest.mark.parametrize(("function", "match"), NO_GRADIENT.values(), ids=NO_GRADIENT)
def test_network_without_gradient_is_refused_in_a_sentence_by_what_climbs(function, match, odd_volume, odd_label):
    network = Calling(function)
    for attack in CLIMBING.values():
        with pytest.raises(RuntimeError, match=match):
            attack(odd_volume, odd_label, network)
    require_promises("square", ASKING["square"], network, odd_volume, odd_label)


@pytest.mark.parametrize("name", CONTROLS)
def test_control_does_not_mind_any_network(name, odd_volume, odd_label):
    for function in (NO_LOGITS | NO_GRADIENT).values():
        require_promises(name, CONTROLS[name], Calling(function[0]), odd_volume, odd_label, again=False)


def test_network_that_changes_its_weights_is_refused(odd_volume, odd_label):
    def drift(self, inputs):
        with torch.no_grad():
            self.layers[0].bias.add_(0.01)
        return self.layers(inputs)

    for attack in (FGSM(eps=EPS), ASKING["ensemble"], ASKING["tiles"]):
        with pytest.raises(RuntimeError, match=r"network must leave its weights as they are, got .* 'layers\.0\.bias'"):
            attack(odd_volume, odd_label, Calling(drift))


def test_buffers_and_generators_are_put_back_in_eval_mode_too(odd_volume, odd_label):
    network = Calling(draw)
    network.register_buffer("calls", torch.zeros(3).expand(2, 3))
    network.function = lambda self, x: (setattr(self, "calls", self.calls + 1), draw(self, x))[1]
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    expected = random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    FGSM(eps=EPS)(odd_volume, odd_label, network)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == expected  # noqa: NPY002


@pytest.mark.parametrize("sw_batch_size", [1, 4])
def test_window_is_a_copy_that_a_network_may_write_into(sw_batch_size, odd_volume, odd_label):
    """The blend of a network that standardizes in place is that of one that does not."""
    spoiling = Calling(standardize_in_place)
    polite = Calling(lambda self, x: self.layers((x - 0.5) / 0.25))
    blends = [SlidingWindowNetwork(one, (4, 4, 4), sw_batch_size, overlap=0.5) for one in (spoiling, polite)]
    before = odd_volume.clone()
    assert torch.equal(blends[0](odd_volume), blends[1](odd_volume))
    for attack in (PLAIN["apgd"], PLAIN["frequency_pgd"], PLAIN["square"]):
        found, expected = (attack(odd_volume, odd_label, blend) for blend in blends)
        assert torch.equal(found, expected)
    assert torch.equal(odd_volume, before)


def test_memory_that_runs_out_is_said_as_it_is():
    def full(volume):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(RuntimeError, match=r"^DefaultCPUAllocator"):
        GuardedNetwork(full)(torch.zeros(1, 1, 2, 2, 2))

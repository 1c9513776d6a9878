"""Networks that return more than logits: the adapter takes them, and everything else says what was returned."""

from __future__ import annotations

import json
import warnings
from typing import NamedTuple

import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from vafa_monai.attacks import PGD
from vafa_monai.inferers import InferredNetwork, OutputAdapter, PassCounter, TwoPassInferer, evaluating, whole_network


class Pair(NamedTuple):
    """What a network may return."""

    logits: Tensor
    features: Tensor


class Around(nn.Module):
    """A network that returns something made of the logits of its layer."""

    def __init__(self, give):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layer = nn.Conv3d(1, 3, 3, padding=1)
        self.give = give

    def forward(self, inputs):
        return self.give(self.layer(inputs))


def coarse(logits):
    return logits[..., ::2, ::2, ::2]


OUTPUTS = {
    "tensor": (lambda x: x, None),
    "tuple": (lambda x: (x, x.mean((2, 3, 4))), None),
    "first": (lambda x: (x, 2 * x), 0),
    "last": (lambda x: [coarse(x), x], -1),
    "dictionary": (lambda x: {"out": x, "other": 2 * x}, "out"),
    "nested": (lambda x: {"heads": [2 * x, (x, None)]}, ["heads", 1, 0]),
    "attribute": (lambda x: Pair(x, 2 * x), "logits"),
    "deep supervision": (lambda x: [x, coarse(x), coarse(coarse(x))], None),
    "deep supervision, coarsest first": (lambda x: [coarse(coarse(x)), coarse(x), x], None),
    "stacked heads": (lambda x: torch.stack([x, 2 * x], 1), 0),
}
every_output = pytest.mark.parametrize(("give", "entry"), OUTPUTS.values(), ids=OUTPUTS)


@every_output
@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((8, 8, 4), overlap=0.5)], ids=["whole", "windows"])
def test_attack_and_logits_are_those_of_the_plain_network(give, entry, inferer, volume, label):
    network, plain = Around(give).eval(), Around(lambda x: x).eval()
    whole, expected = (whole_network(one, inferer) for one in (OutputAdapter(network, entry), plain))
    assert torch.equal(whole(volume), expected(volume))
    assert torch.equal(PGD(steps=2)(volume, label, whole), PGD(steps=2)(volume, label, expected))


@every_output
def test_passes_of_any_output_are_counted(give, entry, volume):
    network = Around(give)
    volume = volume.requires_grad_()
    with PassCounter(network) as passes:
        torch.autograd.grad(OutputAdapter(network, entry)(volume).sum(), volume)
    assert (passes.forward, passes.backward) == (len(volume), len(volume))
    with PassCounter(network) as passes, torch.no_grad():
        network(volume)
    assert (passes.forward, passes.backward) == (len(volume), 0)


def test_weights_have_their_own_names_and_checkpoints_fit(volume):
    network = OutputAdapter(Around(lambda x: (x, x)), entry=0)
    other = Around(lambda x: x)
    nn.init.zeros_(other.layer.weight)
    assert list(network.state_dict()) == list(other.state_dict())
    network.load_state_dict(other.state_dict())
    assert torch.equal(network(volume), other(volume))


def test_it_is_built_from_json(volume):
    network = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 2, "kernel_size": 1}
    config = {"_target_": "vafa_monai.inferers.OutputAdapter", "network": network, "entry": None}
    built = ConfigParser(json.loads(json.dumps({"network": config}))).get_parsed_content("network")
    assert built(volume).shape == (2, 2, *volume.shape[2:])


REFUSED = {
    "two that fit": (
        lambda x: (x, 2 * x),
        None,
        ValueError,
        r"one tensor of batch .*, got 2 of them in tuple of tensor",
    ),
    "none that fits": (coarse, None, ValueError, r"got 0 of them in tensor \(2, 3, 6, 5, 3\)\."),
    "no such number": (lambda x: [x], 1, TypeError, r"a tensor at entry \[1\], got list of tensor"),
    "no such key": (lambda x: {"out": x}, "logits", TypeError, r"at entry \['logits'\], got dict of 'out': tensor"),
    "no tensor": (lambda x: (None, x), 0, TypeError, r"at entry \[0\], got tuple of NoneType, tensor"),
    "key of a tensor": (lambda x: x, "nothing", TypeError, r"at entry \['nothing'\], got tensor \(2, 3,"),
}


@pytest.mark.parametrize(("give", "entry", "kind", "match"), REFUSED.values(), ids=REFUSED)
def test_output_without_logits_is_refused_by_what_it_is(give, entry, kind, match, volume):
    with pytest.raises(kind, match=match):
        OutputAdapter(Around(give), entry)(volume)


RETURNED = {
    "tuple": (lambda x: (x, x.mean((2, 3, 4))), r"got tuple of tensor \(.*\), tensor \(\d, 3\); .*OutputAdapter"),
    "dictionary": (lambda x: {"out": x}, r"got dict of 'out': tensor \(.*\); .*OutputAdapter"),
    "many": (lambda x: [x] * 9, r"got list of tensor .*, 5 more; .*OutputAdapter"),
    "nothing": (lambda x: None, r"got NoneType\."),
    "classes": (lambda x: x.argmax(1, keepdim=True), r"logits of floating-point numbers, got torch\.int64\."),
}


@pytest.mark.parametrize(("give", "match"), RETURNED.values(), ids=RETURNED)
@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((8, 8, 4))], ids=["whole", "windows"])
def test_network_that_cannot_be_attacked_is_refused_by_what_it_returned(give, match, inferer, volume, label):
    with pytest.raises(TypeError, match=match):
        PGD(steps=1)(volume, label, whole_network(Around(give).eval(), inferer))


# Networks whose mode is fixed


def scripted():
    return torch.jit.script(nn.Sequential(nn.Conv3d(1, 3, 3, padding=1)).eval())


def frozen():
    return torch.jit.freeze(scripted())


def exported():
    shapes = (dict.fromkeys((0, 2, 3, 4), torch.export.Dim.AUTO),)
    network = nn.Sequential(nn.Conv3d(1, 3, 3, padding=1)).eval()
    return torch.export.export(network, (torch.rand(2, 1, 11, 9, 6),), dynamic_shapes=shapes).module()


@pytest.mark.parametrize("build", [scripted, frozen, exported])
@pytest.mark.parametrize("adapt", [lambda x: x, OutputAdapter, InferredNetwork], ids=["itself", "adapter", "inferred"])
def test_network_without_a_mode_is_counted_and_attacked(build, adapt, volume, label):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = build()
    whole = adapt(network)
    with evaluating(whole), PassCounter(network) as passes:
        adv = PGD(steps=2)(volume, label, whole)
    assert not torch.equal(adv, volume)
    assert (passes.forward, passes.backward) == (2 * len(volume), 2 * len(volume))
    assert TwoPassInferer()(volume, network).shape == (2, 3, *volume.shape[2:])


def test_an_engine_may_choose_a_mode_of_an_exported_program_in_an_adapter():
    network = OutputAdapter(exported())
    assert not network.eval().training
    assert network.train().training

"""Convolutions of one volume on a CPU, and memory that is kept."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vafa_monai.attacks import PGD
from vafa_monai.attacks.cpu import FastConvolutions, fast_convolutions

SHAPE = (1, 3, 5, 6, 4)
DRAWN = "_ConvolutionBackward"


def made(**settings):
    """Return inputs and a convolution in float32, whose results in float64 are known to more digits."""
    generator = torch.Generator().manual_seed(0)
    layer = nn.Conv3d(3, 2, **settings)
    for weight in layer.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return torch.randn(SHAPE, generator=generator), layer


def results(inputs, layer):
    """Return output and gradients of a convolution, and the kind of its node."""
    leaf = inputs.clone().requires_grad_()
    output = layer(leaf)
    gradients = torch.autograd.grad(output.square().sum(), [leaf, *layer.parameters()])
    return [output.detach(), *gradients], type(output.grad_fn).__name__


FAST = {
    "plain": {"kernel_size": 3},
    "same size": {"kernel_size": 3, "padding": 1},
    "no bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "uneven": {"kernel_size": (1, 3, 2), "padding": (0, 1, 1)},
    "dilated": {"kernel_size": 3, "padding": 2, "dilation": 2},
    "dilated unevenly": {"kernel_size": (2, 2, 3), "padding": (0, 1, 0), "dilation": (3, 1, 1)},
    "one voxel": {"kernel_size": 1},
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("settings", FAST.values(), ids=FAST)
def test_convolution_of_one_volume_and_its_gradients_are_those_of_torch(settings, layout):
    inputs, layer = made(**settings)
    with FastConvolutions():
        found, node = results(inputs.to(memory_format=layout), layer.to(memory_format=layout))
    exact, plain_node = results(inputs.double(), layer.double())
    assert node == DRAWN
    assert plain_node != DRAWN
    for one, wanted in zip(found, exact, strict=True):
        torch.testing.assert_close(one.double(), wanted, rtol=1e-4, atol=1e-4)


LEFT = {
    "two volumes": (torch.rand(2, 3, 5, 6, 4), {"kernel_size": 3}),
    "many channels": (torch.rand(1, 3, 100, 100, 3), {"kernel_size": 3}),
    "large kernel": (torch.rand(1, 3, 6, 6, 6), {"kernel_size": 4}),
    "stride": (torch.rand(SHAPE), {"kernel_size": 3, "stride": 2}),
    "padding by name": (torch.rand(SHAPE), {"kernel_size": 3, "padding": "same"}),
    "padding beyond the kernel": (torch.rand(SHAPE), {"kernel_size": 3, "padding": 3}),
    "without a batch": (torch.rand(3, 5, 6, 4), {"kernel_size": 3}),
}


@pytest.mark.parametrize(("inputs", "settings"), LEFT.values(), ids=LEFT)
def test_other_convolutions_give_what_they_gave(inputs, settings):
    _, layer = made(**settings)
    plain, _ = results(inputs, layer)
    with FastConvolutions():
        found, _ = results(inputs, layer)
    for one, wanted in zip(found, plain, strict=True):
        torch.testing.assert_close(one, wanted)


def test_float64_groups_and_autocast_are_left_to_torch():
    inputs, layer = made(kernel_size=3)
    grouped = nn.Conv3d(3, 3, 3, groups=3)
    with FastConvolutions():
        assert results(inputs, grouped)[1] != DRAWN
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(inputs).dtype == torch.bfloat16
        assert results(inputs.double(), layer.double())[1] != DRAWN


def test_input_that_no_convolution_takes_is_refused_by_torch():
    inputs, layer = made(kernel_size=(3, 3, 5))
    with FastConvolutions(), pytest.raises(RuntimeError, match="ernel size can't be greater"):
        layer(inputs)
    with FastConvolutions(), pytest.raises(RuntimeError, match="channels"):
        layer(inputs[:, :2])


def test_gradient_of_the_gradient_and_vmap_work():
    inputs, layer = made(kernel_size=3, padding=1)

    def slope(x):
        (gradient,) = torch.autograd.grad(layer(x).pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), x)[0]

    leaf = inputs.clone().requires_grad_()
    several = torch.stack([inputs, 2 * inputs])
    plain, mapped = slope(leaf), torch.vmap(layer)(several)
    with FastConvolutions():
        torch.testing.assert_close(slope(leaf), plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item())
        with pytest.warns(UserWarning, match="batching rule"):  # it works, slowly
            torch.testing.assert_close(torch.vmap(layer)(several), mapped)


def test_attack_takes_the_fast_way_and_finds_the_same(monkeypatch):
    inputs, layer = made(kernel_size=3, padding=1)
    volume, label, nodes = inputs.sigmoid(), torch.zeros(1, 1, *SHAPE[2:]), []

    class Watched(nn.Module):
        def forward(self, x):
            logits = layer(x)
            nodes.append(type(logits.grad_fn).__name__)
            return logits

    attack = PGD(eps=0.1, steps=2)
    found = attack(volume, label, Watched())
    assert nodes.count(DRAWN) == 2
    monkeypatch.setattr("vafa_monai.attacks.ascent.fast_convolutions", lambda _: nullcontext())
    torch.testing.assert_close(attack(volume, label, Watched()), found)
    assert nodes.count(DRAWN) == 2
    assert F.conv3d(inputs, layer.weight, padding=1).grad_fn.name() != DRAWN
    assert not isinstance(fast_convolutions(torch.device("cuda")), FastConvolutions)


FAULTS = """
import resource, sys, torch
from vafa_monai.attacks.cpu import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "keep" else False
torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24)
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(argument, **environment):
    """Return whether memory was kept, and the pages that ten tensors of 64 MB had cleared."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "LD_PRE"))}
    command = [sys.executable, "-c", FAULTS, argument]
    run = subprocess.run(
        command, env={**plain, **environment, "CUDA_VISIBLE_DEVICES": ""}, capture_output=True, text=True, check=True
    )
    return [int(number) for number in run.stdout.split()]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is that of glibc")
def test_freed_memory_is_kept_unless_somebody_chose():
    kept, few = faults("keep")
    if not kept:
        pytest.skip("the C library has no mallopt")
    many = faults("leave")[1]
    assert 3 * few < many
    chosen, again = faults("keep", MALLOC_TOP_PAD_="131072")
    assert not chosen
    assert 3 * few < again

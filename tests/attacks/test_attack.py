"""What the base class promises of every attack, of plug-ins too: results are measured, arguments are the caller's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vafa_monai.attacks import (
    APGD,
    FGSM,
    PGD,
    VAFA,
    Ascent,
    Attack,
    AttackEnsemble,
    FrequencyPGD,
    GoalAttack,
    Identity,
    RandomQuantization,
    RangeAdapter,
    ShrinkOrgan,
    SquareAttack,
    TiledAttack,
    UniformQuantization,
    describe,
)

BLOCK = (4, 3, 5)


def moved(kind: type[Attack], change: Any, **settings: Any) -> Attack:
    """An attack of ``kind`` and its budget whose search returns something else."""

    @dataclass(frozen=True, kw_only=True)
    class Moved(kind):
        def search(self, inputs, targets, network):
            return Ascent(change(inputs))

    return Moved(**settings)


def spike(size: float):
    """Move one voxel of the last sample by ``size``."""

    def change(inputs):
        adv = inputs.clone()
        adv[-1, 0, 5, 4, 3] += size
        return adv

    return change


@pytest.fixture
def inner(volume) -> Tensor:
    return 0.25 + 0.5 * volume  # nothing is clipped


BUDGETS = {
    "linf": (PGD, {"eps": 0.1}, lambda x: x + 0.1, lambda x: x + 0.1002),
    "one voxel": (APGD, {"eps": 0.1}, spike(0.1), spike(-0.1002)),
    "l2": (PGD, {"eps": 0.1, "norm": "l2"}, lambda x: x - 0.1, lambda x: x - 0.1002),
    "black box": (SquareAttack, {"eps": 0.1}, spike(-0.1), spike(0.1002)),
    "nothing": (Identity, {}, lambda x: x, spike(1e-3)),
    "box": (FrequencyPGD, {"block_size": BLOCK, "q_max": 51}, lambda x: x + 0.1, lambda x: x + 0.1002),
    "band": (
        FrequencyPGD,
        {"block_size": (4, 1, 1), "q_max": 51, "band": (0.0, 0.25)},
        lambda x: x + 0.05,
        lambda x: x + 0.0501,
    ),
    "one block": (FrequencyPGD, {"block_size": (1, 1, 1), "q_max": 51}, spike(0.1), spike(0.1002)),
    "quantization": (VAFA, {"block_size": BLOCK, "q_max": 51}, lambda x: x - 0.1, lambda x: x - 0.1002),
    "one step": (UniformQuantization, {"block_size": BLOCK, "q": 51}, lambda x: x - 0.1, lambda x: x - 0.1002),
    "random steps": (RandomQuantization, {"block_size": (1, 1, 1), "q_max": 51}, spike(-0.1), spike(-0.1002)),
    "any of an ensemble": (
        AttackEnsemble,
        {"eps": 0.01, "q_max": 51, "block_size": BLOCK},
        lambda x: x - 0.1,
        lambda x: x - 0.1002,
    ),
}
every_budget = pytest.mark.parametrize(("kind", "settings", "within", "beyond"), BUDGETS.values(), ids=BUDGETS)


@every_budget
@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: TiledAttack(attack=a, roi_size=(11, 9, 6))], ids=["", "tile"])
def test_result_beyond_the_budget_is_refused_and_one_at_its_edge_is_not(
    kind, settings, within, beyond, wrap, inner, label
):
    adv = wrap(moved(kind, within, **settings))(inner, label, None)
    torch.testing.assert_close(adv, within(inner), rtol=0, atol=1e-6)
    with pytest.raises(RuntimeError, match=r"Moved must stay inside its budget, got a volume \S+ beyond it"):
        wrap(moved(kind, beyond, **settings))(inner, label, None)


@every_budget
def test_budget_is_measured_in_the_intensities_of_the_attack(kind, settings, within, beyond, inner, label):
    window = (-1000.0, 600.0)
    for change, fits in ((within, True), (beyond, False)):
        attack = moved(kind, lambda x, change=change: 1600 * change((x + 1000) / 1600) - 1000, **settings)
        object.__setattr__(attack, "value_range", window)
        if fits:
            attack(1600 * inner - 1000, label, None)
            continue
        with pytest.raises(RuntimeError, match="must stay inside its budget"):
            attack(1600 * inner - 1000, label, None)


def test_adapted_budget_is_that_of_each_sample(inner, label):
    inputs = inner * torch.tensor([1.0, 50.0]).view(2, 1, 1, 1, 1)
    attack = RangeAdapter(attack=PGD(eps=0.1))
    low, high = (part(dim=(1, 2, 3, 4), keepdim=True) for part in (inputs.amin, inputs.amax))
    width = high - low
    inside = (inputs > low + 0.2 * width) & (inputs < high - 0.2 * width)
    excess = attack.excess(inputs, inputs + 0.15 * width * inside)
    torch.testing.assert_close(excess, 0.05 * width.flatten(), rtol=1e-3, atol=1e-4)


def test_tile_is_measured_where_no_later_one_lies_over_it(inner, label):
    """An L2 tile under a later one keeps a part of its change, which may not count twice."""
    tiled = TiledAttack(attack=PGD(eps=0.05, norm="l2", steps=1), roi_size=(6, 5, 4))
    adv = tiled(inner, label, nn.Conv3d(1, 3, 1))
    assert (tiled.excess(inner, adv) <= 1e-6).all()
    assert (tiled.excess(inner, adv + 0.06) > 0.005).all()


BAD = {
    "range": (lambda x: x + 0.8, "Moved must keep the allowed intensities, got one 0.[0-9]+ outside"),
    "below": (lambda x: x - 0.8, "Moved must keep the allowed intensities, got one 0.[0-9]+ outside"),
    "NaN": (lambda x: x * float("nan"), "Moved must return finite volumes, got NaN"),
    "one NaN": (spike(float("nan")), "Moved must return finite volumes, got NaN"),
    "shape": (lambda x: x[..., 1:], r"Moved must return volumes of shape \(2, 1, 11, 9, 6\), got \(2, 1, 11, 9, 5\)"),
}


@pytest.mark.parametrize(("change", "match"), BAD.values(), ids=BAD)
@pytest.mark.parametrize("kind", [Attack, Identity, PGD, TiledAttack], ids=lambda kind: kind.__name__)
def test_result_that_is_no_volume_is_refused(kind, change, match, inner, label):
    settings = {"attack": Identity(), "roi_size": (4, 4, 4)} if kind is TiledAttack else {}
    with pytest.raises(RuntimeError, match=match):
        moved(kind, change, **settings)(inner, label, None)


def test_search_that_writes_into_its_arguments_changes_nothing_of_the_caller(inner, label):
    @dataclass(frozen=True, kw_only=True)
    class Careless(Attack):
        def search(self, inputs, targets, network):
            targets.zero_()
            return Ascent(inputs.add_(0.2))

        def excess(self, clean, adv):
            return (adv - clean).abs().flatten(1).amax(1) - 0.1

    before, truth = inner.clone(), label.clone()
    with pytest.raises(RuntimeError, match=r"Careless must stay inside its budget, got a volume 0\.1 beyond it"):
        Careless()(inner, label, None)
    assert torch.equal(inner, before)
    assert torch.equal(label, truth)


# Where and with what attacks are called


def test_attack_in_inference_mode_is_the_attack(volume, label, tiny_network):
    for attack in (PGD(steps=2), VAFA(block_size=BLOCK, steps=2), RangeAdapter(attack=APGD(steps=2)), Identity()):
        expected = attack(volume, label, tiny_network)
        with torch.inference_mode():
            found = attack(volume.clone(), label.clone(), tiny_network)
        assert torch.equal(found, expected)
        assert not found.is_inference()


def test_weights_made_in_inference_mode_are_refused_by_what_climbs(volume, label):
    with torch.inference_mode():
        network = nn.Sequential(nn.Conv3d(1, 3, 1), nn.Softplus())
    with pytest.raises(RuntimeError, match=r"network must take volumes of torch\.float32 .*, got: Inference tensors"):
        FGSM()(volume, label, network)
    assert SquareAttack(queries=2)(volume, label, network).isfinite().all()
    assert torch.equal(Identity()(volume, label, network), volume)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.float64], ids=str)
def test_labels_of_every_dtype_are_those_classes(dtype, volume, label, tiny_network):
    for attack in (FGSM(), GoalAttack(attack=PGD(steps=2, targeted=True), goal=ShrinkOrgan(organ=1, voxels=1))):
        assert torch.equal(attack(volume, label.to(dtype), tiny_network), attack(volume, label, tiny_network))


def test_what_is_no_tensor_is_refused(volume, label, tiny_network):
    with pytest.raises(TypeError, match=r"inputs must be a tensor, got ndarray\."):
        FGSM()(volume.numpy(), label, tiny_network)
    with pytest.raises(TypeError, match=r"targets must be a tensor, got list\."):
        FGSM()(volume, label.tolist(), tiny_network)


NUMBERS = [np.float32(0.25), np.float64(0.25), np.float16(0.25), torch.tensor(0.25), np.array(0.25)]


@pytest.mark.parametrize("eps", NUMBERS, ids=lambda eps: type(eps).__name__ + str(eps.dtype))
def test_numbers_of_numpy_are_numbers(eps):
    for attack in (
        PGD(eps=eps, steps=np.int64(3), value_range=(eps - eps, eps * 4)),
        SquareAttack(eps=eps, queries=np.int32(3)),
    ):
        assert (type(attack.eps), attack.eps, attack.value_range) == (float, 0.25, (0.0, 1.0))
        assert describe(attack)["eps"] == 0.25
    assert VAFA(block_size=np.array([4, 3, 5])).block_size == (4, 3, 5)
    assert FrequencyPGD(block_size=(np.int64(4), 3, 5)).block_size == (4, 3, 5)


@pytest.mark.parametrize("wrap", [lambda a: a, lambda a: TiledAttack(attack=a, roi_size=(2, 2, 2))], ids=["", "twice"])
def test_tiles_do_not_take_their_own_intensities_for_those_of_the_volume(wrap):
    with pytest.raises(ValueError, match=r"attack must not take the intensities of each tile .*, got a RangeAdapter"):
        wrap(TiledAttack(attack=RangeAdapter(attack=FGSM()), roi_size=(4, 4, 4)))


def test_dark_tiles_have_the_budget_of_the_volume(label, tiny_network):
    inputs = torch.linspace(-3, 5, label.numel()).view(label.shape)
    inputs[:, :, :4] *= 0.01
    attack = RangeAdapter(attack=TiledAttack(attack=FGSM(eps=0.1), roi_size=(4, 9, 6)))
    change = (attack(inputs, label, tiny_network) - inputs).abs()[:, :, :4].amax((1, 2, 3, 4))
    width = inputs.amax((1, 2, 3, 4)) - inputs.amin((1, 2, 3, 4))
    torch.testing.assert_close(change, 0.1 * width, rtol=1e-4, atol=0)

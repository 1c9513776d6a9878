"""Volumes of several channels: a range of intensities for each, attacks on some of them alone."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from vafa_monai.attacks import (
    APGD,
    FGSM,
    PGD,
    VAFA,
    Ascent,
    Attack,
    AttackEnsemble,
    EraseOrgan,
    FrequencyPGD,
    GaussianNoise,
    GoalAttack,
    Identity,
    RangeAdapter,
    SegPGD,
    SquareAttack,
    TiledAttack,
    TransferPGD,
    UniformQuantization,
    describe,
)
from vafa_monai.attacks.threat import threat_of
from vafa_monai.metrics import compute_image_quality

BLOCK = (4, 3, 5)
RANGES = ((-1000.0, 600.0), (0.0, 1.0), (-3.0, 5.0))
ATTACKS: dict[str, Attack] = {
    "pgd": PGD(steps=3, random_start=True),
    "pgd_l2": PGD(steps=3, norm="l2"),
    "apgd": APGD(steps=5),
    "seg_pgd": SegPGD(steps=3),
    "transfer_pgd": TransferPGD(steps=3, diversity=1, least_share=0.7),
    "frequency_pgd": FrequencyPGD(block_size=BLOCK, steps=3),
    "vafa_authors": VAFA.preset("authors", block_size=BLOCK, steps=3),
    "vafa_audit": VAFA.preset("audit", block_size=BLOCK, steps=3),
    "square": SquareAttack(queries=10),
    "ensemble": AttackEnsemble(block_size=BLOCK, steps=2, queries=3, broken_at=0),
    "gaussian_noise": GaussianNoise(),
    "uniform_quantization": UniformQuantization(block_size=BLOCK),
    "identity": Identity(),
    "tiled": TiledAttack(attack=PGD(steps=2), roi_size=(6, 9, 6)),
    "goal": GoalAttack(attack=PGD(steps=2, targeted=True), goal=EraseOrgan(organ=1)),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)


def changed(attack: Attack, **settings) -> Attack:
    """The attack with other settings, and so the one inside of it."""
    if isinstance(attack, TiledAttack | GoalAttack | RangeAdapter):
        return dataclasses.replace(attack, attack=changed(attack.attack, **settings), **settings)
    return dataclasses.replace(attack, **settings)


@pytest.fixture
def volumes(volume) -> Tensor:
    """Three channels in [0, 1], in double precision."""
    return torch.cat([volume, volume.flip(2), 0.2 + 0.6 * volume.flip(3)], 1).double()


@pytest.fixture
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv3d(3, 4, 3, padding=1), nn.Softplus(), nn.Conv3d(4, 3, 1)).double().eval()


def native(volumes: Tensor) -> Tensor:
    low, high = torch.tensor(RANGES, dtype=volumes.dtype).view(1, 3, 2, 1, 1, 1).unbind(2)
    return low + (high - low) * volumes


def fractions(volumes: Tensor) -> Tensor:
    low, high = torch.tensor(RANGES, dtype=volumes.dtype).view(1, 3, 2, 1, 1, 1).unbind(2)
    return (volumes - low) / (high - low)


@every_attack
def test_attack_in_ranges_of_channels_is_the_attack_on_fractions_of_them(attack, volumes, label, network):
    adv = changed(attack, value_range=RANGES)(native(volumes), label, lambda inputs: network(fractions(inputs)))
    torch.testing.assert_close(fractions(adv), attack(volumes, label, network), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "tiled"])  # whose tiles meet other voxels
def test_attack_on_some_channels_is_the_attack_on_a_network_of_these_alone(name, volumes, label, network):
    attack, chosen, volumes, label = ATTACKS[name], [2, 0], volumes[:1], label[:1]

    def of_two(inputs: Tensor) -> Tensor:
        return network(torch.cat([inputs[:, 1:], volumes[:, 1:2], inputs[:, :1]], 1))

    adv = changed(attack, channels=chosen)(volumes, label, network)
    assert torch.equal(adv[:, 1], volumes[:, 1])
    torch.testing.assert_close(adv[:, chosen], attack(volumes[:, chosen], label, of_two), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["pgd", "apgd", "square", "tiled"])
def test_every_channel_moves_by_eps_of_its_own_range(name, volumes, label, network):
    inputs = native(0.2 + 0.6 * volumes).float()
    adv = changed(ATTACKS[name], value_range=RANGES, channels=(0, 2))(
        inputs, label, lambda given: network(fractions(given.double()))
    )
    change = (fractions(adv.double()) - fractions(inputs.double())).abs().amax((0, 2, 3, 4))
    torch.testing.assert_close(change, torch.tensor([4 / 255, 0, 4 / 255]).double(), rtol=0, atol=1e-6)


def test_channels_beside_the_chosen_may_have_any_intensities(volumes, label, network):
    inputs = volumes.clone()
    inputs[:, 1] = 1e4 * (inputs[:, 1] - 0.5)
    for attack in (PGD(steps=2, channels=[0, 2]), TiledAttack(attack=FGSM(channels=[0, 2]), roi_size=(6, 5, 4))):
        adv = attack(inputs, label, network)
        assert torch.equal(adv[:, 1], inputs[:, 1])
        assert not torch.equal(adv[:, 0], inputs[:, 0])


def test_narrow_channel_far_from_zero_is_no_excess(label, network):
    """In single precision a range of 1 at 10,000 has 1000 steps; rounding is no broken budget."""
    inputs = 10_000 + torch.rand(2, 3, 11, 9, 6, generator=torch.Generator().manual_seed(0))
    ranges = ((10_000, 10_001), (10_000, 10_002), (0, 20_000))
    for attack in (PGD(steps=2, value_range=ranges), TiledAttack(attack=FGSM(value_range=ranges), roi_size=(6, 5, 4))):
        adv = attack(inputs, label, lambda given: network((given - 10_000).double()))
        assert not torch.equal(adv, inputs)


def test_standardized_channels_are_adapted_and_others_stay(volumes, label, network):
    inputs = 3 * volumes - 1
    adv = RangeAdapter(attack=PGD(steps=2, channels=[1]))(inputs, label, network)
    assert torch.equal(adv[:, [0, 2]], inputs[:, [0, 2]])
    width = inputs[:, 1].amax((1, 2, 3)) - inputs[:, 1].amin((1, 2, 3))
    change = (adv[:, 1] - inputs[:, 1]).abs().amax((1, 2, 3))
    torch.testing.assert_close(change, 4 / 255 * width)


def spoiled(change) -> Attack:
    @dataclass(frozen=True, kw_only=True)
    class Spoiled(PGD):
        def search(self, inputs, targets, network):
            return Ascent(change(inputs))

    return Spoiled(eps=0.1, value_range=RANGES, channels=(0, 2))


def test_result_beyond_the_budget_of_a_channel_is_refused(volumes, label):
    inputs = native(0.25 + 0.5 * volumes)
    spoiled(lambda x: x + 0.1)(inputs, label, None)
    with pytest.raises(RuntimeError, match="Spoiled must stay inside its budget"):
        spoiled(lambda x: torch.cat([x[:, :1], x[:, 1:] + 0.1001], 1))(inputs, label, None)


def test_image_quality_is_measured_in_the_grey_levels_of_each_channel(volumes):
    clean, adv = 0.2 + 0.6 * volumes, 0.21 + 0.6 * volumes
    found = compute_image_quality(native(adv), native(clean), RANGES)
    torch.testing.assert_close(found, compute_image_quality(adv, clean))


# Settings


def test_it_is_built_from_json_and_described():
    config = {"_target_": "vafa_monai.attacks.PGD", "value_range": [[0, 1], [-3, 3]], "channels": [1]}
    built = ConfigParser({"attack": json.loads(json.dumps(config))}).get_parsed_content("attack")
    assert built == PGD(value_range=((0, 1), (-3, 3)), channels=(1,))
    told = describe(built)
    assert (told["value_range"], told["channels"]) == ([[0.0, 1.0], [-3.0, 3.0]], [1])
    assert "channels" not in describe(PGD())
    assert "output" not in describe(PGD())
    assert describe(PGD(output="sigmoid"))["output"] == "sigmoid"


def test_attack_on_some_channels_is_another_threat():
    some, every = (threat_of(describe(PGD(channels=channels))) for channels in ([2, 0], None))
    assert str(some) == "voxels within 4/255 (L-inf), in channels 0, 2"
    assert every.covers(some)
    assert not some.covers(every)


REFUSED = {
    "pairs": ({"value_range": RANGES[:2]}, "value_range must have a pair for each of 3 channels, got 2 pairs"),
    "channel": ({"channels": [0, 3]}, "channels must be from 0 to 2, those of inputs, got 3"),
    "intensities": (
        {"value_range": ((0, 1), (0, 0.5), (0, 1))},
        r"channel 1 of inputs must be finite and lie in value_range \(0\.0, 0\.5\), got 0 to 1",
    ),
}


@pytest.mark.parametrize(("settings", "match"), REFUSED.values(), ids=REFUSED)
def test_settings_that_do_not_fit_the_channels_are_refused(settings, match, volumes, label, network):
    with pytest.raises(ValueError, match=match):
        PGD(**settings)(volumes, label, network)


def test_nan_beside_the_chosen_channels_is_refused(volumes, label, network):
    volumes[0, 1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="channel 1 of inputs must be finite, got NaN or infinity"):
        PGD(channels=[0])(volumes, label, network)


IMPOSSIBLE = {
    "none": ({"channels": []}, r"channels must be different numbers of channels, or None, got \[\]"),
    "twice": ({"channels": [1, 1]}, r"channels must be different numbers of channels, or None, got \[1, 1\]"),
    "negative": ({"channels": [-1]}, "channels must be at least 0, got -1"),
    "a wrong pair": ({"value_range": [[0, 1], [1, 0]]}, r"value_range must be two finite numbers, .*, got \[1, 0\]"),
    "three of one": ({"value_range": [[0, 1], [1]]}, r"value_range must be two finite numbers, .*, got \[1\]"),
}


@pytest.mark.parametrize(("settings", "match"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_impossible_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        PGD(**settings)


def test_wrappers_take_channels_and_ranges_of_what_is_inside():
    inside = PGD(value_range=RANGES, channels=(1,))
    tiled = TiledAttack(attack=inside, roi_size=(4, 4, 4))
    assert (tiled.value_range, tiled.channels) == (RANGES, (1,))
    with pytest.raises(ValueError, match=r"channels must be that of attack, \(1,\), got \(0,\)"):
        TiledAttack(attack=inside, roi_size=(4, 4, 4), channels=[0])
    with pytest.raises(ValueError, match=r"value_range must be one pair in a RangeAdapter, got \(\("):
        RangeAdapter(attack=inside)

"""The same attack in other intensities: a network on [0, 1], and the same behind a scaling of each sample."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.attacks import (
    APGD,
    PGD,
    VAFA,
    AttackEnsemble,
    CosPGD,
    EraseOrgan,
    FrequencyPGD,
    GaussianNoise,
    GoalAttack,
    Identity,
    RangeAdapter,
    SquareAttack,
    describe,
)

BLOCK = (4, 3, 5)
ATTACKS = {
    "pgd": PGD(steps=3),
    "pgd_l2": PGD(steps=3, norm="l2"),
    "apgd": APGD(steps=5),
    "cos_pgd": CosPGD(steps=3),
    "vafa": VAFA(block_size=BLOCK, steps=3),
    "frequency_pgd": FrequencyPGD(block_size=BLOCK, steps=3),
    "square": SquareAttack(queries=10),
    "noise": GaussianNoise(),
    "ensemble": AttackEnsemble(block_size=BLOCK, steps=2, queries=3),
    "goal": GoalAttack(attack=PGD(steps=3, targeted=True), goal=EraseOrgan(organ=1)),
}
every_attack = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
LOW = torch.tensor([-1.5, 40.0]).view(2, 1, 1, 1, 1)
WIDTH = torch.tensor([4.0, 700.0]).view(2, 1, 1, 1, 1)


@pytest.fixture
def unit_volume(volume):
    """Two samples in double precision that use the whole of [0, 1]."""
    low, high = (part(dim=(1, 2, 3, 4), keepdim=True) for part in (volume.double().amin, volume.double().amax))
    return (volume.double() - low) / (high - low)


class Rescaled(torch.nn.Module):
    """What a network on [0, 1] is on the intensities of one sample."""

    def __init__(self, network, low, width):
        super().__init__()
        self.network, self.low, self.width = network, low, width

    def forward(self, volume):
        return self.network((volume - self.low) / self.width)


@every_attack
def test_attack_is_the_same_in_the_intensities_of_each_sample(attack, unit_volume, label, tiny_network):
    network = tiny_network.double()
    for sample in range(2):
        low, width = LOW.double()[sample : sample + 1], WIDTH.double()[sample : sample + 1]
        unit, truth = unit_volume[sample : sample + 1], label[sample : sample + 1]
        expected = attack.run(unit, truth, network)
        found = RangeAdapter(attack=attack).run(low + width * unit, truth, Rescaled(network, low, width))
        torch.testing.assert_close(found.adv, low + width * expected.adv, rtol=0, atol=1e-6 * width.item())
        assert [set(one) for one in found.details()] == [set(one) for one in expected.details()]


@every_attack
def test_batch_is_its_samples_and_stays_in_the_intensities_of_each(attack, unit_volume, label, tiny_network):
    inputs, adapter, network = LOW + WIDTH * unit_volume.float(), RangeAdapter(attack=attack), tiny_network
    adv = adapter(inputs, label, network)
    single = [adapter(inputs[i : i + 1], label[i : i + 1], network) for i in range(2)]
    assert torch.equal(adv, torch.cat(single))
    for one, clean in zip(adv, inputs, strict=True):
        assert clean.min() <= one.min()
        assert one.max() <= clean.max()


def test_fixed_range_needs_no_adapter(unit_volume, label, tiny_network):
    network, window = tiny_network.double(), (-175.0, 250.0)
    unit = APGD(steps=5)(unit_volume, label, network)
    found = APGD(steps=5, value_range=window)(425 * unit_volume - 175, label, Rescaled(network, -175, 425))
    torch.testing.assert_close(found, 425 * unit - 175, rtol=0, atol=1e-6)


def test_channels_have_ranges_of_their_own(label):
    network = torch.nn.Conv3d(2, 3, 1)
    volume = torch.rand(2, 2, 11, 9, 6, generator=torch.Generator().manual_seed(0))
    volume[:, 1] *= 100
    change = (RangeAdapter(attack=PGD(eps=0.1, steps=3))(volume, label, network) - volume).abs()
    width = volume.amax((2, 3, 4)) - volume.amin((2, 3, 4))
    torch.testing.assert_close(change.amax((2, 3, 4)), 0.1 * width, rtol=1e-4, atol=0)


@pytest.mark.parametrize("attack", [PGD(steps=0), Identity()], ids=["no steps", "identity"])
def test_nothing_changes_without_an_attack(attack, volume, label, tiny_network):
    inputs = 37 * volume - 11.3
    assert torch.equal(RangeAdapter(attack=attack)(inputs, label, tiny_network), inputs)


def test_constant_sample_stays_as_it_is(volume, label, tiny_network):
    inputs = volume.clone()
    inputs[0] = 7.5
    adv = RangeAdapter(attack=PGD(steps=3))(inputs, label, tiny_network)
    assert torch.equal(adv[0], inputs[0])
    assert (adv[1] != inputs[1]).any()


def test_what_is_not_finite_is_refused(volume, label, tiny_network):
    volume[0, 0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="inputs must be finite"):
        RangeAdapter(attack=PGD())(volume, label, tiny_network)
    with pytest.raises(ValueError, match="targets must have the batch and spatial shape of inputs"):
        RangeAdapter(attack=PGD())(volume[:1].nan_to_num(), label, tiny_network)
    with pytest.raises(TypeError, match=r"attack must be an attack of vafa_monai\.attacks, got str"):
        RangeAdapter(attack="pgd")


def test_it_is_built_from_json_and_described_with_its_attack():
    config = {"_target_": "vafa_monai.attacks.RangeAdapter", "attack": {"_target_": "vafa_monai.attacks.BIM"}}
    built = ConfigParser({"a": config}).get_parsed_content("a")
    assert describe(built)["attack"]["_target_"] == config["attack"]["_target_"]
    assert describe(built)["_target_"] == config["_target_"]

"""An attack tile by tile against the same attack on tiles cut by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from vafa_monai.attacks import BIM, PGD, VAFA, GaussianNoise, Identity, SquareAttack, TiledAttack, describe

ROI = (6, 4, 4)

every_attack = pytest.mark.parametrize(
    "attack",
    [PGD(steps=2), VAFA.preset("authors", block_size=(4, 4, 4), steps=2), SquareAttack(queries=4), GaussianNoise()],
    ids=["pgd", "vafa", "square", "noise"],
)


def test_tiles_are_attacked_by_themselves_and_later_ones_overwrite(volume, label, tiny_network):
    adv = TiledAttack(attack=BIM(steps=2), roi_size=ROI)(volume, label, tiny_network)
    expected = volume.clone()
    for x in (0, 5):  # 11 = 6 + 5
        for y in (0, 4, 5):  # 9 = 4 + 4 + 1
            for z in (0, 2):  # 6 = 4 + 2
                tile = (..., slice(x, x + 6), slice(y, y + 4), slice(z, z + 4))
                expected[tile] = BIM(steps=2)(volume[tile], label[tile], tiny_network)
    assert torch.equal(adv, expected)


def test_one_tile_is_the_attack_itself(volume, label, tiny_network):
    attack = VAFA.preset("authors", block_size=(4, 4, 4), steps=2)
    tiled = TiledAttack(attack=attack, roi_size=volume.shape[2:])
    assert torch.equal(tiled(volume, label, tiny_network), attack(volume, label, tiny_network))


def test_axes_shorter_than_a_tile_are_padded_and_cropped(volume, label, tiny_network):
    sizes = []

    def network(tile):
        sizes.append(tuple(tile.shape[2:]))
        return tiny_network(tile)

    adv = TiledAttack(attack=PGD(eps=0.1, steps=2), roi_size=(16, 16, 16))(volume, label, network)
    assert adv.shape == volume.shape
    assert set(sizes) == {(16, 16, 16)}
    assert 0 < (adv - volume).abs().max() <= 0.1 + 1e-6


def test_it_is_weaker_than_the_attack_on_the_whole(volume, label, normalized_network):
    loss = torch.nn.CrossEntropyLoss()
    attack = PGD(eps=0.1, steps=5, loss_function=lambda logits, y: loss(logits, y[:, 0].long()))
    advs = [each(volume, label, normalized_network) for each in (attack, TiledAttack(attack=attack, roi_size=ROI))]
    whole, tiled = (loss(normalized_network(adv), label[:, 0]).item() for adv in advs)
    assert loss(normalized_network(volume), label[:, 0]).item() < tiled < whole


def test_intensities_are_those_of_its_attack(volume, label, tiny_network):
    tiled = TiledAttack(attack=Identity(value_range=(-1.0, 3.0)), roi_size=ROI)
    assert tiled.value_range == (-1.0, 3.0)
    assert torch.equal(tiled(4 * volume - 1, label, tiny_network), 4 * volume - 1)
    assert dataclasses.replace(tiled, roi_size=(2, 2, 2)).value_range == (-1.0, 3.0)


# The promises of every attack


@every_attack
def test_a_batch_is_its_samples_and_a_second_call_the_first(attack, volume, label, tiny_network):
    tiled, inputs, network = TiledAttack(attack=attack, roi_size=ROI), volume.double(), tiny_network.double()
    adv = tiled(inputs, label, network)
    single = [tiled(inputs[i : i + 1], label[i : i + 1], network) for i in range(len(inputs))]
    torch.testing.assert_close(adv, torch.cat(single), rtol=0, atol=1e-9)
    torch.rand(7)
    assert torch.equal(tiled(inputs, label, network), adv)


@every_attack
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_network_and_arguments_are_left_as_they_were(attack, training, volume, label, normalized_network):
    network = normalized_network.train(training)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    before, modes = volume.clone(), [part.training for part in network.modules()]
    TiledAttack(attack=attack, roi_size=ROI)(volume, label, network)
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert [part.training for part in network.modules()] == modes
    assert all(part.grad is None and part.requires_grad for part in network.parameters())
    assert torch.equal(volume, before)


@every_attack
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_shape_dtype_range_and_metadata_are_those_of_the_inputs(attack, dtype, volume, label, tiny_network):
    inputs = MetaTensor(volume.to(dtype), affine=torch.diag(torch.tensor([1.5, 2.0, 3.0, 1.0], dtype=torch.float64)))
    adv = TiledAttack(attack=attack, roi_size=(16, 4, 4))(inputs, MetaTensor(label.float()), tiny_network.to(dtype))
    assert (adv.shape, adv.dtype, adv.requires_grad) == (inputs.shape, dtype, False)
    assert adv.min() >= 0
    assert adv.max() <= 1
    assert torch.equal(adv.affine, inputs.affine)


def test_attack_of_no_strength_is_the_identity_and_no_view(volume, label, tiny_network):
    before = volume.clone()
    adv = TiledAttack(attack=PGD(steps=0), roi_size=ROI)(volume, label, tiny_network)
    assert torch.equal(adv, before)
    assert not torch.equal(adv.add_(1), volume)


def test_labels_of_every_kind_reach_the_tiles_as_they_are(volume, label, tiny_network):
    attack = TiledAttack(attack=BIM(steps=2), roi_size=(16, 4, 4))
    adv = attack(volume, label, tiny_network)
    for dtype in (torch.uint8, torch.int32, torch.float32):
        assert torch.equal(attack(volume, label.to(dtype), tiny_network), adv)


def test_it_is_built_from_json_and_described_with_its_attack():
    config = {
        "attack": {"_target_": "vafa_monai.attacks.GaussianNoise", "std": 0.1},
        "tiled": {"_target_": "vafa_monai.attacks.TiledAttack", "attack": "@attack", "roi_size": [6, 4, 4]},
    }
    tiled = ConfigParser(config).get_parsed_content("tiled")
    assert tiled == TiledAttack(attack=GaussianNoise(std=0.1), roi_size=ROI)
    assert describe(tiled) == {
        "_target_": "vafa_monai.attacks.TiledAttack",
        "value_range": [0.0, 1.0],
        "attack": {**config["attack"], "value_range": [0.0, 1.0], "seed": 0},
        "roi_size": [6, 4, 4],
    }


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"roi_size must be three edges \(h, w, d\) of at least 1 voxel, got \(6, 4\)"):
        TiledAttack(attack=BIM(), roi_size=(6, 4))
    with pytest.raises(ValueError, match=r"value_range must be that of attack, \(0.0, 1.0\), got \(-1.0, 1.0\)."):
        TiledAttack(attack=BIM(), roi_size=ROI, value_range=(-1.0, 1.0))
    with pytest.raises(TypeError, match=r"attack must be an attack of vafa_monai.attacks, got str."):
        TiledAttack(attack="pgd", roi_size=ROI)

"""An attack tile by tile against the same attack on tiles cut by hand."""

from __future__ import annotations

import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.attacks import BIM, PGD, VAFA, GaussianNoise, Identity, TiledAttack, describe

ROI = (6, 4, 4)


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
    with pytest.raises(TypeError, match=r"attack must be an attack of vafa_monai.attacks, got str."):
        TiledAttack(attack="pgd", roi_size=ROI)

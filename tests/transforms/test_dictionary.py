"""Every dictionary transform does what its array twin does, to the keys that it is told."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import Tensor, nn

from vafa_monai import transforms
from vafa_monai.attacks import FGSM
from vafa_monai.transforms import AdversarialPerturbationd, BlockDCTd, RandFrequencyPerturbationd

SETTINGS = {
    "BlockDCT": {"block_size": (11, 3, 2)},
    "FrequencyPerturbation": {"table": 30.0, "block_size": (4, 3, 5), "alpha": 0.2, "value_range": (-0.1, 1.2)},
    "RandFrequencyPerturbation": {"prob": 1.0, "q_min": 5.0, "q_max": 9.0, "block_size": (4, 3, 5)},
    "AdversarialPerturbation": {"attack": FGSM(eps=0.1), "network": nn.Conv3d(1, 3, 1)},
}
every_twin = pytest.mark.parametrize("name", SETTINGS)


def twins(name: str, keys: object = "image", **more: object) -> tuple:
    """The array transform and its dictionary twin, with the same settings and seed."""
    array = getattr(transforms, name)(**SETTINGS[name])
    dictionary = getattr(transforms, f"{name}d")(keys, **SETTINGS[name], **more)
    for one in (array, dictionary):
        if hasattr(one, "set_random_state"):
            one.set_random_state(seed=2)
    return array, dictionary


def call(array: object, name: str, img: Tensor, label: Tensor) -> Tensor:
    return array(img, label) if name == "AdversarialPerturbation" else array(img)


@pytest.fixture
def data(img: Tensor, img_label: Tensor) -> dict[str, object]:
    return {"image": img, "second": img.flip(1), "label": img_label, "id": 7}


@every_twin
def test_dictionary_twin_equals_array_twin_and_leaves_other_keys(name, data):
    array, dictionary = twins(name)
    result = dictionary(data)
    expected = call(array, name, data["image"], data["label"])
    assert torch.equal(result["image"].as_tensor(), expected.as_tensor())
    assert not torch.equal(result["image"].flatten(), data["image"].flatten())
    assert [result[key] is data[key] for key in ("second", "label", "id")] == [True] * 3


@every_twin
def test_metadata_survives_and_the_argument_is_unchanged(name, data):
    image, before = data["image"], data["image"].clone()
    result = twins(name)[1](data)["image"]
    assert torch.equal(result.affine, image.affine)
    assert result.meta["filename_or_obj"] == "case_07.nii.gz"
    assert data["image"] is image
    assert torch.equal(image, before)


@every_twin
def test_numpy_volume_is_taken(name, data):
    numpy = data | {"image": np.asarray(data["image"]), "label": np.asarray(data["label"])}
    result = [twins(name)[1](one)["image"].as_tensor() for one in (data, numpy)]
    torch.testing.assert_close(*result)


@every_twin
def test_missing_key_is_refused_unless_it_may_be_missing(name, data):
    with pytest.raises(KeyError, match="absent"):
        twins(name, ["absent"])[1](data)
    result = twins(name, ["absent", "image"], allow_missing_keys=True)[1](data)
    assert set(result) == set(data)


@every_twin
def test_twins_have_the_same_settings_and_defaults(name):
    array, dictionary = (inspect.signature(getattr(transforms, one)).parameters for one in (name, f"{name}d"))
    own = {"keys", "allow_missing_keys", "label_key"}
    assert {key: p.default for key, p in array.items()} == {
        key: p.default for key, p in dictionary.items() if key not in own
    }


def test_inverse_of_a_dictionary_gives_its_volumes_back(data):
    transform = BlockDCTd(["image", "second"], (11, 3, 2))
    restored = transform.inverse(transform(data))
    for key in ("image", "second"):
        torch.testing.assert_close(restored[key].as_tensor(), data[key].as_tensor(), rtol=0, atol=1e-6)


def test_all_keys_share_one_random_table(data):
    both = RandFrequencyPerturbationd(["image", "second"], prob=1.0, block_size=(11, 9, 6)).set_random_state(0)
    result = both(data | {"second": data["image"].clone()})
    assert torch.equal(result["image"], result["second"])
    assert not torch.equal(result["image"], data["image"])


def test_probability_zero_leaves_the_dictionary_and_probability_one_never_does(data):
    never, always = (RandFrequencyPerturbationd("image", prob=prob).set_random_state(0) for prob in (0.0, 1.0))
    assert all(torch.equal(never(data)["image"], data["image"]) for _ in range(5))
    assert not any(torch.equal(always(data)["image"], data["image"]) for _ in range(5))


def test_seed_of_a_chain_makes_it_repeatable(data):
    runs = [Compose([RandFrequencyPerturbationd("image", prob=1.0)]).set_random_state(seed) for seed in (5, 5, 6)]
    first, again, other = (run(data)["image"] for run in runs)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_attack_takes_the_label_of_the_named_key(data, tiny_network):
    goal = 2 - data["label"]
    result = AdversarialPerturbationd("image", FGSM(), tiny_network, label_key="goal")(data | {"goal": goal})
    expected = FGSM()(data["image"].as_tensor()[None], goal[None], tiny_network)[0]
    assert torch.equal(result["image"].as_tensor(), expected)


@every_twin
def test_dictionary_transform_can_be_built_from_json(name, data):
    settings = {key: list(value) if isinstance(value, tuple) else value for key, value in SETTINGS[name].items()}
    if name == "AdversarialPerturbation":
        settings["attack"] = {"_target_": "vafa_monai.attacks.FGSM", "eps": 0.1}
        settings["network"] = "@network_def"
    config = {"transform": {"_target_": f"vafa_monai.transforms.{name}d", "keys": "image", **settings}}
    config["network_def"] = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1}
    parser = ConfigParser(config)
    built = parser.get_parsed_content("transform")
    if name == "AdversarialPerturbation":
        built.transform.network.load_state_dict(SETTINGS[name]["network"].state_dict())
    if hasattr(built, "set_random_state"):
        built.set_random_state(seed=2)
    assert torch.equal(built(data)["image"].as_tensor(), twins(name)[1](data)["image"].as_tensor())

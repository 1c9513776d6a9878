"""An attack as a transform of one volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from vafa_monai.attacks import FGSM, PGD
from vafa_monai.transforms import AdversarialPerturbation


def test_volume_is_attacked_as_a_batch_of_one(img, img_label, tiny_network):
    attack = PGD(steps=2)
    adv = AdversarialPerturbation(attack, tiny_network)(img, img_label)
    expected = attack(img.as_tensor()[None], img_label[None], tiny_network)[0]
    assert torch.equal(adv.as_tensor(), expected)
    assert adv.shape == img.shape


def test_metadata_survives_and_the_arguments_are_unchanged(img, img_label, tiny_network):
    before, label_before = img.clone(), img_label.clone()
    adv = AdversarialPerturbation(FGSM(), tiny_network)(img, img_label)
    assert torch.equal(adv.affine, img.affine)
    assert adv.meta["filename_or_obj"] == "case_07.nii.gz"
    assert torch.equal(img, before)
    assert torch.equal(img_label, label_before)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32], ids=lambda kind: kind.__name__)
def test_numpy_volume_and_label_are_taken(img, img_label, tiny_network, kind):
    transform = AdversarialPerturbation(FGSM(), tiny_network)
    adv = transform(np.asarray(img), np.asarray(img_label).astype(kind))
    assert isinstance(adv, MetaTensor)
    assert torch.equal(adv.as_tensor(), transform(img, img_label).as_tensor())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_mode_and_weights_of_the_network_stay_as_they_are(img, img_label, normalized_network, training):
    network = normalized_network.train(training)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    AdversarialPerturbation(FGSM(), network)(img, img_label)
    assert network.training == training
    torch.testing.assert_close(network.state_dict(), state, rtol=0, atol=0)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_any_callable_can_be_the_network(img, img_label, tiny_network):
    adv = AdversarialPerturbation(FGSM(), lambda inputs: tiny_network(inputs))(img, img_label)
    assert torch.equal(adv, AdversarialPerturbation(FGSM(), tiny_network)(img, img_label))


def test_volume_goes_to_the_network_and_comes_back(img, img_label, tiny_network, device):
    adv = AdversarialPerturbation(FGSM(eps=0.1), tiny_network.to(device))(img, img_label)
    assert adv.device == img.device
    assert (adv - img).abs().max().item() == pytest.approx(0.1, abs=1e-6)


def test_label_of_another_size_is_refused(img, img_label, tiny_network):
    with pytest.raises(ValueError, match="targets must have the batch and spatial shape of inputs"):
        AdversarialPerturbation(FGSM(), tiny_network)(img, img_label[:, 1:])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (
            lambda img, label: (2000 * img - 1000, label),
            r"inputs must be finite and lie in value_range .*, got -[\d.]+ to",
        ),
        (lambda img, label: (img, label * 0.999999), r"targets must hold whole numbers as class indices"),
        (lambda img, label: ((255 * img).to(torch.uint8), label), r"inputs must be floating-point volumes"),
    ],
    ids=["hounsfield units", "scaled labels", "bytes"],
)
def test_what_the_attack_would_clip_or_cut_is_refused(change, match, img, img_label, tiny_network):
    with pytest.raises(ValueError, match=match):
        AdversarialPerturbation(FGSM(), tiny_network)(*change(img, img_label))


def test_transform_from_json_equals_the_one_from_python(img, img_label):
    config = {
        "network": {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": 3, "kernel_size": 1},
        "attack": {"_target_": "vafa_monai.attacks.FGSM", "eps": 0.05},
        "transform": {
            "_target_": "vafa_monai.transforms.AdversarialPerturbation",
            "attack": "@attack",
            "network": "@network",
        },
    }
    built = ConfigParser(config).get_parsed_content("transform")
    expected = AdversarialPerturbation(FGSM(eps=0.05), built.network)(img, img_label)
    assert torch.equal(built(img, img_label), expected)

"""Checkpoints are recognized by their entries, names and shapes, and nothing is said of them that they do not tell."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNETR
from torch import Tensor

from vafa_monai.networks.unetrpp import UNETRPP
from vafa_monai.sharing.convert import CheckpointForm, recognize_checkpoint

TRAINING = {"epoch": 1000, "plot_stuff": ([], [], [], []), "best_stuff": (None, None, None), "optimizer_state_dict": {}}
SUBSET = ["background", "spleen", "right kidney", "left kidney", "gallbladder", "liver", "stomach", "aorta", "pancreas"]


def unetr_weights(classes: int = 14, size: int = 96) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(UNETR(1, classes, (size,) * 3, hidden_size=24, mlp_dim=48, num_heads=2).state_dict())


def old(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = {name: tensor for name, tensor in weights.items() if "norm_cross_attn" not in name}
    return kept | {"vit.patch_embedding.cls_token": torch.zeros(1, 1, 24, device="meta")}


def unetrpp_weights(preset: str, **settings) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(UNETRPP.preset(preset, **settings).state_dict())


def recognize(weights, names=(), **entries):
    return recognize_checkpoint({"state_dict": weights, **entries}, names)


@pytest.mark.parametrize(
    ("preset", "settings", "form", "classes"),
    [
        ("synapse", {}, CheckpointForm.UNETRPP_SYNAPSE, SUBSET),
        ("synapse", {"out_channels": 3}, CheckpointForm.UNETRPP_SYNAPSE, None),
        ("acdc", {}, CheckpointForm.UNETRPP_ACDC, ["background", "right ventricle", "myocardium", "left ventricle"]),
        ("acdc", {"out_channels": 5}, CheckpointForm.UNETRPP_ACDC, None),
        ("acdc", {"img_size": (32, 32, 16), "stem_stride": (4, 4, 1)}, CheckpointForm.UNETRPP, None),
    ],
    ids=["Synapse", "other classes than Synapse", "ACDC", "other classes than ACDC", "another size"],
)
def test_published_unetrpp_is_told_by_its_size_and_record(preset, settings, form, classes):
    found = recognize(unetrpp_weights(preset, **settings), **TRAINING)
    assert found.form is form
    assert found.classes == classes
    assert found.expects.startswith("z-scored by nnU-Net, not scaled to [0, 1]") is (form is not CheckpointForm.UNETRPP)


def test_published_unetrpp_with_every_organ_of_btcv_has_the_raw_labels():
    found = recognize(unetrpp_weights("synapse", out_channels=14), **TRAINING)
    assert found.form is CheckpointForm.UNETRPP_SYNAPSE
    assert [found.classes[label] for label in (0, 1, 2, 3, 4, 6, 7, 8, 11)] == SUBSET


def test_unetrpp_without_the_record_of_nnunet_may_be_of_another_training():
    found = recognize(unetrpp_weights("synapse"), epoch=3)
    assert found.form is CheckpointForm.UNETRPP
    assert found.expects == "what the weights were trained on; the file does not record it"


@pytest.mark.parametrize(
    ("weights", "form", "told"),
    [
        (old(unetr_weights()), CheckpointForm.UNETR_OLD, True),
        (old(unetr_weights(classes=4)), CheckpointForm.UNETR_OLD, False),
        (old(unetr_weights(size=64)), CheckpointForm.UNETR_OLD, False),
        (unetr_weights(), CheckpointForm.UNETR, False),
    ],
    ids=["published size", "other classes", "other volumes", "today's"],
)
def test_unetr_is_told_by_its_names_and_the_published_one_by_its_size(weights, form, told):
    found = recognize(weights)
    assert found.form is form
    assert ("-175 to 250 HU" in found.expects) is told
    assert found.classes is None  # names and shapes do not tell them
    assert len(found.weights) == len(unetr_weights())


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "network."])
@pytest.mark.parametrize(
    ("weights", "names"),
    [(old(unetr_weights(classes=2, size=32)), ()), ({"0.weight": torch.ones(1)}, ["0.weight"])],
    ids=["UNETR", "any network"],
)
def test_prefixes_of_wrappers_are_removed(weights, names, prefix):
    found = recognize({prefix + name: tensor for name, tensor in weights.items()}, names)
    assert found.found.prefix == prefix
    assert set(found.found.weights) == set(weights)


def test_prefix_that_the_network_has_itself_stays():
    weights = {"model.0.conv.weight": torch.ones(1), "model.0.conv.bias": torch.ones(1)}
    found = recognize(weights, weights)
    assert (found.form, found.found.prefix, set(found.weights)) == (CheckpointForm.OTHER, "", set(weights))


def test_prefixes_that_lead_nowhere_stay_so_that_errors_name_what_the_file_holds():
    found = recognize({"module.a": torch.ones(1)}, ["b"])
    assert (found.form, found.found.prefix, set(found.weights)) == (CheckpointForm.OTHER, "", {"module.a"})


def test_prefix_that_not_every_name_has_stays():
    weights = {"module.0.weight": torch.ones(1), "0.bias": torch.ones(1)}
    assert recognize(weights, ["0.weight", "0.bias"]).found.prefix == ""


def test_checkpoint_without_a_state_dict_is_refused():
    with pytest.raises(ValueError, match="checkpoint must hold one state dict"):
        recognize_checkpoint(TRAINING, [])

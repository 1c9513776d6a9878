"""Attacked volumes as files: what was attacked is what is read back."""

from __future__ import annotations

import hashlib
import json

import nibabel as nib
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.handlers import MeanDice, from_engine
from monai.transforms import AsDiscreted, Compose, EnsureChannelFirstd, LoadImaged
from torch import nn
from torch.utils.data import Subset

from vafa_monai.attacks import FGSM, Identity
from vafa_monai.handlers import AdversarialSaver, AttackHandler
from vafa_monai.metrics import compute_image_quality
from vafa_monai.results.document import parse
from vafa_monai.results.record import AttackedVolume

ATTACK = FGSM(eps=0.05)


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "adversarial"


@pytest.fixture
def saver(folder, checkpoint):
    def build(attack=ATTACK, **settings):
        return AdversarialSaver(str(folder), attack, "fgsm", str(checkpoint), **settings)

    return build


@pytest.fixture
def attacked(cases):
    """Attack every case outside of an engine."""

    def run(network):
        return [ATTACK(*(case[key].as_tensor()[None] for key in ("image", "label")), network)[0] for case in cases]

    return run


def read(path):
    image = nib.load(path)
    return np.asanyarray(image.dataobj), image


def test_every_case_becomes_image_label_and_sidecar_and_nothing_else(folder, evaluator, saver, threshold_network):
    evaluator(threshold_network, [AttackHandler(ATTACK), saver()]).run()
    kinds = ("_image.nii.gz", "_label.nii.gz", ".json")
    expected = {f"case_{index}{kind}" for index in range(3) for kind in kinds}
    assert {path.name for path in folder.iterdir()} == expected


def test_volume_that_is_read_back_equals_the_attacked_one(
    folder, affine, attacked, evaluator, saver, threshold_network
):
    evaluator(threshold_network, [AttackHandler(ATTACK), saver()]).run()
    for index, adv in enumerate(attacked(threshold_network)):
        volume, image = read(folder / f"case_{index}_image.nii.gz")
        assert volume.dtype == image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(volume, adv[0].numpy())
        np.testing.assert_allclose(image.affine, affine.numpy(), rtol=0, atol=1e-6)


def test_label_holds_the_class_indices_at_the_same_place(folder, cases, affine, evaluator, saver, threshold_network):
    """The labels of the evaluator are one-hot by then."""
    evaluator(threshold_network, [AttackHandler(ATTACK), saver()]).run()
    for index, case in enumerate(cases):
        label, image = read(folder / f"case_{index}_label.nii.gz")
        assert label.dtype == np.uint8
        np.testing.assert_array_equal(label, case["label"][0].numpy())
        np.testing.assert_allclose(image.affine, affine.numpy(), rtol=0, atol=1e-6)


def test_sidecar_says_what_was_done(folder, cases, attacked, evaluator, saver, checkpoint, threshold_network):
    evaluator(threshold_network, [AttackHandler(ATTACK), saver(seed=9)]).run()
    for index, (case, adv) in enumerate(zip(cases, attacked(threshold_network), strict=True)):
        sidecar = json.loads((folder / f"case_{index}.json").read_text(encoding="utf-8"))
        parse(AttackedVolume, sidecar, f"case_{index}.json")
        quality = compute_image_quality(adv[None], case["image"].as_tensor()[None])[0]
        assert (sidecar["case"], sidecar["seed"]) == (f"case_{index}", 9)
        assert sidecar["attack"]["name"] == "fgsm"
        assert sidecar["attack"]["settings"]["eps"] == 0.05
        assert sidecar["checkpoint"] == {"path": str(checkpoint), "sha256": hashlib.sha256(b"weights").hexdigest()}
        assert [sidecar["rms_grey"], sidecar["linf_grey"]] == pytest.approx(quality[2:].tolist(), rel=1e-5)
        assert {"vafa_monai", "monai", "torch", "python"} <= set(sidecar["versions"])


def test_score_of_the_volumes_that_were_read_back_is_that_of_the_attack(folder, evaluator, saver, threshold_network):
    def dice():
        metric = MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))
        return {"key_val_metric": {"dice": metric}}

    first = evaluator(threshold_network, [AttackHandler(ATTACK), saver()], **dice())
    first.run()
    files = [{key: folder / f"case_{index}_{key}.nii.gz" for key in ("image", "label")} for index in range(3)]
    preprocessing = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])
    loader = DataLoader(Dataset(files, preprocessing), batch_size=3)
    again = evaluator(threshold_network, [], val_data_loader=loader, **dice())
    again.run()
    assert first.state.metrics["dice"] < 0.9
    assert again.state.metrics["dice"] == first.state.metrics["dice"]


def test_volume_without_a_change_is_the_clean_one(folder, cases, evaluator, saver, threshold_network):
    evaluator(threshold_network, [AttackHandler(Identity()), saver(Identity())]).run()
    np.testing.assert_array_equal(read(folder / "case_1_image.nii.gz")[0], cases[1]["image"][0].numpy())
    assert json.loads((folder / "case_1.json").read_text())["linf_grey"] == 0


def test_gray_levels_of_the_sidecar_are_those_of_value_range(folder, cases, evaluator, saver, threshold_network):
    attack = FGSM(eps=0.05, value_range=(0.0, 4.0))
    evaluator(threshold_network, [AttackHandler(attack), saver(attack)]).run()
    sidecar = json.loads((folder / "case_0.json").read_text())
    assert sidecar["linf_grey"] == pytest.approx(0.05 * 255, rel=1e-4)


def test_volumes_that_were_written_are_whole(folder, evaluator, cases, saver, threshold_network):
    """The second batch cannot be attacked: the cases of the first are complete, of the third there is nothing."""
    cases[2]["image"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="inputs must be finite"):
        evaluator(threshold_network, [AttackHandler(ATTACK), saver()]).run()
    assert len(list(folder.iterdir())) == 6
    assert not list(folder.glob("case_2*"))


def test_volume_that_does_not_know_its_file_is_refused(evaluator, cases, saver, threshold_network):
    for case in cases:
        case["image"] = MetaTensor(case["image"].as_tensor())
    with pytest.raises(ValueError, match="image must know its file, got no metadata; load it with LoadImaged"):
        evaluator(threshold_network, [AttackHandler(ATTACK), saver()]).run()


def test_files_are_there_when_an_iteration_is_over(folder, evaluator, probe, saver, threshold_network):
    counts = probe(Events.ITERATION_COMPLETED, lambda engine: len(list(folder.glob("*_image.nii.gz"))))
    evaluator(threshold_network, [AttackHandler(ATTACK), saver(), counts]).run()
    assert counts.found == [2, 3]


def test_handler_can_be_built_from_json(folder, checkpoint):
    config = {
        "_target_": "vafa_monai.handlers.AdversarialSaver",
        "output_dir": str(folder),
        "attack": {"_target_": "vafa_monai.attacks.FGSM"},
        "attack_name": "fgsm",
        "checkpoint": str(checkpoint),
        "seed": 3,
    }
    handler = ConfigParser({"handler": config}).get_parsed_content("handler")
    assert (handler.output_dir, handler.about["seed"]) == (folder, 3)
    assert handler.about["attack"]["settings"]["_target_"] == "vafa_monai.attacks.FGSM"


def test_sidecar_has_physical_units_and_the_strength(folder, evaluator, saver, threshold_network):
    attack = FGSM(eps=0.05)
    window = {"physical_range": (-175, 250), "physical_unit": "HU"}
    evaluator(threshold_network, [AttackHandler(attack), saver(attack, **window)]).run()
    sidecar = json.loads((folder / "case_0.json").read_text())
    assert sidecar["linf_HU"] == pytest.approx(0.05 * 425, rel=1e-4)
    assert sidecar["rms_HU"] == pytest.approx(sidecar["rms_grey"] * 425 / 255)
    assert sidecar["attack"]["strength"]["eps"] == {"fraction": 0.05, "grey_levels": 12.75, "HU": 21.25}


def test_equal_names_in_different_folders_are_refused_before_the_first_attack(
    folder, evaluator, saver, cases, threshold_network
):
    cases[1]["image"].meta["filename_or_obj"] = "elsewhere/case_0.nii"
    with pytest.raises(ValueError, match="cases must have file names that differ, got 'case_0' twice"):
        evaluator(threshold_network, [AttackHandler(ATTACK), saver()]).run()
    assert not folder.exists()


def test_equal_names_that_no_list_tells_are_refused_at_the_second(folder, evaluator, saver, cases, threshold_network):
    cases[2]["image"].meta["filename_or_obj"] = "elsewhere/case_0.nii"
    unlisted = DataLoader(Subset(Dataset(cases), [0, 1, 2]), batch_size=1)
    with pytest.raises(ValueError, match="cases must have file names that differ, got 'case_0' twice"):
        evaluator(threshold_network, [AttackHandler(ATTACK), saver()], val_data_loader=unlisted).run()
    assert json.loads((folder / "case_0.json").read_text())["case"] == "case_0"
    assert (folder / "case_1_image.nii.gz").is_file()


def test_a_folder_that_cannot_be_written_is_refused_before_the_first_attack(
    folder, evaluator, saver, threshold_network
):
    folder.write_text("in the way")
    seen = []
    with pytest.raises(ValueError, match=r"output must be a place that can be written to, got .*case_0\.json"):
        evaluator(threshold_network, [AttackHandler(lambda *arguments: seen.append(1)), saver()]).run()
    assert not seen


def test_second_run_of_the_evaluator_replaces_the_first(folder, evaluator, saver, threshold_network):
    engine = evaluator(threshold_network, [AttackHandler(ATTACK), saver()])
    engine.run()
    engine.run()
    assert len(list(folder.glob("*.json"))) == 3


UNFIT = {
    "one-hot": (
        lambda label: torch.cat([label == organ for organ in range(3)]),
        r"class indices in one channel, got 3 channels",
    ),
    "scaled": (lambda label: label * 0.999999, r"whole numbers as class indices, got [01]\.99999"),
    "beyond a byte": (lambda label: label + 255, r"class indices from 0 to 255, got 25[67]"),
    "negative": (lambda label: label - 1, r"class indices from 0 to 255, got -1"),
}


@pytest.mark.parametrize(("spoil", "match"), UNFIT.values(), ids=UNFIT.keys())
def test_labels_that_a_byte_would_change_are_refused(spoil, match, evaluator, saver, cases, threshold_network):
    for case in cases:
        case["native_label"] = spoil(case["label"])
    with pytest.raises(ValueError, match=f"native_label of case_0 must hold {match}"):
        evaluator(threshold_network, [AttackHandler(ATTACK), saver()]).run()


def test_regions_are_written_with_their_channels_and_read_again(folder, evaluator, saver, cases):
    """The file has them along its last axis, from where MONAI takes them back."""
    for case in cases:
        regions = torch.cat([case["label"].as_tensor() >= low for low in (1, 2)]).float()
        case["label"] = MetaTensor(regions, affine=case["label"].affine)
    network, attack = nn.Conv3d(1, 2, 1), FGSM(eps=0.05, output="sigmoid")
    threshold = AsDiscreted("pred", threshold=0.0)
    evaluator(network, [AttackHandler(attack), saver(attack=attack)], postprocessing=threshold).run()
    back = Compose([LoadImaged("label"), EnsureChannelFirstd("label")])({"label": folder / "case_0_label.nii.gz"})
    assert torch.equal(back["label"].as_tensor(), cases[0]["label"].as_tensor())
    for case in cases:
        case["native_label"] = 2 * case["label"]
    with pytest.raises(ValueError, match="native_label of case_0 must hold 0 or 1 in each channel of a sigmoid, got 2"):
        evaluator(network, [AttackHandler(attack), saver(attack=attack)], postprocessing=threshold).run()

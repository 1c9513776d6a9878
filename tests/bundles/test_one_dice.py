"""Audit and evaluation give one DSC: that of the files, on a case that the bundle resamples."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch

from vafa_monai.attacks.ensemble import class_dice
from vafa_monai.audit import mean_dice
from vafa_monai.results import load_results
from vafa_monai.runs import BundleRun, shipped_bundle
from vafa_monai.runs.audit import audit_settings
from vafa_monai.runs.bundle_model import BundleModel

NAME = "synapse_unetr_segmentation"
SPACING = np.diag([-1.1, 2.3, 4.0, 1.0])  # mm, left to right mirrored; the bundle takes 1.5, 1.5, 2.0
SHAPE = (34, 17, 13)
CLASSES = 14
STEP = 20  # HU from class to class
NETWORK = {"_target_": "torch.nn.Conv3d", "in_channels": 1, "out_channels": CLASSES, "kernel_size": 1}


def write_case(folder, number, organs):
    """Write noisy organs side by side in noise; most classes are absent."""
    rng = np.random.default_rng(number)
    label = np.zeros(SHAPE, np.uint8)
    for place, organ in enumerate(organs):
        label[4 + 9 * place : 12 + 9 * place, 3:13, 2:10] = organ
    image = (STEP * label + rng.normal(0, 8, SHAPE)).clip(-175, 250).astype(np.int16)
    case = {kind: f"{kind}_{number}.nii.gz" for kind in ("image", "label")}
    for kind, volume in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(volume, SPACING), folder / case[kind])
    return case


def nearest_class():
    """Return weights of a network that gives every voxel the class whose intensity is nearest."""
    means = (STEP * torch.arange(float(CLASSES)) + 175) / 425
    return {"weight": 2 * means.view(-1, 1, 1, 1, 1), "bias": -means.square()}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """The clean result that the evaluation wrote, and what the audit measures of the same weights."""
    data, place = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("bundle") / NAME
    cases = [write_case(data, number, organs) for number, organs in enumerate([(1, 6, 11), (6, 8), ()])]
    (data / "dataset.json").write_text(json.dumps({"test": cases, "training": [], "validation": []}))
    shutil.copytree(shipped_bundle(NAME), place)
    overrides = {"dataset_dir": str(data), "device": "cpu", "num_workers": 0, "network_def": NETWORK}
    overrides |= {"roi_size": [16, 16, 16]}
    (place / "models").mkdir(exist_ok=True)
    torch.save(nearest_class(), place / "models" / "model.pt")
    BundleRun(bundle=place, overlays=["evaluate"], overrides=overrides).run("validate#evaluator")
    model = BundleModel(bundle=place, checkpoint=place / "models" / "model.pt", overrides=overrides)
    subject = model.audited(audit_settings(model, {}))
    return load_results(place / "eval" / "results")[0], subject


def test_dice_of_every_class_is_that_of_the_evaluation(measured):
    result, subject = measured
    assert [case.case for case in result.cases] == [outcome.case for outcome in subject.clean]
    assert subject.grid == "files"
    for case, outcome in zip(result.cases, subject.clean, strict=True):
        expected = torch.tensor([float("nan") if value is None else value for value in case.dice])
        torch.testing.assert_close(outcome.dice, expected, atol=1e-6, rtol=0, equal_nan=True)


def test_a_class_that_the_truth_does_not_have_is_undefined_in_both(measured):
    result, subject = measured
    known = [[place for place, value in enumerate(case.dice) if value is not None] for case in result.cases]
    assert known == [[0, 1, 6, 11], [0, 6, 8], [0]]
    assert [outcome.dice.isfinite().nonzero().flatten().tolist() for outcome in subject.clean] == known


def test_mean_is_that_of_the_evaluation(measured):
    result, subject = measured
    assert mean_dice(subject.clean) == pytest.approx(result.summary["dice"], abs=1e-6)
    assert all(value > 0.1 for case in result.cases for value in case.dice if value is not None)


def test_the_grid_of_the_network_would_give_another(measured):
    _, subject = measured
    case, outcome = subject.cases[0], subject.clean[0]
    assert case.image.shape[2:] != SHAPE
    there = class_dice(subject.logits(case.image), case.label)[0]
    assert (there - outcome.dice).abs().nan_to_num(0).max() > 1e-3

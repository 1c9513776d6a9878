"""The result file: its schema, its numbers, and that it is whole or absent."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset, MetaTensor
from monai.inferers import SlidingWindowInferer
from monai.transforms import Activationsd, AsDiscreted, Compose
from scipy.spatial.distance import cdist
from torch import nn

from vafa_monai import results
from vafa_monai.attacks import FGSM, AttackEnsemble, Identity, RangeAdapter, SquareAttack
from vafa_monai.handlers import AttackHandler, RobustnessReport
from vafa_monai.metrics import compute_image_quality
from vafa_monai.reports.row import ensemble_rows
from vafa_monai.results import load_results
from vafa_monai.results.provenance import listed_names

SPACING = (1.5, 0.8, 2.5)
CLASSES = ("air", "gray", "white")
ATTACK = FGSM(eps=0.05)
SCHEMA = json.loads((Path(results.__file__).parent / "schemas" / "result.schema.json").read_text())


@pytest.fixture(autouse=True)
def no_lpips_weights(tmp_path, monkeypatch):
    """No AlexNet of this machine decides about these tests."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(b"weights")
    return path


@pytest.fixture
def report(tmp_path, checkpoint):
    """Build a report of ``results/standard/<attack_name>.json``."""

    def build(attack=ATTACK, attack_name="fgsm", **settings):
        about = {"checkpoint": str(checkpoint), "classes": CLASSES, "seed": 4} | settings
        return RobustnessReport(str(tmp_path / "results"), "standard", attack_name, attack, **about)

    return build


@pytest.fixture
def document_after(evaluator, report):
    """Run an evaluator under an attack and with a report; return the JSON document, in which NaN is an error."""

    def refuse(constant):
        raise AssertionError(constant)

    def run(network, attack=ATTACK, **settings):
        handler = report(attack, **settings)
        evaluator(network, [AttackHandler(attack), handler]).run()
        return json.loads(handler.path.read_text(encoding="utf-8"), parse_constant=refuse)

    return run


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def surface(mask):
    """Positions in mm of the voxels of a mask with a neighbor outside."""
    padded = np.pad(mask, 1)
    inner = padded.copy()
    for axis in range(3):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return np.argwhere(padded & ~inner) * SPACING


def organ_scores(pred, truth):
    """Dice, HD95 in mm and surface Dice at 1 mm of one class; ``None`` where the truth has none."""
    if not truth.any():
        return None, None if not pred.any() else math.nan, None
    between = cdist(surface(pred), surface(truth))
    ways = between.min(1), between.min(0)
    hd95 = max(np.percentile(way, 95) for way in ways)
    return 2 * (pred & truth).sum() / (pred.sum() + truth.sum()), hd95, np.mean(np.concatenate(ways) <= 1.0)


def expected_of(case, network):
    """Measure a case without any of the handlers."""
    image, label = (case[key].as_tensor()[None] for key in ("image", "label"))
    adv = ATTACK(image, label, network)
    pred, truth = network(adv).argmax(1)[0].numpy(), label[0, 0].numpy()
    scores = [organ_scores(pred == index, truth == index) for index in range(3)]
    quality = compute_image_quality(adv, image)[0].tolist()
    return SimpleNamespace(
        dice=[dice for dice, _, _ in scores],
        hd95=[None, *(distance for _, distance, _ in scores[1:])],
        nsd=[None, *(share for _, _, share in scores[1:])],
        quality=dict(zip(("ssim", "psnr_db", "rms_grey", "linf_grey"), quality, strict=True)),
    )


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


def test_numbers_of_every_case_equal_an_independent_computation(cases, document_after, threshold_network):
    document = document_after(threshold_network)
    assert [case["case"] for case in document["cases"]] == ["case_0", "case_1", "case_2"]
    for found, case in zip(document["cases"], cases, strict=True):
        expected = expected_of(case, threshold_network)
        assert found["dice"] == pytest.approx(expected.dice, abs=1e-6)
        assert found["hd95_mm"] == pytest.approx(expected.hd95, abs=1e-5)
        assert found["nsd"] == pytest.approx(expected.nsd, abs=1e-6)
        assert {key: found[key] for key in expected.quality} == pytest.approx(expected.quality, rel=1e-5)
    assert document["cases"][2]["dice"][2] is None  # the case has no bright tissue


def test_summary_is_the_mean_over_cases_of_the_mean_over_the_organs_they_have(cases, document_after, threshold_network):
    summary = document_after(threshold_network)["summary"]
    expected = [expected_of(case, threshold_network) for case in cases]
    assert summary["dice"] == pytest.approx(mean([mean(case.dice[1:]) for case in expected]), abs=1e-6)
    assert summary["dice_with_background"] == pytest.approx(mean([mean(case.dice) for case in expected]), abs=1e-6)
    assert summary["hd95_mm"] == pytest.approx(mean([mean(case.hd95) for case in expected]), abs=1e-5)
    assert summary["nsd"] == pytest.approx(mean([mean(case.nsd) for case in expected]), abs=1e-6)
    for name in ("ssim", "psnr_db", "rms_grey", "linf_grey"):
        assert summary[name] == pytest.approx(mean([case.quality[name] for case in expected]), rel=1e-5)


def test_lost_and_invented_organs_are_counted_by_case_and_in_all(document_after, threshold_network):
    with torch.no_grad():
        threshold_network.bias[1] -= 100  # no voxel is gray; bright begins at 0.5
    document = document_after(threshold_network, Identity())
    assert [(case["lost"], case["invented"]) for case in document["cases"]] == [(1, 0), (1, 0), (1, 1)]
    assert (document["summary"]["lost"], document["summary"]["invented"]) == (3, 1)


def test_result_can_be_loaded_and_says_what_was_done(tmp_path, document_after, checkpoint, threshold_network):
    document = document_after(threshold_network, role="control")
    (result,) = load_results(tmp_path / "results")
    assert document["schema"] == "vafa_monai.result/1"
    jsonschema.validate(document, SCHEMA)
    assert document.keys() <= SCHEMA["properties"].keys()
    assert (result.model, result.attack, result.role, result.seed) == ("standard", "fgsm", "control", 4)
    assert result.classes == CLASSES
    assert result.settings["_target_"] == "vafa_monai.attacks.FGSM"
    assert result.settings["eps"] == 0.05
    assert result.checkpoint == {"path": str(checkpoint), "sha256": hashlib.sha256(b"weights").hexdigest()}
    assert {"vafa_monai", "monai", "torch", "numpy", "python"} <= set(result.versions)
    assert (result.device, result.seconds >= 0) == ("cpu", True)
    assert result.summary["dice"] == document["summary"]["dice"]


def test_what_is_undefined_or_infinite_is_null(document_after, threshold_network):
    document = document_after(threshold_network, Identity())
    assert document["summary"]["dice"] == 1
    assert document["summary"]["psnr_db"] is None
    assert document["summary"]["lpips"] is None
    assert all(case["hd95_mm"][0] is None for case in document["cases"])


def test_absent_lpips_is_noted(document_after, threshold_network):
    (note,) = document_after(threshold_network)["notes"]
    assert note.startswith("LPIPS is absent")


def test_image_quality_can_be_left_out(tmp_path, evaluator, report, threshold_network):
    """As for volumes that were read back, of which no clean version is at hand."""
    evaluator(threshold_network, [report(image_quality=False)]).run()
    (result,) = load_results(tmp_path / "results")
    assert (result.summary["dice"], result.summary["rms_grey"], result.notes) == (1, None, ())


def test_value_range_scales_the_gray_levels(document_after, threshold_network):
    summary = document_after(threshold_network, value_range=(-1.0, 3.0))["summary"]
    assert summary["linf_grey"] == pytest.approx(0.05 * 255 / 4, rel=1e-4)


def test_tolerance_is_that_of_the_surface_dice(document_after, threshold_network):
    shares = [document_after(threshold_network, tolerance=mm)["summary"]["nsd"] for mm in (0.5, 1.0, 50.0)]
    assert shares[0] < shares[1] < shares[2] == 1


def test_slice_is_the_middle_one_of_the_first_case(tmp_path, cases, document_after, threshold_network):
    document = document_after(threshold_network)
    assert document["slices"] == "fgsm.npz"
    image, label = (cases[0][key].as_tensor()[None] for key in ("image", "label"))
    adv = ATTACK(image, label, threshold_network)
    with np.load(tmp_path / "results" / "standard" / "fgsm.npz") as arrays:
        assert str(arrays["case"]) == "case_0"
        np.testing.assert_array_equal(arrays["clean"], image[0, 0, ..., 3].numpy())
        np.testing.assert_array_equal(arrays["adv"], adv[0, 0, ..., 3].numpy())
        np.testing.assert_array_equal(arrays["label"], label[0, 0, ..., 3].numpy())
        np.testing.assert_array_equal(arrays["pred"], threshold_network(adv).argmax(1)[0, ..., 3].numpy())


def test_second_run_of_the_evaluator_replaces_the_first(tmp_path, evaluator, report, threshold_network):
    handler = report()
    engine = evaluator(threshold_network, [AttackHandler(ATTACK), handler])
    for _ in range(2):
        engine.run()
        document = json.loads(handler.path.read_text())
        assert len(document["cases"]) == 3
    assert files_of(tmp_path / "results") == ["standard/fgsm.json", "standard/fgsm.npz"]


def test_metrics_of_the_engine_have_known_names(evaluator, report, threshold_network):
    engine = evaluator(threshold_network, [AttackHandler(ATTACK), report()])
    engine.run()
    names = {"val_dice", "val_hd95_mm", "val_nsd", "lost_organs", "invented_organs", "ssim", "rms_grey", "lpips"}
    assert names <= set(engine.state.metrics)


def test_run_that_fails_leaves_nothing(tmp_path, evaluator, report, cases, threshold_network):
    cases[2]["image"][0, 0, 0, 0] = float("nan")  # the second batch
    with pytest.raises(ValueError, match="inputs must be finite"):
        evaluator(threshold_network, [AttackHandler(ATTACK), report()]).run()
    assert not (tmp_path / "results").exists()


def test_run_that_fails_leaves_the_last_result(tmp_path, evaluator, document_after, report, cases, threshold_network):
    before = document_after(threshold_network)
    cases[2]["image"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="inputs must be finite"):
        evaluator(threshold_network, [AttackHandler(ATTACK), report()]).run()
    assert json.loads((tmp_path / "results" / "standard" / "fgsm.json").read_text()) == before


def test_checkpoint_that_is_gone_leaves_nothing(tmp_path, evaluator, report, checkpoint, threshold_network):
    checkpoint.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.pt"):
        evaluator(threshold_network, [AttackHandler(ATTACK), report()]).run()
    assert files_of(tmp_path) == []


def test_volume_that_does_not_know_its_file_is_refused(evaluator, report, cases, threshold_network):
    del cases[0]["image"].meta["filename_or_obj"]
    del cases[1]["image"].meta["filename_or_obj"]
    with pytest.raises(ValueError, match="image must know its file, got no metadata; load it with LoadImaged"):
        evaluator(threshold_network, [AttackHandler(ATTACK), report()]).run()


def test_unknown_role_is_refused(report):
    with pytest.raises(ValueError, match='role must be "attack" or "control", got \'baseline\''):
        report(role="baseline")


def test_handler_can_be_built_from_json(tmp_path, checkpoint):
    config = {
        "_target_": "vafa_monai.handlers.RobustnessReport",
        "output_dir": str(tmp_path),
        "model_name": "hardened",
        "attack_name": "fgsm",
        "attack": {"_target_": "vafa_monai.attacks.FGSM", "eps": 0.05},
        "checkpoint": str(checkpoint),
        "classes": list(CLASSES),
    }
    handler = ConfigParser({"handler": config}).get_parsed_content("handler")
    assert handler.path == tmp_path / "hardened" / "fgsm.json"
    assert handler.about["attack"]["settings"]["eps"] == 0.05


def test_volumes_of_organs_are_in_milliliters(cases, document_after, threshold_network):
    """Voxels of 1.5 x 0.8 x 2.5 mm are 3 mm^3 each."""
    document = document_after(threshold_network)
    for found, case in zip(document["cases"], cases, strict=True):
        image, label = (case[key].as_tensor()[None] for key in ("image", "label"))
        pred = threshold_network(ATTACK(image, label, threshold_network)).argmax(1)
        for name, mask in (("pred", pred), ("truth", label)):
            expected = [0.003 * (mask == index).sum().item() for index in range(3)]
            assert found["volume_ml"][name] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("attack", "cost"),
    [
        (Identity(), {"forward": 0, "backward": 0}),
        (ATTACK, {"forward": 3, "backward": 3}),
        (SquareAttack(queries=5), {"forward": 15, "backward": 0}),
    ],
    ids=["identity", "fgsm", "square"],
)
def test_cost_is_that_of_the_attack_on_all_cases(attack, cost, tmp_path, document_after, threshold_network):
    assert document_after(threshold_network, attack)["cost"] == cost
    (result,) = load_results(tmp_path / "results")
    assert {"forward": result.forward, "backward": result.backward} == cost


def test_without_an_attack_handler_there_is_no_cost(tmp_path, evaluator, report, threshold_network):
    evaluator(threshold_network, [report(image_quality=False)]).run()
    (result,) = load_results(tmp_path / "results")
    assert (result.forward, result.backward) == (None, None)


def test_result_of_an_ensemble_has_its_members_and_its_name(tmp_path, cases, document_after, threshold_network):
    ensemble = AttackEnsemble(eps=0.05, block_size=(4, 4, 4), steps=2, queries=3)
    document = document_after(threshold_network, ensemble)
    image, label = (torch.stack([case[key].as_tensor() for case in cases]) for key in ("image", "label"))
    details = ensemble.run(image, label, threshold_network).details()
    for found, expected in zip(document["cases"], details, strict=True):
        assert found["attack_details"]["worst_member"] == expected["worst_member"]
        worst = found["attack_details"]["members"][expected["worst_member"]]["dice"]
        assert found["dice"] == pytest.approx(worst, abs=1e-5)
    assert document["attack"]["settings"]["name"] == "VolAA 1 (steps 2, queries 3)"
    (result,) = load_results(tmp_path / "results")
    assert [row.member for row in ensemble_rows([result])] == list(ensemble.members)


def test_result_states_the_strength_and_what_intensities_mean(document_after, threshold_network):
    attack = FGSM(eps=4 / 255)
    document = document_after(threshold_network, attack, physical_range=(-175, 250), physical_unit="HU")
    expected = {"fraction": 0.015686, "grey_levels": 4.0, "HU": 6.666667}
    assert document["attack"]["strength"] == {"eps": expected, "step_size": expected}
    intensity = {"value_range": [0.0, 1.0], "physical_range": [-175, 250], "physical_unit": "HU"}
    assert document["intensity"] == intensity
    assert document["windows_per_gradient"] is None


def test_standardized_cases_have_the_figures_of_the_same_cases_in_the_unit_range(
    tmp_path, evaluator, report, cases, threshold_network
):
    """Every case is shifted and stretched; the adapter attacks, and the report measures, in the range of each."""

    def figures(attack, network, **settings):
        handler = report(attack, **settings)
        evaluator(network, [AttackHandler(attack), handler]).run()
        return json.loads(handler.path.read_text())["cases"]

    for case in cases:
        case["image"][0, 0, 0, 0], case["image"][0, 0, 0, 1] = 0, 1  # the whole of [0, 1]
    expected = figures(FGSM(eps=0.05), threshold_network)
    for case in cases:
        case["image"] = 3 * case["image"] - 1
    shifted = torch.nn.Sequential(Unscaled(), threshold_network)
    found = figures(RangeAdapter(attack=FGSM(eps=0.05)), shifted, value_range=None)
    for one, other in zip(found, expected, strict=True):
        assert one["dice"] == other["dice"]
        for name in ("ssim", "psnr_db", "rms_grey", "linf_grey"):
            assert one[name] == pytest.approx(other[name], abs=2e-3)


class Unscaled(torch.nn.Module):
    """What brings 3 x - 1 back to x."""

    def forward(self, volume):
        return (volume + 1) / 3


def test_half_a_physical_unit_is_refused(report):
    with pytest.raises(ValueError, match="physical_unit must come with physical_range"):
        report(physical_range=(-175, 250))


# Where a result is from


def test_case_has_the_hashes_of_its_files_and_the_look_of_its_clean_image(cases, document_after, tmp_path):
    image = tmp_path / "case_0.nii.gz"
    image.write_bytes(b"an image")
    cases[0]["image"].meta["filename_or_obj"] = str(image)
    network = torch.nn.Conv3d(1, 3, 1)
    first, second, _ = document_after(network)["cases"]
    assert first["files"] == {"image": hashlib.sha256(b"an image").hexdigest(), "label": None}
    assert second["files"] == {"image": None, "label": None}  # no such file
    plain = cases[0]["image"].as_tensor().double()
    assert first["input"]["shape"] == list(plain.shape)
    assert first["input"]["mean"] == pytest.approx(plain.mean().item(), abs=1e-6)
    assert first["input"]["std"] == pytest.approx(plain.std(correction=0).item(), abs=1e-6)


def test_way_of_evaluation_is_told_but_not_how_fast_it_is(evaluator, report, threshold_network):
    found = []
    for overlap, at_once in ((0.25, 1), (0.25, 2), (0.5, 1)):
        handler = report(tolerance=2.0)
        inferer = SlidingWindowInferer(roi_size=(8, 8, 4), sw_batch_size=at_once, overlap=overlap)
        evaluator(threshold_network, [AttackHandler(ATTACK), handler], inferer=inferer).run()
        found.append(json.loads(handler.path.read_text())["evaluation"])
    assert found[0] == found[1] != found[2]
    assert found[0]["inferer"]["roi_size"] == [8, 8, 4]
    assert (found[0]["nsd_tolerance_mm"], found[0]["amp"]) == (2.0, False)


def test_checkpoint_replaced_during_the_run_gives_its_name_to_nothing(evaluator, report, checkpoint, threshold_network):
    class Retrained(Identity):
        def run(self, inputs, targets, network):
            checkpoint.write_bytes(b"other weights")
            return super().run(inputs, targets, network)

    handler = report()
    with pytest.raises(ValueError, match=r"checkpoint changed while it was evaluated: \w{12} before and"):
        evaluator(threshold_network, [AttackHandler(Retrained()), handler]).run()
    assert not handler.path.exists()


def test_result_that_cannot_be_written_is_refused_before_the_first_case(evaluator, report, threshold_network, tmp_path):
    (tmp_path / "results").write_text("in the way")
    seen = []
    handlers = [AttackHandler(lambda *arguments: seen.append(1)), report()]
    with pytest.raises(ValueError, match=r"output must be a place that can be written to, got .*fgsm\.json"):
        evaluator(threshold_network, handlers).run()
    assert not seen


def constant_logits(channels, value=0.0):
    """A network whose logits are a number everywhere."""
    network = nn.Conv3d(1, channels, 1)
    with torch.no_grad():
        network.weight.zero_()
        network.bias.fill_(value)
    return network.eval()


def refused(evaluator, network, handlers, match, **settings):
    with pytest.raises(ValueError, match=match):
        evaluator(network, handlers, **settings).run()


@pytest.mark.parametrize(
    ("channels", "classes"), [(1, ("organ", "lesion")), (4, CLASSES), (2, CLASSES), (3, ("a", "b"))]
)
def test_network_whose_channels_are_not_the_classes_has_no_result(channels, classes, tmp_path, evaluator, report):
    match = rf"network must return one channel for each of {len(classes)} classes, .*, got {channels}; one channel, or"
    refused(evaluator, constant_logits(channels), [report(classes=classes)], match)
    assert not (tmp_path / "results").exists()


SIGMOID = Compose([Activationsd("pred", sigmoid=True), AsDiscreted("pred", threshold=0.5)])


def with_regions(cases):
    """Give every case regions that overlap: gray or white, and white."""
    for case in cases:
        regions = torch.cat([case["label"] >= low for low in (1.0, 2.0)]).float()
        case["label"] = MetaTensor(regions.as_tensor(), affine=case["label"].affine)


def test_regions_under_a_sigmoid_have_no_result_of_a_softmax(tmp_path, evaluator, report, cases):
    """They would lose their first, which is taken for the background."""
    with_regions(cases)
    match = "y must have one class a voxel at most, got classes that overlap; one channel, or several"
    handlers = [report(classes=("whole", "core"), image_quality=False)]
    refused(evaluator, constant_logits(2), handlers, match, postprocessing=SIGMOID)
    match = "targets must have one channel of class indices, got 2; labels of one channel, or several"
    refused(evaluator, constant_logits(2), [AttackHandler(Identity())], match, postprocessing=SIGMOID)
    assert not (tmp_path / "results").exists()


class Bright(nn.Module):
    """Say yes of what is bright, and of what is brighter."""

    def forward(self, inputs):
        return 10 * torch.cat([inputs - 0.45, inputs - 0.6], 1)


@pytest.mark.parametrize("kind", [FGSM, AttackEnsemble])
def test_regions_are_measured_each_by_itself(kind, evaluator, report, cases):
    with_regions(cases)
    small = {"block_size": (4, 4, 4), "steps": 2, "queries": 3} if kind is AttackEnsemble else {}
    attack, network = kind(eps=0.05, output="sigmoid", **small), Bright().eval()
    handler = report(attack, classes=("whole", "core"))
    evaluator(network, [AttackHandler(attack), handler], postprocessing=SIGMOID).run()
    document = json.loads(handler.path.read_text())
    jsonschema.validate(document, SCHEMA)
    assert document["classes"] == ["background", "whole", "core"]
    for case, found in zip(cases, document["cases"], strict=True):
        image, label = (case[key].as_tensor()[None] for key in ("image", "label"))
        pred = (network(attack(image, label, network)) > 0)[0].numpy()
        scores = [organ_scores(*masks) for masks in zip(pred, label[0].bool().numpy(), strict=True)]
        for name, column in zip(("dice", "hd95_mm", "nsd"), zip(*scores, strict=True), strict=True):
            assert found[name] == [None, *(pytest.approx(value, abs=1e-5) for value in column)]
        voxel = math.prod(SPACING) / 1000
        outside = (~label[0].bool().any(0)).sum().item()
        truth = [outside * voxel, *(label[0].sum((1, 2, 3)) * voxel).tolist()]
        assert found["volume_ml"]["truth"] == pytest.approx(truth, rel=1e-4)
    (result,) = load_results(handler.path.parents[1])
    known = [[value for value in case["dice"] if value is not None] for case in document["cases"]]
    assert result.summary["dice"] == pytest.approx(np.mean([np.mean(row) for row in known]), abs=1e-5)
    if kind is AttackEnsemble:
        rows = {row.member: row.dice for row in ensemble_rows([result])}
        assert min(rows.values()) >= result.summary["dice"] - 1e-6
    snapshot = np.load(handler.path.with_suffix(".npz"))
    middle = cases[0]["label"].shape[-1] // 2
    assert np.array_equal(snapshot["label"], cases[0]["label"].sum(0)[..., middle].numpy())


def test_organs_without_a_background_have_no_result(tmp_path, evaluator, report, cases):
    for case in cases:
        case["label"] = MetaTensor(torch.cat([case["label"] == organ for organ in (1, 2)]).float())
    handlers = [report(classes=("gray", "white"), image_quality=False)]
    match = "y must have one class a voxel, background first, got voxels of none; one channel, or several"
    refused(evaluator, constant_logits(2, -1.0), handlers, match, postprocessing=SIGMOID)


def test_predictions_without_argmax_have_no_result(evaluator, report, threshold_network):
    soft = Compose([Activationsd("pred", softmax=True), AsDiscreted("label", to_onehot=3)])
    match = r"y_pred must hold masks of 0 and 1, got 0\.\d+"
    refused(evaluator, threshold_network, [AttackHandler(ATTACK), report()], match, postprocessing=soft)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_logits_that_are_not_finite_have_no_result(bad, tmp_path, evaluator, report):
    """Their argmax is a class as good as any, of which a DSC can be computed."""
    match = "network must return finite logits, got NaN or infinite ones; check its weights"
    refused(evaluator, constant_logits(3, bad), [AttackHandler(Identity()), report()], match)
    assert not (tmp_path / "results").exists()


BAD_LABELS = {
    "scaled": (lambda label: label * 0.999999, r"whole numbers as class indices, got [01]\.99999"),
    "negative": (lambda label: label - 1, r"class indices from 0 to 2, got -1"),
    "too large": (lambda label: label + 1, r"class indices from 0 to 2, got 3"),
    "nan": (lambda label: label / label, r"whole numbers as class indices, got nan"),
}


@pytest.mark.parametrize("key", ["label", "native_label"])
@pytest.mark.parametrize(("spoil", "match"), BAD_LABELS.values(), ids=BAD_LABELS.keys())
def test_labels_that_are_no_classes_have_no_result(key, spoil, match, evaluator, report, cases, threshold_network):
    for case in cases:
        case[key] = spoil(case["label"])
    refused(evaluator, threshold_network, [report()], f"{key} must hold {match}")


@pytest.mark.parametrize("attack", [Identity(), None], ids=["attacked", "evaluated alone"])
def test_a_constant_case_has_no_result(attack, evaluator, report, cases, threshold_network):
    cases[2]["image"].fill_(0.25)  # clipped to one value, say
    handlers = [report(image_quality=attack is not None)]
    handlers = handlers if attack is None else [AttackHandler(attack), *handlers]
    refused(evaluator, threshold_network, handlers, r"image must not be constant, got 0\.25 everywhere")


def test_equal_names_in_different_folders_are_refused_before_the_first_attack(
    evaluator, report, cases, threshold_network
):
    cases[2]["image"].meta["filename_or_obj"] = "elsewhere/case_0.nii"
    seen = []
    handlers = [AttackHandler(lambda *arguments: seen.append(1)), report()]
    refused(evaluator, threshold_network, handlers, "cases must have file names that differ, got 'case_0' twice")
    assert not seen


@pytest.mark.parametrize("listed", [["a/x.nii.gz", "b/x.nii.gz"], [["a/x.nii", "a/y.nii"], ["b/x.nii.gz"]]], ids=str)
def test_equal_names_of_a_list_of_files_are_known_before_they_are_read(listed):
    dataset = Dataset([{"image": image} for image in listed])
    engine = SimpleNamespace(state=SimpleNamespace(dataloader=DataLoader(dataset)))
    with pytest.raises(ValueError, match="cases must have file names that differ, got 'x' twice"):
        listed_names(engine)


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "bell\x07", "\u202egnp", ".nii.gz"])
def test_a_case_whose_name_cannot_be_printed_is_refused(name, evaluator, report, cases, threshold_network):
    cases[0]["image"].meta["filename_or_obj"] = f"folder/{name}"
    refused(evaluator, threshold_network, [report()], "a case must have a file name of printable characters, got")


@pytest.mark.parametrize("name", ["été 1", "=SUM(A1)", "a.b-c_d", "頭部"])
def test_other_names_are_kept(name, document_after, cases, threshold_network):
    cases[0]["image"].meta["filename_or_obj"] = f"folder/{name}.nii.gz"
    assert document_after(threshold_network)["cases"][0]["case"] == name


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "", ".", "..", "/etc/x", "\x1b[1m"])
def test_names_that_lead_out_of_the_folder_are_refused(name, tmp_path, checkpoint):
    about = {"attack": ATTACK, "checkpoint": str(checkpoint), "classes": CLASSES}
    with pytest.raises(ValueError, match="model_name must be the name of a file, without folders, got"):
        RobustnessReport(str(tmp_path), name, "fgsm", **about)
    with pytest.raises(ValueError, match="attack_name must be the name of a file, without folders, got"):
        RobustnessReport(str(tmp_path), "model", name, **about)


@pytest.mark.parametrize(
    "classes", ["abc", ("organ",), (), ("a", "a"), ("a", 1), ("a", ""), [f"c{n}" for n in range(257)]]
)
def test_classes_that_are_no_names_are_refused(classes, report):
    with pytest.raises(ValueError, match="classes must be 2 to 256 different names, background first, got"):
        report(classes=classes)

"""Bundles of others: adopted without an edit, they give the figures that they give by themselves."""

from __future__ import annotations

import json
import shutil
import sys
from copy import deepcopy

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from monai.networks.nets import UNet

from vafa_monai.cli import main
from vafa_monai.runs.adopt import Adoption
from vafa_monai.runs.bundle_run import BundleRun

BOTH = ["image", "label"]
NETWORK = {
    "_target_": "UNet",
    "spatial_dims": 3,
    "in_channels": 1,
    "out_channels": 3,
    "channels": [4, 8],
    "strides": [2],
}
LOAD = [
    {"_target_": "LoadImaged", "keys": BOTH},
    {"_target_": "EnsureChannelFirstd", "keys": BOTH},
    {"_target_": "Spacingd", "keys": BOTH, "pixdim": [1.5, 1.5, 1.5], "mode": ["bilinear", "nearest"]},
]
SCALED = {"keys": "image", "a_min": -100, "a_max": 300, "b_min": 0.0, "b_max": 1.0, "clip": True}
SCALE = {"_target_": "ScaleIntensityRanged", **SCALED}
METRIC = {"_target_": "MeanDice", "output_transform": "$monai.handlers.from_engine(['pred', 'label'])"}
FOREIGN = {  # ids and order as those of the model zoo
    "imports": ["$import glob"],
    "bundle_root": ".",
    "dataset_dir": "/nowhere",
    "images": "$sorted(glob.glob(@dataset_dir + '/images/*.nii.gz'))",
    "labels": "$sorted(glob.glob(@dataset_dir + '/labels/*.nii.gz'))",
    "device": "$torch.device('cpu')",
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "train": {
        "deterministic_transforms": [*LOAD, SCALE],
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "Activationsd", "keys": "pred", "softmax": True},
                {"_target_": "AsDiscreted", "keys": ["pred", "label"], "argmax": [True, False], "to_onehot": 3},
            ],
        },
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': i, 'label': l} for i, l in zip(@images, @labels)][:-2]",
        },
    },
    "validate": {
        "preprocessing": {"_target_": "Compose", "transforms": "%train#deterministic_transforms"},
        "dataset": {
            "_target_": "CacheDataset",
            "data": "$[{'image': i, 'label': l} for i, l in zip(@images[-2:], @labels[-2:])]",
            "transform": "@validate#preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@validate#dataset", "batch_size": 1},
        "inferer": {"_target_": "SlidingWindowInferer", "roi_size": [16, 16, 16], "overlap": 0.25},
        "postprocessing": "%train#postprocessing",
        "handlers": [
            {
                "_target_": "CheckpointLoader",
                "load_path": "$@bundle_root + '/models/model.pt'",
                "load_dict": "$dict(model=@network)",
            }
        ],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@validate#dataloader",
            "network": "@network",
            "inferer": "@validate#inferer",
            "postprocessing": "@validate#postprocessing",
            "key_val_metric": {"val_mean_dice": {**METRIC, "include_background": False}},
            "val_handlers": "@validate#handlers",
        },
    },
    "run": ["$@validate#evaluator.run()"],
}
CHANNELS = {"0": "background", "1": "left", "2": "right"}
METADATA = {
    "version": "0.1.0",
    "network_data_format": {
        "inputs": {"image": {"modality": "CT", "num_channels": 1}},
        "outputs": {"pred": {"channel_def": CHANNELS}},
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three small volumes with the affine of scanners, in files of the same names in two folders."""
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    for number in range(3):
        label = generator.integers(0, 3, (20 + number, 18, 22)).astype(np.uint8)
        image = (100 * label + generator.normal(0, 40, label.shape)).astype(np.float32)
        for kind, volume in (("images", image), ("labels", label)):
            nib.save(nib.Nifti1Image(volume, np.diag([1.2, 1.2, 1.5, 1])), folder / kind / f"case_{number}.nii.gz")
    return folder


@pytest.fixture
def foreign(tmp_path):
    """Return a function that writes a bundle of others, with weights."""

    def write(config=FOREIGN, metadata=METADATA, form="json"):
        bundle = tmp_path / "foreign"
        (bundle / "configs").mkdir(parents=True)
        (bundle / "models").mkdir()
        text = json.dumps(config) if form == "json" else yaml.safe_dump(config)
        (bundle / "configs" / f"train.{form}").write_text(text)
        (bundle / "configs" / "metadata.json").write_text(json.dumps(metadata))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = UNet(3, 1, config.get("network_def", NETWORK)["out_channels"], channels=(4, 8), strides=(2,))
            torch.save(network.state_dict(), bundle / "models" / "model.pt")
        return bundle

    return write


def changed(**values):
    """The foreign config with other values of some ids."""
    config = deepcopy(FOREIGN)
    for name, value in values.items():
        *path, last = name.split("__")
        place = config
        for one in path:
            place = place[one]
        place[last] = value
    return config


def own_dice(bundle, data):
    """What the evaluation of the bundle itself says."""
    parser = ConfigParser(ConfigParser.load_config_file(str(next((bundle / "configs").glob("train.*")))))
    parser["network_def"].pop("img_size", None)  # which no class here takes
    parser["bundle_root"], parser["dataset_dir"] = str(bundle), str(data)
    evaluator = parser.get_parsed_content("judge" if "judge" in parser else "validate#evaluator")
    evaluator.run()
    return evaluator.state.metrics["val_mean_dice"]


def adopted(bundle, data, **settings):
    lines = []
    job = Adoption(
        bundle=bundle,
        output=bundle.parent / "adopted",
        overrides={"dataset_dir": str(data)},
        say=lines.append,
        **settings,
    )
    return job.write(), lines


def flat_ids():
    """The same evaluation with ids of another taste, and none in a group."""
    config = changed()
    validate, train = config.pop("validate"), config.pop("train")
    config["net"] = config.pop("network")
    config |= {
        "picture": "$monai.utils.CommonKeys.IMAGE",
        "transforms": train["deterministic_transforms"],
        "held_out": "$[{@picture: i, 'label': l} for i, l in zip(@images[-2:], @labels[-2:])]",
        "eval_transforms": {"_target_": "Compose", "transforms": "@transforms"},
        "eval_dataset": {**validate["dataset"], "data": "@held_out", "transform": "@eval_transforms"},
        "loader": {**validate["dataloader"], "dataset": "@eval_dataset"},
        "sliding": validate["inferer"],
        "post": train["postprocessing"],
        "load": [{**validate["handlers"][0], "load_dict": "$dict(model=@net)"}],
    }
    named = {"val_data_loader": "@loader", "network": "@net", "inferer": "@sliding", "postprocessing": "@post"}
    return config | {"judge": {**validate["evaluator"], **named, "val_handlers": "@load"}, "run": ["$@judge.run()"]}


def sigmoid(post, label="torch.cat([x >= 1, x >= 2]).float()", channels=2):
    """The same evaluation of channels that say yes or no, from overlapping regions of the label."""
    regions = {"_target_": "Lambdad", "keys": "label", "func": f"$lambda x: {label}"}
    config = changed(
        network_def={**NETWORK, "out_channels": channels},
        train__deterministic_transforms=[*LOAD, SCALE, regions],
        train__postprocessing={"_target_": "Compose", "transforms": post},
        validate__evaluator__key_val_metric={"val_mean_dice": METRIC},
    )
    return config | {"imports": [*config["imports"], "$import torch"]}


YES = {"_target_": "Activationsd", "keys": "pred", "sigmoid": True}
ABOVE = {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}
FORGET = {"_target_": "ToNumpyd", "keys": BOTH}
FORMS = {
    "ids without groups": (flat_ids(), "json"),
    "overlapping regions": (sigmoid([YES, ABOVE]), "json"),
    "one channel": (sigmoid([YES, ABOVE], "(x >= 1).float()", 1), "json"),
    "classes each by itself": (
        changed(
            train__postprocessing={
                "_target_": "Compose",
                "transforms": [YES, ABOVE, {"_target_": "AsDiscreted", "keys": "label", "to_onehot": 3}],
            }
        ),
        "json",
    ),
    "files forgotten": (changed(train__deterministic_transforms=[*LOAD, SCALE, FORGET]), "json"),
    "argument of an older MONAI": (changed(network_def={**NETWORK, "img_size": [16, 16, 16]}), "json"),
    "json": (FOREIGN, "json"),
    "yaml": (FOREIGN, "yaml"),
    "transforms by an expression": (
        changed(validate__preprocessing={"_target_": "Compose", "transforms": "$@train#deterministic_transforms"}),
        "json",
    ),
    "standardized": (
        changed(train__deterministic_transforms=[*LOAD, {"_target_": "NormalizeIntensityd", "keys": "image"}]),
        "json",
    ),
    "whole volumes": (
        changed(validate__inferer={"_target_": "SimpleInferer"}, network_def={**NETWORK, "strides": [1]}),
        "json",
    ),
}


@pytest.mark.parametrize(("config", "form"), FORMS.values(), ids=FORMS)
def test_adopted_bundle_gives_the_figures_of_the_bundle_itself(config, form, foreign, data):
    channels = config["network_def"]["out_channels"]
    names = {str(number): f"class {number}" for number in range(channels)}
    outputs = {"pred": {"channel_def": names}}
    bundle = foreign(config, {**METADATA, "network_data_format": {"outputs": outputs}}, form=form)
    before = {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()}
    wanted = own_dice(bundle, data)
    copy, _ = adopted(bundle, data)
    found = {}
    for attack in ("identity", "pgd"):
        run = BundleRun(bundle=copy, overlays=["evaluate", f"attacks/{attack}"], overrides={"attack_steps": 2})
        found[attack] = run.run("validate#evaluator").metrics["val_mean_dice"]
        result = json.loads((copy / "eval" / "results" / "model" / f"{attack}.json").read_text())
        assert [case["case"] for case in result["cases"]] == ["case_1", "case_2"]
        assert result["classes"][-channels:] == [*names.values()]
    assert found["identity"] == pytest.approx(wanted, abs=1e-4)
    assert found["pgd"] < wanted
    assert {path: path.read_bytes() for path in bundle.rglob("*") if path.is_file()} == before


SOFT, INDICES = FOREIGN["train"]["postprocessing"]["transforms"]
NO_CLASSES = {**METADATA, "network_data_format": {}}
REFUSED = {
    "no ids": (
        {"imports": [], "bundle_root": "."},
        METADATA,
        "bundle must have one object in its configs/train whose _target_ ends with Evaluator, or validate#evaluator",
    ),
    "two dimensions": (
        changed(train__deterministic_transforms=[*LOAD[:2], {"_target_": "SqueezeDimd", "keys": BOTH, "dim": 0}]),
        METADATA,
        r"bundle must have volumes of three dimensions, got images of shape \(20, 18, 22\)|\(21, 18, 22\)",
    ),
    "labels of another kind": (
        {**sigmoid([SOFT, INDICES], channels=3)},
        METADATA,
        "labels must have 1 channel under a softmax of 3, got 2 after preprocessing",
    ),
    "no names": (
        FOREIGN,
        NO_CLASSES,
        r"classes must be the 3 different names .*, got \[\] from channel_def of .*--classes",
    ),
    "contradiction": (
        changed(
            train__deterministic_transforms=[
                *LOAD,
                SCALE,
                {"_target_": "Lambdad", "keys": "image", "func": "$lambda x: 3 * x"},
            ]
        ),
        METADATA,
        "intensities must lie in value_range, got 0 to 3 in the first cases, beside 0 to 1 from ScaleIntensityRanged",
    ),
    "no cases": (changed(images=[]), METADATA, "bundle must find a case to validate on, got none with"),
}


@pytest.mark.parametrize(("config", "metadata", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_adopted_is_refused_in_a_sentence_and_nothing_is_written(
    config, metadata, sentence, foreign, data
):
    bundle = foreign({"dataset_dir": "", **config}, metadata)
    with pytest.raises(ValueError, match=sentence):
        adopted(bundle, data)
    assert not (bundle.parent / "adopted").exists()


HEADS = """from torch import nn


class Heads(nn.Module):
    def __init__(self, inside):
        super().__init__()
        self.inside = inside

    def forward(self, volume):
        return {"features": volume.mean((2, 3, 4)), "out": self.inside(volume)}

    def state_dict(self, *args, **kwargs):
        return self.inside.state_dict(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):
        return self.inside.load_state_dict(*args, **kwargs)
"""


def test_network_that_answers_with_a_dictionary_is_asked_for_its_logits(foreign, data, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    plain, _ = adopted(foreign(), data)
    bundle = plain.parent / "foreign"
    wanted = own_dice(bundle, data)
    shutil.rmtree(plain)
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text("")
    (bundle / "scripts" / "heads.py").write_text(HEADS)
    heads = changed(network_def={"_target_": "scripts.heads.Heads", "inside": NETWORK})
    (bundle / "configs" / "train.json").write_text(json.dumps(heads))
    copy, lines = adopted(bundle, data)
    assert "network: its logits are ['out'] of what it returns" in lines
    state = BundleRun(bundle=copy, overlays=["evaluate", "attacks/pgd"], overrides={"attack_steps": 1})
    assert state.run("validate#evaluator").metrics["val_mean_dice"] < wanted
    clean = BundleRun(bundle=copy, overlays=["evaluate", "attacks/identity"])
    assert clean.run("validate#evaluator").metrics["val_mean_dice"] == pytest.approx(wanted, abs=1e-4)


def test_files_of_one_name_are_told_apart_by_their_folders(foreign, data, tmp_path):
    twins = tmp_path / "twins"
    for number in range(3):
        for kind, name in (("images", "t2"), ("labels", "seg")):
            target = twins / f"patient_{number}" / f"{name}.nii.gz"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(data / kind / f"case_{number}.nii.gz", target)
    config = changed(train__deterministic_transforms=[*LOAD, SCALE, FORGET])
    config["images"] = "$sorted(glob.glob(@dataset_dir + '/*/t2.nii.gz'))"
    config["labels"] = "$sorted(glob.glob(@dataset_dir + '/*/seg.nii.gz'))"
    copy, _ = adopted(foreign(config), twins)
    BundleRun(bundle=copy, overlays=["evaluate", "attacks/identity"]).run("validate#evaluator")
    result = json.loads((copy / "eval" / "results" / "model" / "identity.json").read_text())
    assert [case["case"] for case in result["cases"]] == ["patient_1_t2", "patient_2_t2"]
    assert all(case["files"]["image"] for case in result["cases"])


def test_evaluation_that_asks_for_clicks_is_refused(foreign, data):
    config = changed(validate__evaluator__iteration_update="$lambda engine, batch: batch")
    with pytest.raises(ValueError, match="bundle must run its network once a case, got an evaluator with an iteration"):
        adopted(foreign(config), data)


CROP = {"_target_": "RandSpatialCropd", "keys": BOTH, "roi_size": [14, 14, 14], "random_size": False}
SHIFT = {"_target_": "RandShiftIntensityd", "keys": "image", "offsets": 0.5, "prob": 1.0}


def trained(config, loss):
    """A foreign config with a trainer of its own, whose random transforms leave the range of intensities."""
    config = deepcopy(config)
    config["loss"], config["optimizer"] = loss, {"_target_": "torch.optim.Adam", "params": "$@network.parameters()"}
    config["train"]["random_transforms"] = [CROP, SHIFT]
    config["train"]["preprocessing"] = {
        "_target_": "Compose",
        "transforms": "$@train#deterministic_transforms + @train#random_transforms",
    }
    data = "$[{'image': i, 'label': l} for i, l in zip(@images, @labels)][:2]"
    config["validate"]["dataset"]["data"] = data.replace("[:2]", "[2:]")
    config["train"]["dataset"] = {"_target_": "CacheDataset", "data": data, "transform": "@train#preprocessing"}
    config["train"]["dataloader"] = {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 2}
    config["validate"]["key_metric"] = config["validate"]["evaluator"]["key_val_metric"]
    config["validate"]["evaluator"]["key_val_metric"] = "@validate#key_metric"
    config["train"]["trainer"] = {
        "_target_": "SupervisedTrainer",
        "max_epochs": 100,
        "device": "@device",
        "train_data_loader": "@train#dataloader",
        "network": "@network",
        "loss_function": "@loss",
        "optimizer": "@optimizer",
    }
    return config


HARDENED = {
    "softmax": trained(FOREIGN, {"_target_": "DiceFocalLoss", "to_onehot_y": True, "softmax": True}),
    "regions": trained(sigmoid([YES, ABOVE]), {"_target_": "DiceLoss", "sigmoid": True}),
}


@pytest.mark.parametrize("config", HARDENED.values(), ids=HARDENED)
def test_adopted_bundle_is_hardened_by_its_own_trainer_and_loss(config, foreign, data):
    count = config["network_def"]["out_channels"]
    outputs = {"pred": {"channel_def": {str(number): f"class {number}" for number in range(count)}}}
    bundle = foreign(config, {**METADATA, "network_data_format": {"outputs": outputs}})
    copy, lines = adopted(bundle, data)
    assert "harden: with the bundle's own trainer and loss" in lines
    parts = json.loads((copy / "dataset.json").read_text())
    assert [len(parts[name]) for name in ("training", "validation", "test")] == [1, 1, 1]
    before = (copy / "models" / "model.pt").read_bytes()
    overlays = ["harden", "hardening/mixed"]
    run = BundleRun(bundle=copy, overlays=overlays, overrides={"hardening#epochs": 1, "validation_steps": 1})
    run.check()
    run.run(progress="train#trainer")
    record = json.loads((copy / "models" / "model_mixed.training.json").read_text())
    (found,) = record["selection"]["validations"]
    assert 0 <= found["val_mean_dice_adv"] <= found["val_mean_dice"] <= 1
    assert (copy / "models" / "model.pt").read_bytes() == before
    evaluation = BundleRun(
        bundle=copy, overlays=["evaluate"], overrides={"ckpt_path": str(copy / "models" / "model_mixed.pt")}
    )
    assert 0 <= evaluation.run("validate#evaluator").metrics["val_mean_dice"] <= 1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (FOREIGN, "there is no trainer with a loss and training cases"),
        (
            trained(changed(train__deterministic_transforms=[*LOAD]), {"_target_": "DiceLoss"}),
            "its inputs have no range; --value_range says it",
        ),
    ],
    ids=["no trainer", "no range"],
)
def test_why_a_copy_cannot_be_hardened_is_said(config, reason, foreign, data):
    copy, lines = adopted(foreign(config), data)
    assert f"harden: not possible, {reason}" in lines
    assert not (copy / "configs" / "harden.json").exists()


def test_findings_say_where_they_are_from(foreign, data):
    _, lines = adopted(foreign(), data)
    assert lines == [
        "classes: ['background', 'left', 'right'] (channel_def of configs/metadata.json)",
        "output: softmax (postprocessing and labels)",
        "value_range: [0.0, 1.0] (ScaleIntensityRanged)",
        "roi_size: [16, 16, 16] (validate#inferer)",
        "harden: not possible, there is no trainer with a loss and training cases",
    ]


def test_names_and_range_of_the_command_line_win(foreign, data):
    copy, _ = adopted(foreign(metadata=NO_CLASSES), data, classes=["none", "a", "b"], value_range=[-1.0, 2.0])
    config = json.loads((copy / "configs" / "train.json").read_text())
    assert (config["classes"], config["value_range"]) == (["none", "a", "b"], [-1.0, 2.0])
    with pytest.raises(ValueError, match="output must be a new folder, got"):
        Adoption(bundle=copy, output=copy)


@pytest.mark.bundle
def test_every_command_takes_an_adopted_bundle(foreign, data, tmp_path, monkeypatch):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["vafa-monai", *map(str, words)])
        main()

    bundle = foreign()
    (bundle / "scripts").mkdir()
    (bundle / "scripts" / "__init__.py").write_text("")
    (bundle / "scripts" / "nets.py").write_text("from monai.networks.nets import UNet as Mine\n")
    path = bundle / "configs" / "train.json"
    path.write_text(path.read_text().replace('"_target_": "UNet"', '"_target_": "scripts.nets.Mine"'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    run("adopt", "foreign", "mine", "--dataset_dir", data)
    run("attack", "mine", "pgd", "--attack_steps", 1)
    run(
        "benchmark",
        "mine",
        "--attacks",
        "ensemble",
        "--dataset_dir",
        "mine",
        "--attack#steps",
        1,
        "--attack#queries",
        1,
    )
    try:
        run("audit", "mine", "--dataset_dir", "mine", "--eps", 0.02, "--steps", 2)
    except SystemExit as ended:
        assert ended.code == 3  # noqa: PT017 - a network without training fails checks
    run("report", "mine/eval/results")
    assert (tmp_path / "mine" / "eval" / "report.html").is_file()
    audits = json.loads(next((tmp_path / "mine" / "eval" / "results").rglob("audit*.json")).read_text())
    assert audits["checks"]

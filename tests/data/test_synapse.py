"""Synapse: the published split, the layout as it is handed out, 14 or 9 classes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import prepare_synapse
from vafa_monai.data.synapse import SYNAPSE, find_synapse, synapse_plan, synapse_split

TRAINING = "0005 0006 0007 0009 0010 0021 0023 0024 0026 0027 0028 0030 0031 0033 0034 0037 0039 0040"
TEST = "0001 0002 0003 0004 0008 0022 0025 0029 0032 0035 0036 0038"
EIGHT = {1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 6: "liver", 7: "stomach", 8: "aorta"}
EIGHT |= {11: "pancreas"}


def named(numbers: str) -> list[str]:
    return [f"img{number}" for number in numbers.split()]


def load(datalist: Path, part: str, kind: str) -> dict[str, np.ndarray]:
    cases = json.loads(datalist.read_text())[part]
    return {Path(case[kind]).name[:7]: np.asarray(nib.load(datalist.parent / case[kind]).dataobj) for case in cases}


# Split


def test_split_is_the_published_one_of_18_and_12():
    split = synapse_split()
    assert sorted(split["training"] + split["validation"]) == named(TRAINING)
    assert split["test"] == named(TEST)
    assert (len(named(TRAINING)), len(split["test"])) == (18, 12)


@pytest.mark.parametrize("validation", [1, 3, 17])
def test_validation_part_is_taken_from_training_only(validation):
    split = synapse_split(validation)
    assert len(split["validation"]) == validation
    assert split["test"] == named(TEST)


def test_default_validation_part_is_fixed():
    assert synapse_split()["validation"] == ["img0009", "img0027", "img0037"]


# Layout


@pytest.mark.parametrize("place", [".", "RawData/Training", "Training", "RawData"])
def test_folders_are_found_in_the_places_of_the_archive(synapse_raw, tmp_path, place):
    shutil.copytree(synapse_raw, tmp_path / place, dirs_exist_ok=True)
    names = sorted(path.name[:7] for path in (synapse_raw / "img").iterdir())
    found = find_synapse(tmp_path, [*names, "img0099"])
    assert [case.name for case in found.cases] == names
    assert [case.label.name for case in found.cases] == [f"label{name[3:]}.nii.gz" for name in names]
    assert (found.faults, found.missing, found.unused) == ([], ["img0099"], [])


def test_volumes_beyond_the_split_are_listed(synapse_raw):
    names = sorted(path.name[:7] for path in (synapse_raw / "img").iterdir())
    unused = find_synapse(synapse_raw, names[:2]).unused
    assert unused == [f"img/{names[2]}.nii.gz", f"label/label{names[2][3:]}.nii.gz"]


def test_source_without_the_two_folders_is_refused(tmp_path):
    (tmp_path / "source" / "img").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"source must hold the folders img and label, itself or in RawData/Training"):
        prepare_synapse(tmp_path / "source", tmp_path / "output", allow_missing=True)


def test_uncompressed_volumes_and_names_of_the_users_own_are_taken(synapse_raw, tmp_path):
    names = sorted(path.name[3:7] for path in (synapse_raw / "img").iterdir())
    for kind, stem in (("img", "img"), ("label", "label")):
        (tmp_path / "raw" / kind).mkdir(parents=True)
        for number, letter in zip(names, "abc", strict=True):
            nib.save(nib.load(synapse_raw / kind / f"{stem}{number}.nii.gz"), tmp_path / "raw" / kind / f"{letter}.nii")
    (tmp_path / "split.json").write_text('{"training": ["c"], "validation": ["b"], "test": ["a"]}')
    datalist = prepare_synapse(tmp_path / "raw", tmp_path / "output", split=tmp_path / "split.json")
    content = json.loads(datalist.read_text())
    assert [content[part] for part in ("training", "validation", "test")] == [
        [{"image": f"images{end}/{letter}.nii.gz", "label": f"labels{end}/{letter}.nii.gz"}]
        for end, letter in (("Tr", "c"), ("Val", "b"), ("Ts", "a"))
    ]
    assert content["missing"] == []


# Classes


def test_names_of_the_14_classes_are_those_of_the_labels(synapse_raw, tmp_path):
    content = json.loads(prepare_synapse(synapse_raw, tmp_path / "output", allow_missing=True).read_text())
    assert list(content["labels"]) == [str(index) for index in range(14)]
    assert {index: content["labels"][str(index)] for index in EIGHT} == EIGHT
    assert content["labels"]["0"] == "background"
    assert content["modality"] == {"0": "CT"}


def test_nine_classes_are_the_eight_organs_in_order_and_the_rest_is_background(synapse_raw, tmp_path):
    full = prepare_synapse(synapse_raw, tmp_path / "full", allow_missing=True)
    eight = prepare_synapse(synapse_raw, tmp_path / "eight", classes=9, allow_missing=True)
    labels = json.loads(eight.read_text())["labels"]
    assert labels == {"0": "background"} | {str(number): name for number, name in enumerate(EIGHT.values(), start=1)}
    raw, mapped = load(full, "test", "label"), load(eight, "test", "label")
    for name in raw:
        expected = np.select([raw[name] == value for value in EIGHT], range(1, 9), default=0)
        np.testing.assert_array_equal(mapped[name], expected)
        assert set(np.unique(raw[name])) == set(range(14))


@pytest.mark.parametrize("classes", [0, 8, 13, 15, "14", None])
def test_other_numbers_of_classes_are_refused(tmp_path, classes):
    with pytest.raises(ValueError, match="classes must be 14 or 9, got"):
        prepare_synapse(tmp_path, tmp_path / "output", classes=classes)


def test_plans_differ_in_nothing_but_the_classes():
    full, eight = (synapse_plan(classes=classes, split=synapse_split()) for classes in (14, 9))
    assert full.recipe is SYNAPSE
    assert full.settings() | {"classes": 9} == eight.settings()

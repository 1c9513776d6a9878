"""Tasks of the Decathlon's layout: classes and split from their own list, faults before anything is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist

from vafa_monai.data import decathlon, prepare_decathlon

SHAPE = (9, 11, 10)
NAMES = tuple(f"spot_{number:02d}" for number in range(10))


def write_task(folder: Path, **changes: object) -> Path:
    """Write a task of ten MR volumes with two classes, raw intensities, labels of two types."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(NAMES):
        image = rng.uniform(0, 10 ** (number % 4 + 2), SHAPE)
        label = np.zeros(SHAPE, dtype=np.float32 if number % 2 else np.uint8)
        label[3:6, 4:6, 4:6], label[3:6, 6:8, 4:6] = 1, 2
        for kind, array in (("imagesTr", image.astype(np.float32)), ("labelsTr", label)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, np.eye(4)), folder / kind / f"{name}.nii.gz")
    content = {
        "name": "Spot",
        "description": "Two spots",
        "reference": "Nobody",
        "licence": "CC-BY-SA 4.0",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in NAMES],
        **changes,
    }
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_task(tmp_path / "Task99_Spot")


def test_task_is_written_with_its_classes_and_a_split_that_monai_reads(task, tmp_path):
    datalist = prepare_decathlon(task, tmp_path / "data")
    content = json.loads(datalist.read_text())
    assert content["labels"] == {"0": "background", "1": "anterior", "2": "posterior"}
    assert content["modality"] == {"0": "MRI"}
    assert content["licence"] == "CC-BY-SA 4.0"
    parts = [load_decathlon_datalist(datalist, True, part) for part in ("training", "validation", "test")]
    assert [len(part) for part in parts] == [7, 1, 2]
    names = [Path(case["image"]).name.removesuffix(".nii.gz") for part in parts for case in part]
    assert sorted(names) == sorted(NAMES)
    assert nib.load(parts[0][0]["label"]).get_fdata().max() == 2
    assert (tmp_path / "data" / "data_report.html").is_file()


def test_split_of_a_seed_is_always_the_same_and_another_seed_gives_another(task):
    def split(seed: int) -> dict[str, list[str]]:
        return decathlon.decathlon_split("Spot", list(NAMES), seed=seed)

    assert split(0) == split(0)
    assert split(0) != split(1)
    assert decathlon.decathlon_split("Spot", list(reversed(NAMES)), seed=0) == split(0)


def test_split_of_the_hippocampus_is_fixed_and_disjoint():
    split = decathlon.decathlon_split("Hippocampus", [])
    assert [len(split[part]) for part in ("training", "validation", "test")] == [150, 20, 50]
    assert len({name for names in split.values() for name in names}) == 220
    assert split["test"][:3] == ["hippocampus_015", "hippocampus_024", "hippocampus_026"]


def test_test_cases_of_the_official_archive_are_not_called_unused(task, tmp_path):
    (task / "imagesTs").mkdir()
    (task / "imagesTs" / "spot_90.nii.gz").write_bytes((task / "imagesTr" / "spot_00.nii.gz").read_bytes())
    prepare_decathlon(task, tmp_path / "data")
    assert json.loads((tmp_path / "data" / "data_report.json").read_text())["unused"] == []


def test_own_split_is_taken(task, tmp_path):
    own = {"training": list(NAMES[:3]), "validation": [NAMES[3]], "test": [NAMES[4]]}
    (tmp_path / "split.json").write_text(json.dumps(own))
    content = json.loads(prepare_decathlon(task, tmp_path / "data", split=tmp_path / "split.json").read_text())
    assert content["settings"]["split"] == own


CASE = {"image": "a.nii.gz", "label": "b.nii.gz"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"modality": {"0": "FLAIR", "1": "T1w"}}, "source must have one modality, got ['FLAIR', 'T1w']"),
        ({"labels": {"0": "background", "2": "spot"}}, "labels must map the values from 0 on to names"),
        ({"labels": {"0": "background"}}, "labels must map the values from 0 on to names"),
        ({"training": None}, "whose dataset.json lacks training"),
        ({"name": 3, "labels": []}, "whose dataset.json lacks name, labels"),
        ({"training": [CASE | {"image": "../a.nii.gz"}]}, "the folder of the task, got '../a.nii.gz'"),
        ({"training": [CASE | {"image": "/a.nii.gz"}]}, "the folder of the task, got '/a.nii.gz'"),
        ({"training": [{"image": "a.nii.gz"}]}, "the folder of the task, got None in entry 0"),
        ({"training": ["a.nii.gz"]}, "the folder of the task, got None in entry 0"),
        ({"training": [CASE] * 2}, "must name every case once, got 'a' twice"),
        ({"training": [CASE]}, "source must have at least 3 labeled cases, got 1"),
        ({"labels": {"0": "background", "1": "spot"}}, "label must hold class indices from 0 to 1, got 2"),
    ],
)  # fmt: skip
def test_what_is_no_task_of_one_modality_is_refused_before_anything_is_written(tmp_path, changes, sentence):
    folder = write_task(tmp_path / "task", **changes)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        prepare_decathlon(folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_folder_that_is_no_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="source must be a folder of the Medical Segmentation Decathlon"):
        prepare_decathlon(tmp_path, tmp_path / "data")


def test_case_without_its_label_or_image_is_named(task, tmp_path):
    (task / "labelsTr" / "spot_03.nii.gz").unlink()
    (task / "imagesTr" / "spot_05.nii.gz").unlink()
    with pytest.raises(ValueError, match="got 2 in") as caught:
        prepare_decathlon(task, tmp_path / "data")
    assert "label must exist for every case, got no 'labelsTr/spot_03.nii.gz'" in str(caught.value)
    assert "image must exist for every case, got no 'imagesTr/spot_05.nii.gz'" in str(caught.value)


@pytest.mark.parametrize("seed", [-1, 1.5, True])
def test_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0"):
        decathlon.decathlon_split("Spot", list(NAMES), seed=seed)


def test_download_asks_monai_for_the_task_with_its_checksum(task, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(decathlon, "download_and_extract", lambda url, **rest: asked.update(rest, url=url))
    decathlon.download_decathlon(task)
    assert asked == {}, "what is there is not fetched again"
    decathlon.download_decathlon(tmp_path / "Task04_Hippocampus")
    assert asked["hash_val"] == decathlon.DecathlonDataset.md5["Task04_Hippocampus"]
    assert asked["url"].endswith("Task04_Hippocampus.tar")
    with pytest.raises(ValueError, match=r"source must be named as a task with download, one of .*got 'Task04'"):
        decathlon.download_decathlon(tmp_path / "Task04")

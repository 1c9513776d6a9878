"""The cases of the demo: true places, disjoint in space and from each other's mirror images."""

from __future__ import annotations

import json
import shutil
from itertools import combinations, product
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import mni152, prepare_mni152, sha256
from vafa_monai.data.mni152 import BLOCK, FILES

nilearn = pytest.importorskip("nilearn")
SPLITS = ("training", "validation", "test")
MARGIN = 4  # mm

Box = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_mni152(tmp_path_factory.mktemp("mni152"))


@pytest.fixture(scope="session")
def datalist(prepared: Path) -> dict:
    return json.loads(prepared.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def template() -> dict[str, nib.Nifti1Image]:
    folder = Path(nilearn.__file__).parent / "datasets" / "data"
    return {name: nib.load(folder / file) for name, file in FILES.items()}


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    """A copy of the folder, to be spoilt."""
    return Path(shutil.copytree(prepared.parent, tmp_path / "copy")) / "dataset.json"


def cases_of(prepared: Path, datalist: dict, split: str) -> list[dict[str, nib.Nifti1Image]]:
    return [{kind: nib.load(prepared.parent / path) for kind, path in case.items()} for case in datalist[split]]


def box_of(image: nib.Nifti1Image) -> Box:
    """Lowest and highest corner in mm of the volume, its outer voxels whole."""
    corners = np.array([[a, b, c, 1] for a in (0, 1) for b in (0, 1) for c in (0, 1)])
    corners[:, :3] *= image.shape
    edges = (corners - [0.5, 0.5, 0.5, 0]) @ image.affine.T
    return edges[:, :3].min(0), edges[:, :3].max(0)


def mirrored(box: Box) -> Box:
    """The box on the other side of x = 0."""
    low, high = box
    return np.array([-high[0], *low[1:]]), np.array([-low[0], *high[1:]])


def gap(first: Box, second: Box) -> float:
    """Width in mm of the widest slab between two boxes; negative if they overlap."""
    return max(*(first[0] - second[1]), *(second[0] - first[1]))


@pytest.fixture(scope="session")
def boxes(prepared: Path, datalist: dict) -> dict[str, list[Box]]:
    return {split: [box_of(case["image"]) for case in cases_of(prepared, datalist, split)] for split in SPLITS}


# Why the front is held out and not a side


@pytest.mark.parametrize("name", FILES)
def test_template_is_its_own_mirror_image_to_the_bit(template, name):
    """So a held-out hemisphere would be the mirror image of a training one."""
    volume, affine = np.asarray(template[name].dataobj), template[name].affine
    assert affine[0, 0] == -affine[0, 3] * 2 / (volume.shape[0] - 1)  # the middle voxel is at x = 0
    np.testing.assert_array_equal(volume, volume[::-1])


@pytest.mark.parametrize("pair", list(combinations(SPLITS, 2)), ids="-".join)
def test_cases_of_different_splits_and_their_mirror_images_are_apart(boxes, pair):
    for first in boxes[pair[0]]:
        for second in boxes[pair[1]]:
            assert gap(first, second) >= MARGIN
            assert gap(first, mirrored(second)) >= MARGIN


@pytest.mark.parametrize("split", ["validation", "test"])
def test_cases_of_a_held_out_split_share_no_voxel_and_with_mirror_images_only_the_plane_of_the_mirror(boxes, split):
    for first, second in combinations(boxes[split], 2):
        assert gap(first, second) >= 0
    for first, second in product(boxes[split], repeat=2):
        assert gap(first, mirrored(second)) >= -1  # one voxel, whose middle is at x = 0


# What the cases hold


@pytest.mark.parametrize("split", SPLITS)
def test_voxels_are_those_of_the_template_at_the_same_place_in_mm(prepared, datalist, template, split):
    rng = np.random.default_rng(0)
    for case in cases_of(prepared, datalist, split):
        voxels = rng.integers(0, case["image"].shape, size=(2000, 3))
        mm = nib.affines.apply_affine(case["image"].affine, voxels)
        place = tuple(nib.affines.apply_affine(np.linalg.inv(template["t1"].affine), mm).round().astype(int).T)
        t1, gray, white = (np.asarray(template[name].dataobj)[place].astype(int) for name in ("t1", "gm", "wm"))
        image, label = (np.asarray(case[kind].dataobj)[tuple(voxels.T)] for kind in ("image", "label"))
        np.testing.assert_array_equal(image, t1)
        np.testing.assert_array_equal(label, np.argmax([255 - gray - white, gray, white], axis=0))


@pytest.mark.parametrize("split", SPLITS)
def test_image_and_label_of_a_case_lie_in_the_same_voxels_of_one_mm(prepared, datalist, split):
    for case in cases_of(prepared, datalist, split):
        np.testing.assert_array_equal(case["image"].affine, case["label"].affine)
        assert case["image"].shape == case["label"].shape
        assert case["image"].header.get_zooms() == (1, 1, 1)


def test_held_out_cases_are_blocks_and_training_is_one_volume(prepared, datalist):
    shapes = {split: [case["image"].shape for case in cases_of(prepared, datalist, split)] for split in SPLITS}
    assert len(shapes["training"]) == 1
    assert set(shapes["validation"] + shapes["test"]) == {(BLOCK,) * 3}
    assert min(len(shapes["validation"]), len(shapes["test"])) >= 2


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_is_in_every_split_and_every_case_has_tissue(prepared, datalist, split):
    labels = [np.asarray(case["label"].dataobj) for case in cases_of(prepared, datalist, split)]
    assert set.union(*(set(np.unique(label)) for label in labels)) == {0, 1, 2}
    assert all((label > 0).mean() >= 0.1 for label in labels)


def test_list_is_that_of_the_decathlon(datalist, prepared):
    assert datalist["labels"] == {"0": "background", "1": "gray matter", "2": "white matter"}
    assert (datalist["numTraining"], datalist["numTest"]) == (len(datalist["training"]), len(datalist["test"]))
    listed = [path for split in SPLITS for case in datalist[split] for path in case.values()]
    assert len(listed) == len(set(listed))
    assert {path.relative_to(prepared.parent).as_posix() for path in prepared.parent.rglob("*.nii.gz")} == set(listed)
    assert datalist["sha256"] == {name: sha256(prepared.parent / name) for name in listed}


# Called again


def test_second_call_changes_nothing(copy, monkeypatch):
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in copy.parent.rglob("*") if path.is_file()}
    monkeypatch.setattr(mni152, "_load_tissue", None)  # nothing is read from nilearn
    assert prepare_mni152(copy.parent) == copy
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in copy.parent.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b"other"), Path.unlink], ids=["changed", "missing"])
def test_folder_with_a_changed_or_missing_file_is_refused(copy, datalist, spoil):
    spoil(copy.parent / datalist["test"][0]["image"])
    with pytest.raises(ValueError, match="output must be empty or hold the MNI152 cases as they were written, got "):
        prepare_mni152(copy.parent)


def test_folder_of_another_dataset_is_refused(tmp_path):
    (tmp_path / "dataset.json").write_text('{"training": []}')
    with pytest.raises(ValueError, match="output must be empty or hold the MNI152 cases as they were written"):
        prepare_mni152(tmp_path)


def test_interrupted_call_is_taken_up_again(copy, datalist):
    copy.unlink()
    (copy.parent / datalist["test"][0]["image"]).write_bytes(b"half")
    prepare_mni152(copy.parent)
    assert json.loads(copy.read_text())["sha256"] == datalist["sha256"]


def test_absent_nilearn_is_told_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(mni152, "optional_import", lambda name: (None, False))
    with pytest.raises(ValueError, match=r"nilearn is not installed, and the demo data.*pip install \"\.\[demo\]\""):
        prepare_mni152(tmp_path)
    assert not list(tmp_path.iterdir())


def test_nilearn_without_the_template_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(FILES, "gm", "absent.nii.gz")
    with pytest.raises(ValueError, match=r"nilearn must ship 'absent\.nii\.gz', got a version without it"):
        prepare_mni152(tmp_path)

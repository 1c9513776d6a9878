"""Synthetic twins: official layouts and names, every class, always the same, and marked as no patients."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import phantom, prepare_acdc, prepare_synapse, sha256, write_phantom
from vafa_monai.data.acdc import acdc_split
from vafa_monai.data.phantom_heart import ANATOMY, CLASSES, GROUPS, Heart, group_of
from vafa_monai.data.phantom_shape import ORGANS, abdomen
from vafa_monai.data.split import PARTS
from vafa_monai.data.synapse import synapse_split

KINDS = pytest.mark.parametrize("kind", ["synapse", "acdc"])


@pytest.fixture
def raw(request, kind) -> Path:
    return request.getfixturevalue(f"{kind}_raw")


def hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def volumes(folder: Path, labels: bool) -> list[nib.Nifti1Image]:
    paths = sorted(folder.rglob("*.nii.gz"))
    return [nib.load(path) for path in paths if ("label" in path.name or "_gt" in path.name) == labels]


# Layout and names


def test_synapse_has_the_official_layout(synapse_raw):
    images, labels = (sorted(path.name for path in (synapse_raw / kind).iterdir()) for kind in ("img", "label"))
    assert len(images) == 3
    assert all(re.fullmatch(r"img\d{4}\.nii\.gz", name) for name in images)
    assert labels == [name.replace("img", "label") for name in images]


def test_acdc_has_the_official_layout(acdc_raw):
    patients = sorted(path for path in acdc_raw.iterdir() if path.is_dir())
    assert len(patients) == 3
    for folder in patients:
        info = dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())
        assert list(info) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert int(info["ES"]) <= int(info["NbFrame"])
        frames = [f"{folder.name}_frame{int(info[phase]):02d}{end}" for phase in ("ED", "ES") for end in ("", "_gt")]
        assert sorted(path.name for path in folder.iterdir()) == sorted(["Info.cfg", *(f"{f}.nii.gz" for f in frames)])


@pytest.mark.parametrize(("split", "most"), [(synapse_split(), 30), (acdc_split(), 100)], ids=["synapse", "acdc"])
def test_names_populate_every_part_in_proportion(split, most):
    for count in range(3, most + 1):
        names = phantom._choose(split, count)
        assert len(set(names)) == count
        chosen = [len(set(split[part]) & set(names)) for part in PARTS]
        assert min(chosen) >= 1
        shares = [max(1, len(split[part]) * count / most) for part in PARTS]
        assert max(abs(number - share) for number, share in zip(chosen, shares, strict=True)) < 2


@pytest.mark.parametrize(("kind", "prepare"), [("synapse", prepare_synapse), ("acdc", prepare_acdc)])
def test_raw_layout_is_taken_by_prepare_without_a_fault(kind, prepare, raw, tmp_path):
    content = json.loads(prepare(raw, tmp_path / "output", allow_missing=True).read_text())
    assert all(content[part] for part in PARTS)


# Volumes


@KINDS
def test_every_label_has_every_class_and_the_shape_and_place_of_its_image(kind, raw):
    classes = 14 if kind == "synapse" else 4
    for image, label in zip(volumes(raw, labels=False), volumes(raw, labels=True), strict=True):
        assert set(np.unique(label.dataobj)) == set(range(classes))
        assert image.shape == label.shape
        np.testing.assert_array_equal(image.affine, label.affine)
        assert bytes(image.header["descrip"]).startswith(b"vafa_monai phantom, not a patient")


@pytest.mark.parametrize("size", [0.4, 0.55, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_every_organ_is_there_at_every_size(size, seed):
    image, label, affine = abdomen(np.random.default_rng(seed), size)
    assert set(np.unique(label)) == set(range(14))
    assert image.shape == label.shape
    extent = np.abs(np.diag(affine)[:3]) * image.shape
    np.testing.assert_allclose(extent, [81 * 4.2, 61 * 4.2, 39 * 6], rtol=1e-6)  # the body is as large at any size


@pytest.mark.parametrize("size", [0.4, 1.0])
@pytest.mark.parametrize("group", GROUPS)
def test_every_structure_is_there_in_every_disease_and_phase(size, group):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        heart = Heart.draw(rng, group, size)
        labels = [heart.frame(rng, systole)[1] for systole in (False, True)]
        assert all(set(np.unique(label)) == {0, 1, 2, 3} for label in labels)
        assert 6 <= labels[0].shape[2] <= 12
        assert (labels[0] == 3).sum() > (labels[1] == 3).sum()  # it contracts


def test_groups_are_those_of_the_official_numbers():
    assert [group_of(number) for number in (1, 20, 21, 60, 61, 100)] == ["DCM", "DCM", "HCM", "MINF", "NOR", "RV"]
    assert set(ANATOMY) == set(GROUPS)


def test_ct_is_in_hounsfield_units(synapse_raw):
    for image in volumes(synapse_raw, labels=False):
        hu = np.asarray(image.dataobj)
        assert image.get_data_dtype() == np.int16
        assert np.percentile(hu, 2) == pytest.approx(-1000, abs=40)  # air
        assert hu.max() > 250  # bone
        assert hu.min() >= -1024
        assert np.median(hu[(hu > -150) & (hu < -50)]) == pytest.approx(-100, abs=10)  # fat


def test_mri_has_another_scale_for_every_patient(tmp_path):
    folder = write_phantom("acdc", tmp_path / "raw", cases=6, size=0.4)
    highest = [np.percentile(np.asarray(image.dataobj), 99.5) for image in volumes(folder, labels=False)]
    assert max(highest) / min(highest) > 2
    assert {str(image.get_data_dtype()) for image in volumes(folder, labels=False)} == {"uint16", "float32"}


@pytest.mark.parametrize(("kind", "least"), [("synapse", 0.3), ("acdc", 0.6)])
def test_classes_can_be_told_apart_by_intensity_alone_far_better_than_by_guess(kind, least, tmp_path):
    """Mean sensitivity on other cases of the nearest of the mean intensities of one case; by guess 1/13 and 1/3."""
    means = ORGANS if kind == "synapse" else CLASSES
    assert min(abs(a - b) for a, b in combinations(means.values(), 2)) >= 6
    folder = write_phantom(kind, tmp_path / "raw", cases=3)
    images = [np.asarray(image.dataobj) / np.percentile(image.dataobj, 99) for image in volumes(folder, labels=False)]
    labels = [np.asarray(label.dataobj) for label in volumes(folder, labels=True)]
    known = np.array([np.median(images[0][labels[0] == index]) for index in means])
    for image, label in zip(images[1:], labels[1:], strict=True):
        found = np.abs(image[..., None] - known).argmin(-1) + 1
        assert np.mean([(found[label == index] == index).mean() for index in means]) > least


def test_borders_between_organ_and_fat_are_mixed():
    image, label, _ = abdomen(np.random.default_rng(0), 1.0)
    kidney = label == 2
    inside = kidney[2:] & kidney[:-2] & kidney[1:-1]
    edge = kidney[1:-1] & ~inside
    assert image[1:-1][edge].mean() < image[1:-1][inside].mean() - 10


def test_geometry_differs_from_case_to_case(tmp_path):
    for kind, least in (("synapse", 3), ("acdc", 2)):
        images = volumes(write_phantom(kind, tmp_path / kind, cases=8, size=0.4), labels=False)
        assert len({nib.aff2axcodes(image.affine) for image in images}) >= least
        assert len({image.shape for image in images}) >= 5
        assert any(size % 2 for image in images for size in image.shape)
        assert {nib.aff2axcodes(image.affine) for image in images} - {("R", "A", "S")}


def test_half_of_the_hearts_have_official_headers_and_the_others_lie_obliquely(tmp_path):
    for image in volumes(write_phantom("acdc", tmp_path / "raw", cases=8, size=0.4), labels=False):
        number = int(Path(image.get_filename()).name[7:10])
        rotation = image.get_qform()[:3, :3] / image.header.get_zooms()
        assert np.allclose(np.abs(rotation).max(0), 1, atol=1e-4) == (number % 2 == 0)
        assert np.allclose(nib.affines.voxel_sizes(image.affine), 1) == (number % 2 == 0)
        np.testing.assert_allclose(sorted(image.header.get_zooms())[2], 9, atol=1.01)  # slices of 8 or 10 mm


# The same and not the same


@KINDS
def test_same_seed_gives_the_same_bytes_and_another_seed_others(kind, raw, tmp_path):
    again = write_phantom(kind, tmp_path / "again", cases=3, size=0.4)
    other = write_phantom(kind, tmp_path / "other", cases=3, size=0.4, seed=1)
    assert hashes(again) == hashes(raw)
    shared = {name for name in hashes(raw).keys() & hashes(other).keys() if name.endswith(".nii.gz")}
    assert shared
    assert all(hashes(other)[name] != hashes(raw)[name] for name in shared)


def test_case_does_not_depend_on_how_many_there_are(synapse_raw, tmp_path):
    more = hashes(write_phantom("synapse", tmp_path / "more", cases=30, size=0.4))
    few = {name: value for name, value in hashes(synapse_raw).items() if name.endswith(".nii.gz")}
    assert few.items() <= more.items()


@KINDS
@pytest.mark.parametrize("layout", ["raw", "prepared"])
def test_second_call_returns_at_once(kind, layout, tmp_path, monkeypatch):
    settings = {"cases": 3, "size": 0.4, "layout": layout}
    first = write_phantom(kind, tmp_path / "output", **settings)
    before = hashes(tmp_path)
    monkeypatch.setattr(phantom, "_write_raw", None)
    assert write_phantom(kind, str(tmp_path / "output"), **settings) == first
    assert hashes(tmp_path) == before
    with pytest.raises(ValueError, match=r"output must be a new folder or one that was made with the same settings"):
        write_phantom(kind, tmp_path / "output", **settings | {"seed": 1})


@KINDS
def test_folder_with_something_else_is_refused(kind, tmp_path):
    (tmp_path / "note.txt").write_text("of the user")
    with pytest.raises(ValueError, match="output must be a new or empty folder, got"):
        write_phantom(kind, tmp_path)


# The prepared layout


@pytest.mark.parametrize(("kind", "classes"), [("synapse", 14), ("synapse", 9), ("acdc", 14)])
def test_prepared_layout_is_the_raw_one_prepared(kind, classes, raw, tmp_path):
    prepare = {"synapse": prepare_synapse, "acdc": prepare_acdc}[kind]
    settings = {} if kind == "acdc" else {"classes": classes}
    expected = json.loads(prepare(raw, tmp_path / "expected", allow_missing=True, **settings).read_text())
    datalist = write_phantom(kind, tmp_path / "output", cases=3, size=0.4, layout="prepared", classes=classes)
    assert datalist == tmp_path / "output" / "dataset.json"
    found = json.loads(datalist.read_text())
    assert found["settings"].pop("phantom") == {"dataset": kind, "cases": 3, "seed": 0, "size": 0.4}
    assert found["settings"] == expected["settings"]
    for key in ("training", "validation", "test", "labels", "missing", "source"):
        assert found[key] == expected[key]
    names = [name for name in found["sha256"] if name.endswith(".nii.gz")]
    assert [found["sha256"][name] for name in names] == [expected["sha256"][name] for name in names]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# Arguments


@pytest.mark.parametrize(
    ("kind", "cases", "most"), [("synapse", 2, 30), ("synapse", 31, 30), ("acdc", 101, 100), ("acdc", 3.0, 100)]
)
def test_number_of_cases_out_of_range_is_refused(kind, cases, most, tmp_path):
    with pytest.raises(ValueError, match=rf"cases must be a whole number from 3 to {most}, got {cases}"):
        write_phantom(kind, tmp_path / "output", cases=cases)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"seed": 0.5}, "seed must be a whole number of at least 0, got 0.5"),
        ({"size": 0.3}, "size must be from 0.4 to 8, got 0.3"),
        ({"size": float("nan")}, "size must be from 0.4 to 8, got nan"),
        ({"size": "1"}, "size must be from 0.4 to 8, got '1'"),
        ({"classes": 9}, "classes must be left at 14 but for the prepared layout of Synapse, got 9"),
        ({"classes": 8, "layout": "prepared"}, "classes must be 14 or 9, got 8"),
        ({"layout": "cooked"}, "cooked"),
    ],
    ids=str,
)
def test_other_arguments_out_of_range_are_refused(settings, sentence, tmp_path):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        write_phantom("synapse", tmp_path / "output", **settings)
    assert list(tmp_path.iterdir()) == []


def test_unknown_dataset_is_refused(tmp_path):
    with pytest.raises(ValueError, match="brats"):
        write_phantom("brats", tmp_path / "output")

"""From official folders to a dataset: all is checked before anything is written, the source stays as it was."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.data import load_decathlon_datalist
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, Orientationd, Spacingd

from vafa_monai.data import (
    check_cases,
    preparation,
    prepare_acdc,
    prepare_mni152,
    prepare_synapse,
    sha256,
    write_phantom,
)
from vafa_monai.data.files import list_hashes
from vafa_monai.data.split import PARTS
from vafa_monai.data.volume import read_volume

BOTH = pytest.mark.parametrize(("kind", "prepare"), [("synapse", prepare_synapse), ("acdc", prepare_acdc)])
SUFFIXES = {"training": "Tr", "validation": "Val", "test": "Ts"}


@pytest.fixture
def raw(request, kind) -> Path:
    return request.getfixturevalue(f"{kind}_raw")


@pytest.fixture
def copy(request, kind) -> Path:
    return request.getfixturevalue(f"{kind}_copy")


def images_of(folder: Path) -> list[Path]:
    """The images of a raw folder of either layout, sorted."""
    return sorted(path for path in folder.rglob("*.nii.gz") if "_gt" not in path.name and "label" not in path.name)


def label_of(image: Path) -> Path:
    if image.parent.name == "img":
        return image.parents[1] / "label" / image.name.replace("img", "label")
    return image.with_name(image.name.replace(".nii", "_gt.nii"))


def refused(prepare: Callable, source: Path, tmp_path: Path, sentence: str, **settings: object) -> str:
    """Check that a source is refused by a sentence in its own line and that nothing is written; return the message."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError, match=r"^source must be free of faults, got \d+ in ") as caught:
        prepare(source, tmp_path / "output", **{"allow_missing": True, **settings})
    message = str(caught.value)
    assert re.search(rf"^- {sentence}$", message, re.MULTILINE), message
    assert sorted(tmp_path.rglob("*")) == before
    return message


# What is written


@BOTH
def test_output_is_that_of_the_decathlon(kind, prepare, raw, tmp_path):
    datalist = prepare(raw, tmp_path / "output", allow_missing=True)
    assert datalist == tmp_path / "output" / "dataset.json"
    content = json.loads(datalist.read_text())
    for part in PARTS:
        names = [Path(case["image"]).name for case in content[part]]
        suffix = SUFFIXES[part]
        assert content[part] == [{"image": f"images{suffix}/{n}", "label": f"labels{suffix}/{n}"} for n in names]
    assert (content["numTraining"], content["numTest"]) == (len(content["training"]), len(content["test"]))
    listed = {path for part in PARTS for case in content[part] for path in case.values()}
    files = {path.relative_to(datalist.parent).as_posix() for path in datalist.parent.rglob("*") if path.is_file()}
    assert files == listed | {"dataset.json", "data_report.html", "data_report.json"}
    assert content["sha256"] == {name: sha256(datalist.parent / name) for name in files - {"dataset.json"}}


@BOTH
def test_voxels_and_their_places_are_those_of_the_source(kind, prepare, raw, tmp_path):
    folder = prepare(raw, tmp_path / "output", allow_missing=True).parent
    for source in images_of(raw):
        [image] = folder.glob(f"images*/{source.name}")
        [label] = folder.glob(f"labels*/{source.name}")
        for old, new in ((source, image), (label_of(source), label)):
            np.testing.assert_array_equal(nib.load(new).dataobj, nib.load(old).dataobj)
        assert nib.load(image).get_data_dtype() == nib.load(source).get_data_dtype()
        assert nib.load(label).get_data_dtype() == np.uint8
        np.testing.assert_array_equal(nib.load(image).affine, nib.load(label).affine)
        place = read_volume(source).settled(pixdim_rules=kind == "acdc").affine
        np.testing.assert_allclose(nib.load(image).affine, place, atol=1e-4)


@BOTH
def test_monai_reads_it_and_the_checks_before_training_pass(kind, prepare, raw, tmp_path):
    datalist = prepare(raw, tmp_path / "output", allow_missing=True)
    keys = ["image", "label"]
    spacing = Spacingd(keys, (10, 10, 15), mode=("bilinear", "nearest"))
    load = Compose([LoadImaged(keys), EnsureChannelFirstd(keys), Orientationd(keys, "RAS", labels=None), spacing])
    for part in PARTS:
        data = load_decathlon_datalist(datalist, True, part)
        check_cases(data, num_classes=14 if kind == "synapse" else 4, unique_names=True)
        case = load(data[0])
        assert case["image"].shape == case["label"].shape
        assert case["label"].max() > 0


@BOTH
def test_source_is_never_touched(kind, prepare, copy, tmp_path, state_of):
    before = state_of(copy)
    folders = {path: path.stat().st_mtime_ns for path in [copy, *copy.rglob("*")] if path.is_dir()}
    prepare(copy, tmp_path / "output", allow_missing=True)
    prepare(copy, tmp_path / "output", allow_missing=True)
    assert state_of(copy) == before
    assert {path: path.stat().st_mtime_ns for path in [copy, *copy.rglob("*")] if path.is_dir()} == folders


@BOTH
def test_source_is_recorded_with_sizes_and_hashes(kind, prepare, raw, tmp_path):
    content = json.loads(prepare(raw, tmp_path / "output", allow_missing=True).read_text())
    files = [path for image in images_of(raw) for path in (image, label_of(image))]
    assert content["source"] == {
        path.relative_to(raw).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files
    }
    assert str(raw) not in json.dumps(content)


@BOTH
def test_two_outputs_of_one_source_are_the_same_to_the_byte(kind, prepare, raw, tmp_path):
    first, second = (prepare(raw, tmp_path / name, allow_missing=True) for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()  # which holds the hash of every other file


def test_split_of_the_users_own_is_taken(synapse_raw, tmp_path):
    names = sorted(path.name[:7] for path in (synapse_raw / "img").iterdir())
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"training": names[:2], "test": names[2:]}))
    content = json.loads(prepare_synapse(synapse_raw, tmp_path / "output", split=split, validation=1).read_text())
    assert [Path(content[part][0]["image"]).name[:7] for part in PARTS] == [names[0], names[1], names[2]]


@BOTH
def test_phantoms_are_told_from_patients(kind, prepare, copy, tmp_path):
    assert json.loads(prepare(copy, tmp_path / "phantoms", allow_missing=True).read_text())["synthetic"] is True
    for image in images_of(copy):
        volume = nib.load(image)
        volume.header["descrip"] = "5.0.11"
        nib.save(nib.Nifti1Image(np.asanyarray(volume.dataobj), volume.affine, volume.header), image)
    assert json.loads(prepare(copy, tmp_path / "patients", allow_missing=True).read_text())["synthetic"] is False


# Called again


@BOTH
def test_second_call_returns_at_once_and_changes_nothing(kind, prepare, raw, tmp_path, state_of, monkeypatch):
    datalist = prepare(raw, tmp_path / "output", allow_missing=True)
    before = state_of(tmp_path)
    monkeypatch.setattr(preparation, "read_or_fault", None)  # no volume is read
    assert prepare(str(raw), str(tmp_path / "output"), allow_missing=True) == datalist
    assert state_of(tmp_path) == before


@pytest.mark.parametrize(
    ("settings", "differing"),
    [
        ({"classes": 9}, "classes"),
        ({"validation": 4}, "split"),
        ({"affine_tolerance": 0.2}, "affine_tolerance"),
        ({"allow_missing": False}, "allow_missing"),
    ],
    ids=str,
)
def test_other_settings_are_refused(synapse_raw, tmp_path, settings, differing):
    prepare_synapse(synapse_raw, tmp_path / "output", allow_missing=True)
    with pytest.raises(ValueError, match=rf"output must be a new folder .* made with another {differing}\."):
        prepare_synapse(synapse_raw, tmp_path / "output", **{"allow_missing": True, **settings})


def test_another_way_to_say_the_same_is_the_same(synapse_raw, tmp_path):
    datalist = prepare_synapse(synapse_raw, tmp_path / "output", allow_missing=True)
    assert prepare_synapse(synapse_raw, tmp_path / "output", allow_missing=True, classes=14, validation=3) == datalist


def test_other_source_is_refused(synapse_copy, tmp_path, rewrite):
    prepare_synapse(synapse_copy, tmp_path / "output", allow_missing=True)
    image = images_of(synapse_copy)[0]
    rewrite(image, array=lambda old: old // 2)
    sentence = rf"output must be .* made of the same source, got .* of which 1 differ, first 'img/{image.name}'"
    with pytest.raises(ValueError, match=sentence):
        prepare_synapse(synapse_copy, tmp_path / "output", allow_missing=True)


@BOTH
def test_folder_with_something_else_is_refused_before_the_source_is_read(kind, prepare, raw, tmp_path, monkeypatch):
    (tmp_path / "output").mkdir()
    (tmp_path / "output" / "note.txt").write_text("of the user")
    monkeypatch.setattr(preparation, "read_or_fault", None)
    with pytest.raises(ValueError, match=r"output must be a new or empty folder, got .*, which holds something else"):
        prepare(raw, tmp_path / "output", allow_missing=True)
    assert (tmp_path / "output" / "note.txt").read_text() == "of the user"


@BOTH
def test_call_that_breaks_off_leaves_nothing_and_can_be_made_again(kind, prepare, raw, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_report", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            prepare(raw, tmp_path / "output", allow_missing=True)
    assert list(tmp_path.iterdir()) == []
    assert prepare(raw, tmp_path / "output", allow_missing=True).is_file()


# Places and settings


@pytest.mark.parametrize("place", ["source", "source/inside", "."])
def test_output_that_would_touch_the_source_is_refused(tmp_path, place):
    (tmp_path / "source").mkdir()
    with pytest.raises(ValueError, match="output must lie outside of source"):
        prepare_acdc(tmp_path / "source", tmp_path / place)


def test_source_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"source must be a folder, got '.*absent'"):
        prepare_synapse(tmp_path / "absent", tmp_path / "output")


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_tolerance_below_zero_is_refused(tmp_path, tolerance):
    with pytest.raises(ValueError, match="affine_tolerance must be at least 0 voxels, got"):
        prepare_acdc(tmp_path, tmp_path / "output", affine_tolerance=tolerance)


# Faults: each makes a good folder a bad one


@BOTH
@pytest.mark.parametrize("which", ["image", "label"])
def test_missing_file_of_a_case_is_refused_even_if_cases_may_be_missing(kind, prepare, copy, tmp_path, which):
    image = images_of(copy)[0]
    path = image if which == "image" else label_of(image)
    path.unlink()
    refused(prepare, copy, tmp_path, rf"{which} must exist for every case, got no '{path.name}'.*\.")


@BOTH
def test_case_in_two_files_is_refused(kind, prepare, copy, tmp_path):
    image = images_of(copy)[0]
    nib.save(nib.load(image), image.with_suffix(""))
    refused(
        prepare, copy, tmp_path, rf"image must exist once for every case, got '{image.name}' and '{image.stem}'.*\."
    )


@BOTH
def test_copy_of_an_image_under_another_name_is_refused(kind, prepare, copy, tmp_path):
    first, *_, last = images_of(copy)
    for old, new in ((first, last), (label_of(first), label_of(last))):
        new.unlink()
        nib.save(nib.Nifti1Image(np.asarray(nib.load(old).dataobj), None, nib.load(old).header), new)
    names = rf"'{first.name[:-7]}' and '{last.name[:-7]}'"
    refused(prepare, copy, tmp_path, rf"images must differ from case to case, got the same voxels for {names}\.")


@BOTH
@pytest.mark.parametrize("which", ["image", "label"])
@pytest.mark.parametrize("content", [b"", b"no volume", None], ids=["empty", "text", "cut off"])
def test_unreadable_file_is_refused(kind, prepare, copy, tmp_path, which, content):
    image = images_of(copy)[0]
    path = image if which == "image" else label_of(image)
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    refused(prepare, copy, tmp_path, rf"{which} must be a readable volume, got '{path.name}' \(.*\)\.")


def moved(voxels: float) -> Callable[[np.ndarray], np.ndarray]:
    def move(affine: np.ndarray) -> np.ndarray:
        affine[:3, 3] += voxels * affine[:3, 0]
        return affine

    return move


def flat(affine: np.ndarray) -> np.ndarray:
    affine[:3, 1] = affine[:3, 0]
    return affine


def without_spacing(affine: np.ndarray) -> np.ndarray:
    affine[:3, 2] = 0
    return affine


def with_value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def put(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.float32)
        array[2, 3, 4] = value
        return array

    return put


BAD_IMAGES = {
    "NaN": ({"array": with_value(np.nan)}, r"image must be finite, got 1 NaN or infinite voxels for 'NAME'\."),
    "infinite": ({"array": with_value(np.inf)}, r"image must be finite, got 1 NaN or infinite voxels for 'NAME'\."),
    "constant": ({"array": np.zeros_like}, r"image must not be constant, got 0 everywhere for 'NAME'\."),
    "2D": ({"array": lambda old: old[0]}, r"image must be 3D, got the shape \(\d+, \d+\) for 'NAME'\."),
    "4D": ({"array": lambda old: old[..., None]}, r"image must be 3D, got the shape \(\d+, \d+, \d+, 1\) for 'NAME'\."),
    "complex": (
        {"array": lambda old: old.astype(np.complex64)},
        r"image must hold one real number per voxel, got voxels of type complex64 for 'NAME'\.",
    ),
    "parallel axes": (
        {"affine": flat},
        r"image must have an affine that can be inverted, got directions with the determinant .* for 'NAME'\.",
    ),
    "no spacing": (
        {"affine": without_spacing},
        r"image must have a spacing above 0 mm along every axis, got .* x 0 mm for 'NAME'\.",
    ),
    "shape": (
        {"array": lambda old: old[1:]},
        r"label must have the shape of its image \(\d+, \d+, \d+\), got \(\d+, \d+, \d+\) for '.*'\.",
    ),
    "shifted": (
        {"affine": moved(0.5)},
        r"label must lie on its image to within 0\.1 voxels, got a corner 0\.5 voxels away by its affine for .*\.",
    ),
}
BAD_LABELS = {
    "above the classes": (
        {"array": with_value(99)},
        r"label must hold class indices from 0 to (3|13), got 99 for 'NAME'\.",
    ),
    "negative": ({"array": with_value(-1)}, r"label must hold class indices from 0 to (3|13), got -1 for 'NAME'\."),
    "fraction": (
        {"array": with_value(0.5)},
        r"label must hold whole numbers, got 0\.5 and 0 other values for 'NAME'\.",
    ),
    "NaN": ({"array": with_value(np.nan)}, r"label must hold whole numbers, got nan and 0 other values for 'NAME'\."),
    "empty": ({"array": np.zeros_like}, r"label must hold something, got the background only for 'NAME'\."),
    "4D": ({"array": lambda old: old[..., None]}, r"label must be 3D, got the shape .* for 'NAME'\."),
    "no spacing": ({"affine": without_spacing}, r"label must have a spacing above 0 mm .* for 'NAME'\."),
}


@BOTH
@pytest.mark.parametrize("fault", BAD_IMAGES)
def test_bad_image_is_refused(kind, prepare, copy, tmp_path, rewrite, fault):
    changes, sentence = BAD_IMAGES[fault]
    image = images_of(copy)[0]
    rewrite(image, **changes)
    refused(prepare, copy, tmp_path, sentence.replace("NAME", image.name))


@BOTH
@pytest.mark.parametrize("fault", BAD_LABELS)
def test_bad_label_is_refused(kind, prepare, copy, tmp_path, rewrite, fault):
    changes, sentence = BAD_LABELS[fault]
    label = label_of(images_of(copy)[0])
    rewrite(label, **changes)
    refused(prepare, copy, tmp_path, sentence.replace("NAME", label.name))


@pytest.mark.parametrize(
    "change",
    [lambda hu: np.clip((hu + 175) / 425, 0, 1), lambda hu: hu + 1024, lambda hu: np.clip(hu, -125, 275)],
    ids=["rescaled", "without the intercept", "clipped"],
)
def test_ct_in_other_units_is_refused(synapse_copy, tmp_path, rewrite, change):
    image = images_of(synapse_copy)[0]
    rewrite(image, array=lambda old: change(old.astype(np.float32)))
    sentence = rf"image must be in Hounsfield units, .* probably rescaled or clipped, for '{image.name}'\."
    refused(prepare_synapse, synapse_copy, tmp_path, sentence)


def test_ct_with_two_spacings_is_refused(synapse_copy, tmp_path, rewrite):
    image = images_of(synapse_copy)[0]
    rewrite(image, pixdim=(1, 1, 1))
    sentence = (
        rf"image must have one spacing, got .* mm by its affine and 1 x 1 x 1 mm by its pixdim for '{image.name}'\."
    )
    refused(prepare_synapse, synapse_copy, tmp_path, sentence)


@BOTH
def test_names_of_the_split_that_the_source_lacks_are_refused_unless_they_may(kind, prepare, raw, tmp_path):
    unit, number = ("case", 27) if kind == "synapse" else ("patient", 97)
    sentence = (
        rf"source must hold every {unit} of the split unless allow_missing is set, got no file of {number}: .*, …\."
    )
    refused(prepare, raw, tmp_path, sentence, allow_missing=False)
    content = json.loads(prepare(raw, tmp_path / "output", allow_missing=True).read_text())
    assert len(content["missing"]) == number
    report = (tmp_path / "output" / "data_report.html").read_text()
    assert f"{number} entries of the split are not in the source and were left out" in report
    assert all(name in report for name in content["missing"])


@BOTH
@pytest.mark.parametrize("part", PARTS)
def test_part_without_a_case_is_refused(kind, prepare, copy, tmp_path, part):
    image = Path(json.loads(prepare(copy, tmp_path / "whole", allow_missing=True).read_text())[part][0]["image"])
    if kind == "synapse":
        (copy / "img" / image.name).unlink()
        (copy / "label" / image.name.replace("img", "label")).unlink()
    else:
        shutil.rmtree(copy / image.name[:10])
    sentence = rf"{part} must keep at least one (case|patient), got none of \d+ in the source\."
    refused(prepare, copy, tmp_path, sentence)


@BOTH
def test_split_that_overlaps_is_refused(kind, prepare, raw, tmp_path):
    split = tmp_path / "split.json"
    names = sorted({image.name[: 7 if kind == "synapse" else 10] for image in images_of(raw)})
    split.write_text(json.dumps({"training": names[:2], "validation": names[2:], "test": [names[0]]}))
    sentence = rf"split must name every case once, got '{names[0]}' in training and test\."
    refused(prepare, raw, tmp_path, sentence, split=split)


@BOTH
def test_all_faults_are_told_at_once(kind, prepare, copy, tmp_path, rewrite):
    images = images_of(copy)
    rewrite(images[0], array=np.zeros_like)
    rewrite(label_of(images[0]), array=with_value(99))
    rewrite(label_of(images[1]), array=lambda old: old[1:])
    images[2].unlink()
    message = refused(prepare, copy, tmp_path, "image must not be constant, .*")
    rules = [line.partition(", got")[0] for line in message.splitlines()[1:]]
    assert [rule.partition(" (")[0] for rule in rules] == [
        "- image must exist for every case",
        "- image must not be constant",
        f"- label must hold class indices from 0 to {13 if kind == 'synapse' else 3}",
        "- label must have the shape of its image",
    ]
    assert message.startswith("source must be free of faults, got 4 in ")


# Tolerance


@BOTH
@pytest.mark.parametrize(("voxels", "tolerance"), [(0.05, 0.1), (0.4, 0.5)], ids=["default", "raised"])
def test_label_within_the_tolerance_gets_the_affine_of_its_image(
    kind, prepare, copy, tmp_path, rewrite, voxels, tolerance
):
    image = images_of(copy)[0]
    rewrite(label_of(image), affine=moved(voxels))
    folder = prepare(copy, tmp_path / "output", allow_missing=True, affine_tolerance=tolerance).parent
    [written], [label] = (list(folder.glob(f"{name}*/{image.name}")) for name in ("images", "labels"))
    np.testing.assert_array_equal(nib.load(label).affine, nib.load(written).affine)
    sentence = "The label got the affine of its image, which was not quite its own."
    warnings = json.loads((folder / "data_report.json").read_text())["warnings"]
    assert {"text": sentence, "cases": [image.name[:-7]]} in warnings


# Killed


@pytest.mark.parametrize(
    ("shares", "always"),
    [
        ((0.3, 0.8, 0.97), False),
        pytest.param(tuple(np.random.default_rng(0).uniform(0, 1.1, 20)), True, marks=pytest.mark.slow),
    ],
    ids=["three moments", "twenty moments"],
)
def test_preparation_that_was_killed_ends_as_one_that_was_not(synapse_raw, tmp_path, shares, always, kill):
    start = time.monotonic()
    expected = list_hashes(prepare_synapse(synapse_raw, tmp_path / "whole", allow_missing=True).parent)
    whole, output = time.monotonic() - start, tmp_path / "killed" / "output"
    for share in shares:
        kill(lambda: prepare_synapse(synapse_raw, output, allow_missing=True), seconds=share * whole)
        assert not output.exists() or list_hashes(output) == expected
        if always or share == shares[-1]:
            assert list_hashes(prepare_synapse(synapse_raw, output, allow_missing=True).parent) == expected
            assert list(output.parent.iterdir()) == [output]
            shutil.rmtree(output)


@pytest.mark.parametrize("number", [0, 1], ids=["before", "after"])
def test_killed_preparation_is_not_mixed_with_one_of_other_settings(number, synapse_raw, tmp_path, kill):
    output, whole = tmp_path / "killed", tmp_path / "whole"
    prepare = partial(prepare_synapse, synapse_raw, output, allow_missing=True)
    assert kill(prepare, rename=number, of=output.name) == -9
    assert output.exists() == bool(number)
    if number:
        with pytest.raises(ValueError, match="output must"):
            prepare_synapse(synapse_raw, output, allow_missing=True, classes=9)
        shutil.rmtree(output)
    hashes = [
        list_hashes(prepare_synapse(synapse_raw, place, allow_missing=True, classes=9).parent)
        for place in (output, whole)
    ]
    assert hashes[0] == hashes[1]
    assert sorted(tmp_path.iterdir()) == [output, whole]


# Places that cannot be written to


@pytest.mark.parametrize(
    "prepare",
    [
        lambda source, output: prepare_synapse(source, output, allow_missing=True),
        lambda source, output: write_phantom("synapse", output, cases=3),
        lambda source, output: prepare_mni152(output),
    ],
    ids=["prepare", "phantom", "mni152"],
)
def test_place_that_cannot_be_written_to_is_found_before_the_work(synapse_raw, tmp_path, monkeypatch, prepare):
    for name in ("preparation._check_cases", "phantom._write_raw", "mni152._load_tissue"):
        monkeypatch.setattr(f"vafa_monai.data.{name}", None)
    (tmp_path / "file").write_text("of the user")
    for output in (tmp_path / "file" / "output", Path("/proc/output")):
        with pytest.raises(ValueError, match=r"^output must be a place that can be written to, got "):
            prepare(synapse_raw, output)

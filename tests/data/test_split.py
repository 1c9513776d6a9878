"""Splits: what is taken for validation, what a file may hold, what stands twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.data import load_decathlon_datalist

from vafa_monai.data.split import (
    PARTS,
    complete_split,
    evenly_spaced,
    overlaps,
    read_datalist,
    read_split,
    take_validation,
)

NAMES = [f"case{number:02d}" for number in range(10)]


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


# Validation


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_validation_is_taken_from_training_alone(count):
    split = take_validation({"training": NAMES, "test": ["z", "y"]}, count)
    assert tuple(split) == PARTS
    assert len(split["validation"]) == count
    assert sorted(split["training"] + split["validation"]) == NAMES
    assert split["test"] == ["y", "z"]


def test_validation_does_not_depend_on_the_order_of_the_names():
    shuffled = {"training": NAMES[::-1], "test": ["z"]}
    assert take_validation(shuffled, 3) == take_validation({"training": NAMES, "test": ["z"]}, 3)
    assert shuffled["training"] == NAMES[::-1]  # and the argument stays as it is


@pytest.mark.parametrize("groups", [2, 5])
def test_every_stretch_of_names_gives_its_share(groups):
    taken = evenly_spaced(range(80), 2 * groups)
    assert [index // (80 // groups) for index in taken] == [group for group in range(groups) for _ in range(2)]


@pytest.mark.parametrize("count", [0, -1, 10, 1.0, True, "2", None])
def test_number_that_leaves_a_part_empty_or_is_none_is_refused(count):
    with pytest.raises(ValueError, match="validation must be a whole number from 1 to 9, got"):
        take_validation({"training": NAMES, "test": []}, count)


def test_split_with_a_validation_part_keeps_it():
    split = {"training": ["b", "a"], "validation": ["c"], "test": ["d"], "note": "x"}
    assert complete_split(split, None, default=1) == {"training": ["a", "b"], "validation": ["c"], "test": ["d"]}
    with pytest.raises(ValueError, match="validation must be left out with a split that has a validation part, got 1"):
        complete_split(split, 1, default=1)


@pytest.mark.parametrize(("validation", "count"), [(None, 4), (2, 2)])
def test_default_number_holds_if_nobody_says(validation, count):
    assert len(complete_split({"training": NAMES, "test": ["z"]}, validation, default=4)["validation"]) == count


# Files


@pytest.mark.parametrize("kind", [str, Path], ids=["str", "Path"])
@pytest.mark.parametrize("parts", [("training", "test"), PARTS], ids=len)
def test_split_is_read_without_what_else_the_file_holds(tmp_path, parts, kind):
    content = {part: [f"{part}_1", f"{part} 2"] for part in parts}
    assert read_split(kind(write(tmp_path / "split.json", content | {"note": "x"}))) == content


@pytest.mark.parametrize(
    "content",
    [
        "no JSON",
        ["a"],
        {"training": ["a"]},
        {"test": ["a"]},
        {"training": [], "test": ["a"]},
        {"training": "a", "test": ["b"]},
        {"training": [1], "test": ["b"]},
        {"training": [""], "test": ["b"]},
        {"training": ["a"], "test": ["b"], "validation": []},
        {"training": [{"image": "a"}], "test": ["b"]},
        {"training": ["../a"], "test": ["b"]},
        {"training": ["a"], "test": [".."]},
        {"training": ["a\\b"], "test": ["b"]},
    ],
    ids=str,
)
def test_file_of_another_form_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"split must be (a JSON file with lists|an object in JSON|readable as JSON)"):
        read_split(write(tmp_path / "split.json", content))


def test_absent_file_is_refused_with_its_name(tmp_path):
    with pytest.raises(ValueError, match=r"split must be a readable JSON file, got '.*absent\.json'"):
        read_split(tmp_path / "absent.json")


def test_every_name_that_stands_twice_gets_a_sentence():
    split = {"training": ["a", "b", "b"], "validation": ["c"], "test": ["a", "d"]}
    assert overlaps(split) == [
        "split must name every case once, got 'a' in training and test.",
        "split must name every case once, got 'b' in training and training.",
    ]
    assert overlaps({"training": ["a"], "validation": ["b"], "test": ["c"]}) == []


# Lists of cases

CASE = {"image": "imagesTs/a.nii.gz", "label": "labelsTs/a.nii.gz"}


def test_part_that_may_be_missing_is_empty_then(tmp_path):
    case = {"image": "image.nii.gz", "label": "label.nii.gz"}
    path = write(tmp_path / "dataset.json", {"training": [case], "validation": []})
    for part in ("test", "validation"):
        assert read_datalist(path, part, required=False) == []
    assert read_datalist(tmp_path / "none.json", "test", required=False) == []
    assert len(read_datalist(path, "training", required=False)) == 1
    with pytest.raises(ValueError, match="each with paths as 'image' and 'label'"):
        read_datalist(write(path, {"test": [{"image": "a"}]}), "test", required=False)


@pytest.mark.parametrize(
    "case", [CASE, CASE | {"image": ["a/t1.nii.gz", "a/t2.nii.gz"], "fold": 0}], ids=["one", "list"]
)
def test_cases_are_those_that_monai_reads(tmp_path, case):
    path = write(tmp_path / "dataset.json", {"name": "x", "test": [case]})
    assert read_datalist(path, "test") == load_decathlon_datalist(path, True, "test")
    assert read_datalist(path, "test")[0]["label"] == str(tmp_path / case["label"])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"test": [], "training": [CASE]}, r"as 'test', got list in '.*', which has lists as \['training'\]"),
        ({"training": [CASE]}, "as 'test', got NoneType in"),
        ({"test": {"image": "a"}}, "as 'test', got dict in"),
        ({"test": ["imagesTs/a.nii.gz"]}, "each with paths as 'image' and 'label', got 'imagesTs/a.nii.gz' in"),
        ({"test": [{"image": 1, "label": "b"}]}, r"each with paths as 'image' and 'label', got \{'image': 1"),
        ({"test": [{"image": [], "label": "b"}]}, r"each with paths as 'image' and 'label', got \{'image': \[\]"),
    ],
    ids=["empty", "missing", "no list", "bare paths", "number", "no modality"],
)
def test_part_without_cases_is_refused_in_one_sentence(tmp_path, content, sentence):
    path = write(tmp_path / "dataset.json", content)
    with pytest.raises(ValueError, match=f"^datalist must have a list of cases .*{sentence}"):
        read_datalist(path, "test")
    with pytest.raises(SystemExit, match=r"^datalist must have a list of cases"):
        read_datalist(path, "test", exit_on_error=True)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"test": ' + "7" * 400 + "}", "[]"], ids=["deep", "digits", "list"])
def test_list_that_is_no_json_of_a_dataset_is_refused(tmp_path, text):
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(ValueError, match=r"^datalist must be (readable as|an object in) JSON, got"):
        read_datalist(tmp_path / "dataset.json", "test")

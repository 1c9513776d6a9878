"""Folders that are there as a whole, or not at all, and that know what made them."""

from __future__ import annotations

import json

import pytest

from vafa_monai.data import sha256
from vafa_monai.data.files import is_finished, list_hashes, whole_folder

SETTINGS = {"a": 1, "b": ["x", 0.5]}


def fill(folder, settings=SETTINGS):
    with whole_folder(folder) as beside:
        (beside / "below").mkdir()
        (beside / "below" / "file").write_text("all")
        (beside / "manifest.json").write_text(json.dumps({"settings": settings, "sha256": list_hashes(beside)}))
    return folder


@pytest.mark.parametrize("before", ["absent", "empty"])
def test_folder_appears_when_it_is_complete(tmp_path, before):
    path = tmp_path / "new" / "folder"
    if before == "empty":
        path.mkdir(parents=True)
    with whole_folder(path) as beside:
        (beside / "file").write_text("all")
        assert not (path / "file").exists()
        assert beside.parent == path.parent
    assert (path / "file").read_text() == "all"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt], ids=lambda error: error.__name__)
def test_writer_that_raises_leaves_nothing(tmp_path, error):
    def write_half():
        with whole_folder(tmp_path / "folder") as beside:
            (beside / "file").write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert list(tmp_path.iterdir()) == []


def test_folder_that_was_filled_meanwhile_is_kept(tmp_path):
    def write_late():
        with whole_folder(tmp_path / "folder") as beside:
            (beside / "file").write_text("late")
            fill(tmp_path / "folder")

    with pytest.raises(OSError, match="not empty"):
        write_late()
    assert (tmp_path / "folder" / "below" / "file").read_text() == "all"
    assert len(list(tmp_path.iterdir())) == 1


def test_new_folder_has_the_rights_of_others_beside_it(tmp_path):
    (tmp_path / "other").mkdir()
    assert fill(tmp_path / "folder").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_hashes_are_of_every_file_below(tmp_path):
    folder = fill(tmp_path / "folder")
    names = ["below/file", "manifest.json"]
    assert list_hashes(folder) == {name: sha256(folder / name) for name in names}


def test_folder_is_finished_once_it_is_written(tmp_path):
    folder = tmp_path / "folder"
    assert not is_finished(folder, "manifest.json", SETTINGS)
    folder.mkdir()
    assert not is_finished(folder, "manifest.json", SETTINGS)
    fill(folder)
    assert is_finished(folder, "manifest.json", SETTINGS)
    (folder / "note.txt").write_text("of the user")
    assert is_finished(folder, "manifest.json", SETTINGS)


@pytest.mark.parametrize(
    "content", [None, "no JSON", "[]", "{}", '{"settings": {}}', '{"settings": [], "sha256": {}}'], ids=str
)
def test_folder_of_somebody_else_is_refused(tmp_path, content):
    (tmp_path / "note.txt").write_text("of the user")
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"output must be a new or empty folder, got '.*', which holds something else"):
        is_finished(tmp_path, "manifest.json", SETTINGS)


def test_file_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("of the user")
    with pytest.raises(ValueError, match="output must be a new or empty folder, got"):
        is_finished(tmp_path / "file", "manifest.json", SETTINGS)


def test_other_settings_are_refused_by_name(tmp_path):
    folder = fill(tmp_path / "folder")
    with pytest.raises(
        ValueError, match=r"one that was made with the same settings, got .*, made with another b and c"
    ):
        is_finished(folder, "manifest.json", {"a": 1, "b": ["x"], "c": 0})


@pytest.mark.parametrize(
    "spoil", [lambda path: path.write_text("other"), lambda path: path.unlink()], ids=["changed", "missing"]
)
def test_changed_or_missing_file_is_refused_by_name(tmp_path, spoil):
    folder = fill(tmp_path / "folder")
    spoil(folder / "below" / "file")
    with pytest.raises(ValueError, match="1 of 1 are changed or missing, first 'below/file'"):
        is_finished(folder, "manifest.json", SETTINGS)

"""Files that are there as a whole, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import files, read_json, sha256, whole_file, write_json, write_volume
from vafa_monai.data.files import require_writable


def test_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with whole_file(path) as beside:
        beside.write_text("all")
        assert not path.exists()
    assert path.read_text() == "all"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("before", [None, "old"], ids=["new file", "replaced file"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt], ids=lambda error: error.__name__)
def test_writer_that_raises_leaves_everything_as_it_was(tmp_path, before, error):
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)

    def write_half():
        with whole_file(path) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert [file.read_text() for file in tmp_path.iterdir()] == ([before] if before else [])


def test_writer_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "a.txt"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.nii.gz", "a.npz", "a.json"])
def test_file_beside_lies_in_the_same_folder_with_the_same_ending(tmp_path, name):
    with whole_file(tmp_path / name) as beside:
        beside.touch()
        assert beside.parent == tmp_path
        assert beside.name.endswith(name)


def test_json_is_read_back(tmp_path):
    content = {"number": 0.1, "none": None, "text": "ä", "list": [1, 2]}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content


@pytest.mark.parametrize("content", [float("nan"), float("inf"), object()], ids=["NaN", "infinite", "object"])
def test_what_json_cannot_hold_leaves_no_file(tmp_path, content):
    with pytest.raises((ValueError, TypeError), match="JSON"):
        write_json(tmp_path / "a.json", {"number": [content]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 100_000 + b"]" * 100_000, "it is nested too deep"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "it is nested too deep"),
        (b'{"a": ' + b"[" * 100 + b"1" + b"]" * 100 + b"}", "it is nested too deep"),
        (b'{"a": ' + b"7" * 400 + b"}", "the whole number 77777777777777777777… of 400 digits is too large"),
        (b'{"a": -' + b"7" * 5000 + b"}", "of 5001 digits is too large"),
        (b'{"a": 18446744073709551617}', "of 20 digits is too large"),
        (b'{"a": 1e999}', "the number 1e999 is too large"),
        (b'{"a": NaN}', "NaN is no JSON number; write null"),
        (b'{"a": -Infinity}', "-Infinity is no JSON number"),
        (b'{"dsc": 0.9, "b": [1], "dsc": 0.1}', "the key 'dsc' stands twice in one object"),
        (b'{"a": "\\ud800"}', "surrogates not allowed"),
        (b'{"a": "\xff"}', "'utf-8' codec can't decode"),
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b"", "Expecting value"),
        (b'{"a": 1} {}', "Extra data"),
        (b"{'a': 1}", "Expecting property name"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_json_that_programs_would_read_differently_or_break_on_is_refused_in_one_sentence(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^result must be readable as JSON, got '.*a\.json' \(.*{re.escape(reason)}"):
        read_json(tmp_path / "a.json", "result")


@pytest.mark.parametrize("content", ["[]", "1", '"a"', "null"])
def test_json_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=r"^result must be an object in JSON, got \w+ in '.*a\.json'\.$"):
        read_json(tmp_path / "a.json", "result")


@pytest.mark.parametrize(
    ("name", "reason"), [("no.json", "which is missing"), (".", "which is no file"), ("a.json", "more than 3")]
)
def test_missing_or_huge_json_is_refused(tmp_path, name, reason):
    (tmp_path / "a.json").write_text("[1,2]")
    with pytest.raises(ValueError, match=rf"^result must be a readable JSON file, got .*{reason}"):
        read_json(tmp_path / name, "result", list, largest=3)


@pytest.mark.parametrize(
    "content",
    [
        [1, -1.5, 1e-300, 2**64, None, True, "ä😀"],
        [json.loads("[" * 99 + "1" + "]" * 99)],
        [{"a": 1}, {"a": 2}],
    ],
    ids=["scalars", "deep", "objects"],
)
@pytest.mark.parametrize("start", ["", "\ufeff"], ids=["plain", "byte order mark"])
def test_usual_json_is_read(tmp_path, content, start):
    (tmp_path / "a.json").write_text(start + json.dumps(content), encoding="utf-8")
    assert read_json(tmp_path / "a.json", kind=list) == content


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32], ids=lambda kind: kind.__name__)
def test_volume_is_read_back_with_dtype_and_affine(tmp_path, kind):
    volume = np.arange(60, dtype=kind).reshape(3, 4, 5)
    affine = np.array([[0, -1.5, 0, 7], [2, 0, 0, -3], [0, 0, 2.5, 5], [0, 0, 0, 1]])
    write_volume(tmp_path / "a.nii.gz", volume, affine)
    image = nib.load(tmp_path / "a.nii.gz")
    assert np.asanyarray(image.dataobj).dtype == image.get_data_dtype() == kind
    np.testing.assert_array_equal(np.asanyarray(image.dataobj), volume)
    np.testing.assert_allclose(image.affine, affine, rtol=0, atol=1e-6)


def test_volume_that_cannot_be_written_leaves_no_file(tmp_path):
    with pytest.raises(nib.spatialimages.HeaderDataError):
        write_volume(tmp_path / "a.nii.gz", np.zeros((2, 2, 2), np.float16), np.eye(4))
    assert not list(tmp_path.iterdir())


def test_killed_writer_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    writer = "import os, runpy, sys\nwith runpy.run_path(sys.argv[1])['whole_file'](sys.argv[2]) as beside:\n"
    writer += "    beside.write_text('half'); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", writer, files.__file__, str(path)], check=False, timeout=120)
    assert killed.returncode == -9
    assert path.read_text() == "old"


@pytest.mark.parametrize("size", [0, 1, 3 << 20], ids=["empty", "one byte", "3 MiB"])
def test_hash_is_that_of_the_content(tmp_path, size):
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "a").write_bytes(content)
    assert sha256(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_hash_of_older_pythons_is_the_same(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"content" * 300_000)
    expected = sha256(tmp_path / "a")
    monkeypatch.delattr(hashlib, "file_digest", raising=False)
    assert sha256(tmp_path / "a") == expected


@pytest.mark.parametrize("kind", ["folder", "below a file", "full disk"])
def test_place_that_cannot_be_written_to_is_refused_and_nothing_is_left(kind, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    places = {"folder": tmp_path / "folder", "below a file": tmp_path / "file" / "a.json"}
    if kind == "full disk":

        def refuse(**_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(ValueError, match="output must be a place that can be written to, got"):
        require_writable(places.get(kind, tmp_path / "new" / "a.json"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_place_in_a_folder_that_is_not_there_can_be_written_to(tmp_path):
    require_writable(tmp_path / "new" / "folder" / "a.json")
    assert not any(tmp_path.iterdir())


# Links and what killed processes leave


KILLED = (
    "import os, runpy, sys\n"
    "with runpy.run_path(sys.argv[1])['whole_file'](sys.argv[2]) as beside:\n"
    "    beside.write_text('half'); print(beside, flush=True); os.kill(os.getpid(), 9)"
)


def test_link_that_waits_for_the_file_is_not_followed(tmp_path):
    victim, path = tmp_path / "victim", tmp_path / "out" / "results.csv"
    victim.write_text("of the user")
    path.parent.mkdir()
    for name in (f".{os.getpid()}.results.csv", ".results.csv", "results.csv.partial", "results.csv"):
        (path.parent / name).symlink_to(victim)
    files.write_whole(path, "new")
    assert victim.read_text() == "of the user"
    assert (path.read_text(), path.is_symlink()) == ("new", False)


def test_name_beside_cannot_be_guessed(tmp_path):
    names = set()
    for _ in range(3):
        with whole_file(tmp_path / "a.txt") as beside:
            beside.touch()
            names.add(beside.name)
    assert len(names) == 3
    assert all(re.search(r"\.[0-9a-f]{16}\.a\.txt$", name) for name in names)


def test_what_a_killed_writer_left_goes_with_the_next_one_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    command = [sys.executable, "-c", KILLED, files.__file__, str(path)]
    killed = subprocess.run(command, check=False, timeout=120, capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.read_text() == "half"
    with whole_file(path) as running:
        running.write_text("of a process that runs")
        others = [tmp_path / ".a.txt", tmp_path / ".12345.a.txt", tmp_path / left.name.replace("a.txt", "b.txt")]
        for other in others:
            other.write_text("of somebody else")
        files.write_whole(path, "first")
        assert running.exists()
        assert not left.exists()
    assert path.read_text() == "of a process that runs"
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_new_file_has_the_rights_of_others_beside_it(tmp_path):
    (tmp_path / "other").write_text("")
    files.write_whole(tmp_path / "a.txt", "all")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "other").stat().st_mode

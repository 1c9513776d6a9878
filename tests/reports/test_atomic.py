"""Files are whole or absent."""

from pathlib import Path

import pytest

from vafa_monai.reports.atomic import write_atomically


def test_text_and_bytes_are_written_and_replaced(tmp_path):
    path = write_atomically(tmp_path / "new" / "file.txt", "grün")
    assert path.read_text(encoding="utf-8") == "grün"
    write_atomically(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert [one.name for one in path.parent.iterdir()] == ["file.txt"]


def test_failure_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "file.txt", "old")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]

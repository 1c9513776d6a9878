"""``vafa-monai phantom`` and ``prepare`` as a user types them."""

import json
import sys

import pytest

from vafa_monai.cli import main


@pytest.mark.parametrize("dataset", ["synapse", "acdc"])
def test_a_phantom_can_be_prepared(dataset, fork_python, tmp_path):
    for words in (
        ["phantom", dataset, "--cases", 3, "--output", "raw", "--size", 0.4],
        ["prepare", dataset, "--source", "raw", "--output", "data", "--allow_missing"],
    ):
        process = fork_python(["vafa_monai.cli", *words], tmp_path)
        told, _ = process.communicate()
        assert process.returncode == 0, told[-2000:]
    cases = json.loads((tmp_path / "data" / "dataset.json").read_text())
    assert all(len(cases[split]) >= 1 for split in ("training", "validation", "test"))
    assert (tmp_path / "data" / "data_report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prepare", "liver", "--source", "a", "--output", "b"], "error: dataset must be one of ['acdc', 'decathlon',"),
        (["prepare", "acdc", "--source", "nowhere", "--output", "b"], "error: source must"),
        (["phantom", "synapse", "--cases", "1", "--output", "b"], "error: cases must"),
    ],
    ids=["dataset", "source", "cases"],
)
def test_bad_input_ends_with_one_sentence_and_writes_nothing(arguments, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vafa-monai", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value.code).startswith(sentence)
    assert not list(tmp_path.iterdir())

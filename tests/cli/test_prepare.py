"""``vafa-monai phantom`` and ``prepare`` as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vafa_monai.cli import main


def run(*arguments, cwd):
    import vafa_monai

    root = str(Path(vafa_monai.__file__).parents[1])
    command = [sys.executable, "-m", "vafa_monai.cli", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.parametrize("dataset", ["synapse", "acdc"])
def test_a_phantom_can_be_prepared(dataset, tmp_path):
    finished = run("phantom", dataset, "--cases", 3, "--output", "raw", "--size", 0.4, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    finished = run("prepare", dataset, "--source", "raw", "--output", "data", "--allow_missing", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
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

"""Tables from real runs on a tiny dataset: killed and called again, with a row that fails, by hand."""

from __future__ import annotations

import csv
import hashlib
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

import vafa_monai
from vafa_monai.paper import Reproduction, ReproductionSettings
from vafa_monai.paper.row import paper_keys, paper_row
from vafa_monai.paper.setting import paper_setting


def environment():
    root = str(Path(vafa_monai.__file__).parents[1])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def prints_of(folder):
    """Return time and hash of every result below a folder."""
    paths = list((folder / "results").glob("*/*/[!.]*.json"))
    return {path: (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def reproduce(paper_bundle, synapse_dir, small, lines):
    """Return a function that reproduces a table in this process, on one case with two attack steps."""

    def run(table, **settings):
        settings = {"quick": True, "overrides": small, "bundle": paper_bundle, "dataset_dir": synapse_dir} | settings
        return Reproduction(ReproductionSettings(table=table, **settings), say=lines.append).run()

    return run


# A table, end to end


@pytest.mark.bundle
def test_killed_table_goes_on_without_repeating_a_finished_row(paper_bundle, reproduce, lines):
    output = paper_bundle / "eval" / "reproduce" / "table1"
    process = multiprocessing.get_context("fork").Process(target=reproduce, args=("table1",))
    process.start()
    wait_for(lambda: len(prints_of(output)) >= 3)
    process.kill()
    process.join()
    assert process.exitcode == -9
    finished = prints_of(output)
    assert 3 <= len(finished) < 10
    assert not (output / "table1.json").exists()

    reproduce("table1")
    told = "\n".join(lines)
    assert told.count("done before") == 1 + len(finished)  # the model, too
    assert {path: facts for path, facts in prints_of(output).items() if path in finished} == finished
    assert len(prints_of(output)) == len(paper_setting("table1", "synapse_unetr").measurements) == 10
    check_table(output)
    assert told.count("$ python -m monai.bundle run") == 11
    assert "s left" in told


def check_table(output):
    """The four files hold every row of the paper with its value, and the controls."""
    document = json.loads((output / "table1.json").read_text())
    rows = {row["title"]: row for row in document["rows"]}
    printed = [paper_row("table1", "synapse_unetr", key)["dsc"] for key in paper_keys("table1", "synapse_unetr")]
    assert [row["cells"]["dsc"]["paper"] for row in document["rows"] if row["in_paper"]] == printed
    for row in rows.values():
        measured = row["cells"]["dsc"]["measured"]
        assert 0 < measured < 100
        assert row["failure"] is None
        assert row["seconds"] > 0
    assert {title for title, row in rows.items() if not row["in_paper"]} == {
        "VAFA-2D, 20 steps",
        "Slice stretch only",
        "Uniform quantization",
    }
    assert rows["PGD"]["cells"]["rms_grey"]["measured"] <= 4.01
    assert rows["PGD"]["setting"].startswith("ε 4/255 (6.67 HU), 2 steps of 0.01")
    assert rows["VAFA"]["setting"].endswith("tile by tile")
    assert any("phantoms" in caution for caution in document["cautions"])
    assert "LPIPS is absent" in " ".join(document["remarks"]) or rows["PGD"]["cells"]["lpips"]["measured"]
    assert len(document["models"][0]["sha256"]) == 64
    with (output / "table1.csv").open() as file:
        assert {line["row"] for line in csv.DictReader(file)} == set(rows)
    page = (output / "table1.html").read_text()
    HTMLParser().feed(page)
    assert all(text in page for text in ("62.67", "not in the paper", "Balls in a body."))
    assert "| PGD |" in (output / "table1.md").read_text()


def changed(before, after):
    return {path for path in before if before[path][0] != after[path][0]}


def test_row_that_fails_does_not_cost_the_others_and_only_what_changed_is_measured_again(
    reproduce, paper_bundle, synapse_dir, small, lines, tmp_path
):
    overlay, output = paper_bundle / "configs" / "attacks" / "bim.json", paper_bundle / "eval" / "reproduce" / "figure2"
    good = overlay.read_text()
    overlay.write_text(good.replace('"@radius"', "-1"))
    sentence = r"rows must all be measured, got 1 failures of 6, listed in .*figure2\.html: eps must be at least 0"
    with pytest.raises(ValueError, match=sentence):
        reproduce("figure2")
    document = json.loads((output / "figure2.json").read_text())
    assert [failure.partition(" must")[0] for failure in document["failures"]] == ["BIM: eps"]
    measured = {row["title"]: row["cells"]["dsc"]["measured"] for row in document["rows"]}
    assert [title for title, value in measured.items() if value is None] == ["BIM"]
    assert "Traceback" in (output / "reproduce.log").read_text()

    lines.clear()
    overlay.write_text(good)
    moved = tmp_path / "moved"
    moved.symlink_to(synapse_dir)
    before = prints_of(output)
    files = reproduce("figure2", dataset_dir=moved)  # the same list elsewhere is the same data
    assert lines.count("  done before") == 1 + 5
    assert changed(before, prints_of(output)) == set()
    assert json.loads((output / "figure2.json").read_text())["failures"] == []
    assert files["picture"].read_bytes().startswith(b"\x89PNG")
    assert "data:image/png;base64," in files["html"].read_text()

    weights = torch.load(output / "models" / "model.pt", weights_only=True)
    torch.save({name: 1.01 * tensor for name, tensor in weights.items()}, tmp_path / "other.pt")
    before = prints_of(output)
    reproduce("figure2", overrides={**small, "ckpt_path": str(tmp_path / "other.pt")})
    assert len(before) == 6
    assert changed(before, prints_of(output)) == set(before)


@pytest.mark.parametrize(
    "other",
    [{"seed": 1}, {"quick": False}, {"whole_volume": True}, {"overrides": {"overlap": 0.5}}],
    ids=["seed", "quick", "tiles", "override"],
)
def test_results_of_other_settings_have_a_folder_of_their_own(paper_bundle, synapse_dir, other):
    def results_dir(**settings):
        settings = {"table": "table1", "bundle": paper_bundle, "dataset_dir": synapse_dir, "quick": True} | settings
        return Reproduction(ReproductionSettings(**settings), say=print).results_dir

    assert results_dir() == results_dir(overrides={"num_workers": 2, "device": "cpu"})
    assert results_dir() != results_dir(**other)


# What is refused before anything is run


def test_missing_model_is_refused_with_the_command_that_trains_it(reproduce, paper_bundle, synapse_dir):
    sentence = r"checkpoint must be a file, got '.*models/model\.pt'; train it first: vafa-monai train --bundle "
    with pytest.raises(ValueError, match=sentence):
        reproduce("table1", quick=False)
    assert not (paper_bundle / "eval").exists()


def test_missing_dataset_is_refused(reproduce, tmp_path):
    with pytest.raises(
        ValueError, match=r"dataset_dir must hold dataset\.json, got none in .*; prepare the data first"
    ):
        reproduce("table1", dataset_dir=tmp_path / "absent")


# By hand


@pytest.mark.slow
@pytest.mark.bundle
def test_printed_line_gives_the_same_result_by_hand(reproduce, paper_bundle, tmp_path):
    files = reproduce("figure2")
    commands = json.loads(files["json"].read_text())["commands"]
    assert commands[0] == f"cd {paper_bundle}"
    command = shlex.split(next(line for line in commands if "attacks/vafa_authors" in line))
    command[0] = sys.executable
    command[command.index("--results_dir") + 1] = str(tmp_path)
    subprocess.run(command, check=True, cwd=paper_bundle, env=environment(), capture_output=True)
    (ours,) = (path for path in prints_of(files["json"].parent) if path.stem == "vafa_authors")
    by_hand = tmp_path / "standard" / "vafa_authors.json"
    assert json.loads(by_hand.read_text())["cases"] == json.loads(ours.read_text())["cases"]

"""The commands that read reports again, as a user types them."""

import json
import sys

import pytest

from vafa_monai.cli import main


def result(model, attack, dice, role):
    """A result with two cases, as small as one can be."""
    quality = dict.fromkeys(("ssim", "psnr_db", "rms_grey", "linf_grey", "lpips"))
    figures = quality | {"lost": 0, "invented": 0}
    case = {"dice": [0.9, dice], "hd95_mm": [None, 1.0], "nsd": [None, 1.0]} | figures
    return {
        "schema": "vafa_monai.result/1",
        "model": model,
        "checkpoint": {"path": f"{model}.pt", "sha256": f"{model}0123"},
        "attack": {"name": attack, "role": role, "settings": {}},
        "classes": ["background", "organ"],
        "seed": 0,
        "versions": {},
        "device": "cpu",
        "seconds": 1,
        "cases": [case | {"case": name} for name in ("one", "two")],
        "summary": {"dice": dice, "dice_with_background": dice, "hd95_mm": 1, "nsd": 1} | figures,
        "notes": [],
        "slices": None,
    }


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Write reports of two models, run a command in their folder, return what it printed."""
    for model, dice in (("first", 0.5), ("second", 0.75)):
        folder = tmp_path / "results" / model / model
        folder.mkdir(parents=True)
        for attack, score, role in (("identity", 0.9, "control"), ("pgd", dice, "attack")):
            (folder / f"{attack}.json").write_text(json.dumps(result(model, attack, score, role)))
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["vafa-monai", *arguments])
        main()
        return capsys.readouterr().out

    for model in ("first", "second"):
        run("report", "--results", f"results/{model}", "--output", model)
    return run


def test_compare_prints_a_table_and_writes_two_files(run, tmp_path):
    printed = run("compare", "first/report.json", "second", "--output", "out")
    assert printed.startswith("These results do not say of which data and evaluation they are, so these may differ")
    assert "A: first, weights first0123, NOT AUDITED" in printed
    (line,) = (line for line in printed.splitlines() if line.startswith("PGD"))
    assert line.split()[:4] == ["PGD", "0.500", "0.750", "+0.250"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["comparison.html", "comparison.md"]


def test_compare_refuses_what_is_no_report(run):
    with pytest.raises(SystemExit, match=r"error: report must be a report.json or its folder, got 'nowhere'."):
        run("compare", "first", "nowhere")


def test_leaderboard_reads_every_report_below(run, tmp_path):
    assert run("leaderboard", ".") == "2 models: leaderboard.html\n"
    page = (tmp_path / "leaderboard.html").read_text()
    assert page.count("<tbody>") == 1
    assert all(weights in page for weights in ("first0123", "second0123"))


def test_leaderboard_goes_where_it_is_told(run, tmp_path):
    run("leaderboard", "first", "--output", "board.html")
    assert "first0123" in (tmp_path / "board.html").read_text()

"""The command line as a user types it: the first demo is a real process."""

import json
import os
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vafa_monai.cli import main

pytestmark = pytest.mark.bundle
pytest.importorskip("nilearn")

ATTACKS = {"fgsm", "pgd", "frequency_pgd", "vafa_2d", "vafa_paper", "vafa_authors", "vafa_audit", "ensemble"}
CONTROLS = {"identity", "identity_stretch", "uniform_quantization", "gaussian_noise", "gaussian_noise_rms"}


def run(*arguments, cwd):
    import vafa_monai

    root = str(Path(vafa_monai.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "vafa_monai.cli", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=600)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The folder and the output of a quick demo."""
    folder = tmp_path_factory.mktemp("demo")
    finished = run("demo", "--output", "out", "--seed", 3, "--quick", cwd=folder)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return folder / "out", finished.stdout


def test_demo_attacks_both_models_with_everything(demo):
    folder, _ = demo
    found = {
        (path.parent.name, path.stem) for path in (folder / "mni152_unetr_segmentation/eval/results").rglob("*.json")
    }
    assert found == {(model, name) for model in ("standard", "hardened") for name in ATTACKS | CONTROLS}
    for path in (folder / "mni152_unetr_segmentation/eval/results").rglob("*.json"):
        document = json.loads(path.read_text())
        assert document["attack"]["role"] == ("attack" if path.stem in ATTACKS else "control")
        assert (document["summary"]["linf_grey"] == 0) == (path.stem == "identity")


def test_demo_writes_a_report_that_needs_no_other_file(demo):
    folder, _ = demo
    page = (folder / "report.html").read_text()
    sources = []

    class Sources(HTMLParser):
        def handle_starttag(self, tag, attrs):
            sources.extend(value for name, value in attrs if name in ("src", "href"))

    Sources().feed(page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    document = json.loads((folder / "report.json").read_text())
    assert document["settings"]["seed"] == 3
    assert "fewer windows and steps than a real audit" in page
    assert (folder / "results.csv").stat().st_size > 0
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_demo_prints_commands_that_repeat_its_steps(demo, fork_python, tmp_path):
    folder, output = demo
    lines = [line.removeprefix("$ ") for line in output.splitlines() if line.startswith("$ python")]
    assert len(lines) == 2 + 2 * len(ATTACKS | CONTROLS)
    line = next(line for line in lines if "attacks/pgd" in line and "hardened" in line)
    python, module, *words = shlex.split(line)
    assert (python, module) == ("python", "-m")
    process = fork_python([*words, "--results_dir", tmp_path], folder / "mni152_unetr_segmentation")
    told, _ = process.communicate()
    assert process.returncode == 0, told[-3000:]
    paths = [root / "hardened" / "pgd.json" for root in (tmp_path, folder / "mni152_unetr_segmentation/eval/results")]
    by_hand, by_demo = (json.loads(path.read_text())["cases"] for path in paths)
    assert by_hand == by_demo


def test_second_call_continues_instead_of_starting_over(demo, fork_python):
    folder, _ = demo
    results = folder / "mni152_unetr_segmentation/eval/results"
    missing = results / "hardened" / "fgsm.json"
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*.json")}
    missing.unlink()
    process = fork_python(["vafa_monai.cli", "demo", "--output", folder, "--seed", 3, "--quick"], folder.parent)
    told, _ = process.communicate()
    assert process.returncode == 0, told[-3000:]
    assert told.count("done before") == len(before) + 2 - 1
    assert {path for path, time in before.items() if path.stat().st_mtime_ns != time} == {missing}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["demo", "--output", "out", "--seed", "4", "--quick"], "error: output must hold a demo with the settings"),
        (["evaluate", "--bundle", "nowhere"], "error: bundle must be a folder with configs/train.json, got 'nowhere'."),
        (["report", "--results", "nowhere"], "error: results_dir must"),
        (
            ["harden", "--bundle", "out/mni152_unetr_segmentation", "--recipe", "pdg"],
            "error: recipe must be one of ['frequency_pgd', 'mixed', 'n_fgsm'",
        ),
        (
            ["evaluate", "--bundle", "out/mni152_unetr_segmentation", "--attack", "pgx"],
            "error: overlay must be one of ['apgd', 'bim'",
        ),
        (["train", "--bundle", "out/mni152_unetr_segmentation"], "error: Data list file"),
    ],
    ids=["settings", "bundle", "results", "attack", "overlay", "data"],
)
def test_bad_input_ends_with_one_sentence(demo, arguments, sentence, monkeypatch):
    folder, _ = demo
    monkeypatch.chdir(folder.parent)
    monkeypatch.setattr(sys, "argv", ["vafa-monai", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value.code).startswith(sentence)


@pytest.mark.slow
def test_demo_ends_with_the_audit_of_both_models(tmp_path):
    finished = run("demo", "--output", "out", "--seed", 3, "--quick", "--audit", "True", cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert "vafa-monai audit --bundle" in finished.stdout
    for model in ("standard", "hardened"):
        found = tmp_path.glob(f"out/*/eval/results/{model}/audit.json")
        assert json.loads(next(found).read_text())["verdict"] in finished.stdout
    assert "NOT AUDITED" not in (tmp_path / "out" / "report.html").read_text()

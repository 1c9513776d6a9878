"""A whole study on a tiny network: what it makes, that it goes on where it was, and what it refuses."""

import json
import random
import re
import shutil
import sys
import time
from ast import literal_eval
from pathlib import Path

import pytest

from vafa_monai.cli import main
from vafa_monai.runs import Study
from vafa_monai.runs.run_log import CostTally

ATTACKS = ("identity", "pgd", "ensemble")
MODELS = ["standard_seed0", "n_fgsm_seed0"]


@pytest.fixture(scope="module")
def bundle(make_bundle):
    """A bundle whose ensemble is over in a moment."""
    folder = make_bundle("study")
    path = folder / "configs" / "attacks" / "ensemble.json"
    content = json.loads(path.read_text())
    content["attack"] |= {"steps": 1, "queries": 1}
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def overrides(small):
    """Trainings of two iterations an epoch, attacks of one step on one case."""
    values = {name: value for name, value in small.items() if name != "dataset_dir"}
    read = {name: literal_eval(str(value)) for name, value in values.items()}
    shorter = {"hardening#epochs": 1, "hardening#val_interval": 1, "block_size": [8, 8, 8], "overlap": 0.0}
    return read | shorter | {"attack_steps": 1, "num_cases": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def make(bundle, dataset_dir, overrides):
    """Return a function that makes a study in a folder."""

    def begin(output, say=lambda line: None, **changes):
        about = {"recipes": ["n_fgsm"], "attacks": ATTACKS, "strengths": [1, 2], "overrides": overrides}
        about |= {"bundle": bundle, "dataset_dir": dataset_dir, "output": output, "say": say}
        return Study(**about | changes)

    return begin


@pytest.fixture(scope="module")
def whole(make, tmp_path_factory):
    """The folder of a study that nothing broke off, and what it told."""
    folder, lines = tmp_path_factory.mktemp("study") / "whole", []
    outcome = make(folder, say=lines.append).run()
    assert not outcome.failures
    assert all(path.is_file() for path in outcome.files.values())
    return folder, lines


def figures(folder):
    """The document of a study without what lasted how long, and where it lies."""
    document = json.loads((folder / "study.json").read_text().replace(str(folder), "FOLDER"))
    for one in document["recipes"]:
        one["cost"] = {name: value for name, value in one["cost"].items() if "seconds" not in name}
    for one in document["runs"]:
        one.pop("cost", None)
    return document


def test_study_trains_attacks_and_reports(whole, dataset_dir):
    document = figures(whole[0])
    assert [one["recipe"] for one in document["recipes"]] == ["standard", "n_fgsm"]
    assert {(row["attack"], row["recipe"]) for row in document["rows"]} == {
        (attack, recipe) for attack in ATTACKS for recipe in ("standard", "n_fgsm")
    }
    standard, hardened = (one["cost"] for one in document["recipes"])
    assert (standard["iterations"], standard["forward"], standard["backward"]) == (4, 2, 2)
    assert (hardened["iterations"], hardened["backward"]) == (2, 6)  # one step of attack, then clean and attacked
    assert hardened["relative_backward"] == 3
    (curve, _) = document["curves"]
    assert curve["x"] == pytest.approx([0, 4, 8])
    by_row = {(row["attack"], row["recipe"]): row["dice"]["mean"] for row in document["rows"]}
    assert curve["dice"][:2] == pytest.approx([by_row["identity", "standard"], by_row["pgd", "standard"]])
    page = (whole[0] / "study.html").read_text()
    assert "n_fgsm" in page
    assert str(dataset_dir) in page  # in the commands


def test_no_test_case_is_attacked_before_the_last_model_is_trained(whole):
    folder, lines = whole
    trained = [index for index, line in enumerate(lines) if ": trained" in line]
    attacked = [index for index, line in enumerate(lines) if "DSC" in line]
    assert len(trained) == 2
    assert len(attacked) == 8
    assert max(trained) < min(attacked)
    kinds = [run["kind"] for run in figures(folder)["runs"]]
    assert kinds == ["training"] * 2 + ["attack on the test cases"] * 8


def test_bundle_is_only_read(whole, bundle):
    assert not (bundle / "eval").exists()
    assert [path.name for path in (bundle / "models").iterdir() if path.suffix == ".pt"] == []


def test_second_call_does_nothing_again(whole, make):
    folder = whole[0]
    paths = [*folder.glob("models/*.pt"), *folder.glob("training/*.json"), *folder.glob("benchmark/records/*.json")]
    made, before = {path: path.stat().st_mtime_ns for path in paths}, (folder / "study.json").read_bytes()
    lines = []
    make(folder, say=lines.append).run()
    assert [line for line in lines if "done before" in line] == [f"{model}: done before" for model in MODELS]
    assert any("8 done already, 0 to do" in line for line in lines)
    assert {path: path.stat().st_mtime_ns for path in paths} == made
    assert (folder / "study.json").read_bytes() == before


@pytest.mark.slow
def test_study_that_was_broken_off_goes_on_to_the_same(whole, make, tmp_path):
    class BrokenOffError(Exception):
        pass

    def break_off(line):
        if line.startswith(("standard_seed0: trained", "[3/")):
            raise BrokenOffError

    for _ in range(2):
        with pytest.raises(BrokenOffError):
            make(tmp_path / "broken", say=break_off).run()
    make(tmp_path / "broken").run()
    assert figures(tmp_path / "broken") == figures(whole[0])


def test_what_is_missing_or_damaged_is_made_again_and_nothing_else(whole, make, tmp_path):
    """The study was moved, too: a study is what it is made of, wherever it lies."""
    folder = Path(shutil.copytree(whole[0], tmp_path / "moved"))
    weights = {path: path.read_bytes() for path in folder.glob("models/*.pt")}
    (folder / "training" / "n_fgsm_seed0.json").write_text("[1]")
    (folder / "settings.json").write_text("")
    record, damaged, *_ = sorted(folder.glob("benchmark/records/*.json"))
    record.unlink()
    damaged.write_text("{}")
    lines = []
    make(folder, say=lines.append).run()
    assert sum("set aside" in line for line in lines) == 3
    assert "standard_seed0: done before" in lines
    assert any(line.startswith("n_fgsm_seed0: trained") for line in lines)
    assert any("6 done already, 2 to do" in line for line in lines)
    assert {path: path.read_bytes() for path in folder.glob("models/*.pt")} == weights
    assert figures(folder) == figures(whole[0])


def test_cost_of_another_training_is_not_added(whole):
    """What a training cost that lies there from other settings is no part of this one."""
    path = whole[0] / "training" / "standard_seed0.cost.json"
    mine = CostTally(path, json.loads(path.read_text())["made_of"]).total()
    assert mine["iterations"] == 4
    assert CostTally(path, "another").total() is None


def test_recipes_may_be_added_until_the_first_attack(make, whole, tmp_path):
    folder, lines = Path(shutil.copytree(whole[0], tmp_path / "grown")), []
    shutil.rmtree(folder / "benchmark")
    outcome = make(folder, recipes=["n_fgsm", "rs_fgsm"], train_only=True, say=lines.append).run()
    assert not outcome.files
    assert [line for line in lines if "done before" in line] == [f"{model}: done before" for model in MODELS]
    assert any(line.startswith("rs_fgsm_seed0: trained") for line in lines)
    assert sum(re.search(r"val_robust_score 0\.\d{4}, .* after epoch 1 of 1$", line) is not None for line in lines) == 2
    assert not (folder / "benchmark").exists()
    changed = Path(shutil.copytree(make(folder).bundle, tmp_path / "changed"))
    path = changed / "configs" / "hardening" / "n_fgsm.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"clean_weight": 0.25}))
    with pytest.raises(ValueError, match="made with other configs"):
        make(folder, bundle=changed)


def test_overrides_of_the_attacks_may_change_until_the_first_of_them(make, whole, overrides, tmp_path):
    folder, more = Path(shutil.copytree(whole[0], tmp_path / "chosen")), overrides | {"num_cases": 2}
    with pytest.raises(ValueError, match="made with other overrides"):
        make(folder, overrides=more)
    shutil.rmtree(folder / "benchmark")
    lines = []
    make(folder, overrides=more, train_only=True, say=lines.append).run()
    assert [line for line in lines if "done before" in line] == [f"{model}: done before" for model in MODELS]
    with pytest.raises(ValueError, match="made with other overrides"):
        make(folder, overrides=more | {"epochs": 3})


# What is refused


OTHERS = {
    "recipes": {"recipes": ["pgd"]},
    "seeds": {"seeds": [1]},
    "attacks": {"attacks": ("identity", "ensemble")},
    "strengths": {"strengths": [3]},
}


@pytest.mark.parametrize("name", OTHERS)
def test_folder_of_other_settings_is_refused(name, whole, make):
    before = {path: path.stat().st_mtime_ns for path in whole[0].rglob("*")}
    with pytest.raises(
        ValueError, match=f"output must hold a study with the same settings, got .*, made with other {name}"
    ):
        make(whole[0], **OTHERS[name])
    assert {path: path.stat().st_mtime_ns for path in whole[0].rglob("*")} == before


def test_folder_with_something_else_is_refused(make, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="output must be a new or empty folder or that of a study, got"):
        make(tmp_path)


IMPOSSIBLE = {
    "unknown recipe": ({"recipes": ["pgd", "magic"]}, r"recipe must be one of \['frequency_pgd', .*, got 'magic'"),
    "no recipe": ({"recipes": []}, r"recipes must be at least one, all different, got \[\]"),
    "a recipe twice": ({"recipes": ["pgd", "pgd"]}, "recipes must be at least one, all different"),
    "the name of the standard model": ({"recipes": ["standard"]}, "recipes must leave the name standard"),
    "seed": ({"seeds": [0, -1]}, "seeds must each be a whole number from 0 to 4294967295, got -1"),
    "a seed twice": ({"seeds": [3, 3]}, r"seeds must be at least one, all different, got \[3, 3\]"),
    "unknown attack": ({"attacks": (*ATTACKS, "magic")}, "overlay must be one of .*, got 'magic'"),
    "no ensemble": (
        {"attacks": ("identity",)},
        r"attacks must have identity and ensemble among them, got \['identity'\]",
    ),
    "strength": ({"strengths": [0.5, 0]}, r"strengths must be numbers above 0, got \[0.5, 0\]"),
    "unknown id": (
        {"overrides": {"epoch": 1}},
        "override must be a config id of this run, got 'epoch'; nearest: epochs",
    ),
    "its own id": ({"overrides": {"seed": 1}}, "overrides must leave seed to the command, got seed"),
    "value": ({"overrides": {"epochs": 0}}, "epochs must be a whole number from 1 on, got 0"),
}


@pytest.mark.parametrize(("changes", "sentence"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_is_refused_before_anything_is_written(changes, sentence, make, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        make(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_test_case_that_is_a_training_case_is_refused(make, dataset_dir, tmp_path):
    folder = Path(shutil.copytree(dataset_dir, tmp_path / "data"))
    listed = json.loads((folder / "dataset.json").read_text())
    shutil.copyfile(folder / listed["training"][0]["image"], folder / listed["test"][0]["image"])
    with pytest.raises(ValueError, match=r"parts must share no image, got .*case_03"):
        make(tmp_path / "new", dataset_dir=folder).run()
    assert not (tmp_path / "new" / "models").exists()


def test_training_that_fails_ends_the_study_before_any_attack(make, overrides, tmp_path):
    lines = []
    changes = {"overrides": overrides | {"learning_rate": 1e30}}
    with pytest.raises(
        ValueError, match="models must all be trained before the attacks, got a failure of standard_seed0: "
    ):
        make(tmp_path / "new", say=lines.append, **changes).run()
    assert any("must be finite" in line for line in lines)
    assert not (tmp_path / "new" / "benchmark").exists()


# The command, killed and shared


def words(bundle, dataset_dir, overrides, output):
    flags = [f"--{name}={value}" for name, value in overrides.items()]
    places = ["study", bundle, dataset_dir, "n_fgsm", output, "--attacks", ",".join(ATTACKS), "--strengths", "1,2"]
    return [*map(str, places), *flags]


def test_command_is_the_same_study(whole, bundle, dataset_dir, overrides, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vafa-monai", *words(bundle, dataset_dir, overrides, whole[0])])
    main()
    said = capsys.readouterr().out
    assert "n_fgsm_seed0: done before" in said
    assert f"html: {whole[0] / 'study.html'}" in said


@pytest.mark.slow
def test_study_killed_at_many_moments_is_that_of_an_unbroken_run(whole, make, kill, tmp_path):
    start, draw = time.monotonic(), random.Random(0)
    assert kill(lambda: make(tmp_path / "length").run()) == 0
    length = time.monotonic() - start
    codes = [kill(lambda: make(tmp_path / "killed").run(), seconds=draw.uniform(0, length / 6)) for _ in range(8)]
    assert set(codes) <= {0, -9}
    assert codes.count(-9) >= 4
    make(tmp_path / "killed").run()
    assert figures(tmp_path / "killed") == figures(whole[0])


@pytest.mark.slow
def test_two_processes_give_what_one_gives(whole, bundle, dataset_dir, overrides, tmp_path, start_process):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = words(bundle, dataset_dir, overrides, tmp_path / "two")
    process = start_process([*launcher, "-m", "vafa_monai.cli", *command], tmp_path)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output[-3000:]
    assert "process 1: [1/" in output
    assert figures(tmp_path / "two") == figures(whole[0])

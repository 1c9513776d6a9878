"""What a word of the command line may be, with every run replaced by a note that it was asked for."""

from __future__ import annotations

import functools
import logging
import random
import shlex
import shutil
import signal
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import fire
import pytest
import torch

from vafa_monai.audit import Status
from vafa_monai.cli import COMMANDS, audit_command, data_command, main, report_command, say, share_command
from vafa_monai.runs import Benchmark, BundleAudit, BundleRun, Study, WorkOutcome, shipped_bundle
from vafa_monai.runs.adopt import Adoption

BUNDLE = "mni152_unetr_segmentation"
WORK = {  # what does the work, or begins it
    report_command: (
        *("Demo", "build_report", "Reproduction"),
        *("compare_models", "write_comparison", "leaderboard_rows", "write_leaderboard"),
    ),
    data_command: ("write_phantom", "build_bundle_network", "convert_checkpoint"),
    share_command: ("Package", "copy_bundle", "fetch_bundle", "install_app", "Wrapping"),
    audit_command: ("NNUNetAudit",),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder: a bundle with two models, and data."""
    bundle = Path(
        shutil.copytree(shipped_bundle(BUNDLE), tmp_path / "B", ignore=shutil.ignore_patterns("*.pt", "eval"))
    )
    for name in ("model.pt", "model_vaft.pt"):
        (bundle / "models" / name).write_bytes(name.encode())
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch):
    """All work that was asked for, in order, instead of the work."""
    found = []

    def note(name, answer):
        return lambda *args, **kwargs: found.append((name, args, kwargs)) or answer

    monkeypatch.setattr(BundleRun, "run", note("run", SimpleNamespace(metrics={"val_mean_dice": 0.5})))
    monkeypatch.setattr(BundleRun, "check", note("check", None))
    monkeypatch.setattr(Benchmark, "run", note("benchmark", WorkOutcome()))
    monkeypatch.setattr(Study, "run", note("study", WorkOutcome()))
    monkeypatch.setattr(BundleAudit, "run", note("audit", {}))
    monkeypatch.setattr(Adoption, "write", note("adopt", Path("new")))
    monkeypatch.setattr(BundleAudit, "verdict", lambda *_: Status.PASS)
    for module, names in WORK.items():
        for name in names:
            answer = MagicMock(**{"faults.return_value": [], "run.return_value": {}})
            answer.run.return_value = Status.PASS if name == "NNUNetAudit" else {}
            monkeypatch.setattr(module, name, note(name, answer))
    for name, writer in data_command.WRITERS.items():
        monkeypatch.setitem(data_command.WRITERS, name, functools.wraps(writer)(note(name, Path("dataset.json"))))
    return found


@pytest.fixture
def run(monkeypatch):
    """Type a command; the answer is its exit code, or the sentence that it ended with."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["vafa-monai", *map(str, words)])
        try:
            main()
        except SystemExit as ended:
            return ended.code
        return 0

    return run


def overrides(asked):
    """The config ids and values of the run that was asked for."""
    (wanted,) = (args[0].overrides for name, args, _ in asked if name == "run")
    return wanted


@pytest.fixture
def evaluated(monkeypatch, asked):
    """The runs that were evaluated."""
    found = []

    def run(self, progress):
        found.append(self)
        return SimpleNamespace(metrics={"val_mean_dice": 0.5})

    monkeypatch.setattr(BundleRun, "run", run)
    return found


# What nothing knows

EVALUATE = ["evaluate", "--bundle", "B", "--dataset_dir", "data"]
UNKNOWN = {
    "attack": ([*EVALUATE, "--atack", "pgd"], "'atack'; nearest: attack"),
    "id": ([*EVALUATE, "--epss", "0.5"], "'epss'; nearest: eps"),
    "cases": ([*EVALUATE, "--num_case", "1"], "'num_case'; nearest: num_cases"),
    "last key": ([*EVALUATE, "--attack", "pgd", "--attack#stepz", "1"], "'attack#stepz'; nearest: attack#steps"),
    "middle key": (
        [*EVALUATE, "--validate#infere#overlap", "0.1"],
        "'validate#infere#overlap'; nearest: ",
    ),
    "list": ([*EVALUATE, "--checkpoints", "x"], "'checkpoints'; nearest: checkpoint"),
    "train": (["harden", "B", "pgd", "--strat", "x"], "'strat'; nearest: start"),
    "demo": (["demo", "--quik"], "'--quik'; nearest: quick"),
    "report": (["report", "r", "--titel", "x"], "'--titel'; nearest: title"),
    "audit": (["audit", "B", "data", "--checkpoints", "x"], "'checkpoints'; nearest: checkpoint"),
    "setting of an audit": (["audit", "B", "data", "--step", "1"], "'step'; nearest: steps"),
    "benchmark": (["benchmark", "B", "data", "--attack_step", "3"], "'attack_step'; nearest: attack_steps"),
    "study": (["study", "B", "data", "pgd", "o", "--epoch", "1"], "'epoch'; nearest: epochs"),
    "reproduce": (["reproduce", "table6", "B", "data", "--epsilon", "1"], "'epsilon'"),
    "convert": (["convert", "f.pt", "B", "--num_class", "14"], "'num_class'; nearest: num_classes"),
    "prepare": (["prepare", "acdc", "a", "b", "--alow_missing"], "'--alow_missing'; nearest: allow_missing"),
    "phantom": (["phantom", "acdc", "a", "--sizes", "0.5"], "'--sizes'; nearest: size"),
    "nnunet": (["audit_nnunet", "m", "i", "l", "--stride", "1"], "'stride'"),
    "fetch": (["fetch", "x.zip", "--sha", "1"], "'--sha'; nearest: sha256"),
    "package": (["package", "B", "--no_smoke"], "'--no_smoke'; nearest: smoke"),
    "one hyphen": (["report", "r", "-title", "x"], "'---title'"),
    "command": (["evalute"], "'evalute'; nearest: evaluate"),
    "command without like": (["xyz"], "'xyz'; there are demo, phantom"),
}


@pytest.mark.parametrize(("words", "sentence"), UNKNOWN.values(), ids=UNKNOWN)
def test_unknown_name_is_refused_with_the_nearest_before_anything(words, sentence, folder, asked, run):
    before = sorted(folder.rglob("*"))
    ended = run(*words)
    assert ended.startswith("error: ")
    assert sentence in ended
    assert asked == []
    assert sorted(folder.rglob("*")) == before


REFUSED = {
    "given twice": (["demo", "--seed", "1", "--seed=2"], "option must be given once, got '--seed' twice."),
    "given twice in two spellings": (["audit", "B", "--dataset-dir", "a", "--dataset_dir", "a"], "must be given once"),
    "id given twice": ([*EVALUATE, "--eps", "1", "--eps", "1"], "option must be given once, got '--eps' twice."),
    "place and name": (["fetch", "a.zip", "--source", "b.zip"], "must be given options by name, got 'a.zip'"),
    "left over": ([*EVALUATE, "pgd"], "evaluate must be given options by name, got 'pgd' without one."),
    "left over without options": (["label_app", "a", "b"], "got 'b' without one."),
    "missing": (["compare", "A"], "b must be given, got none; see vafa-monai compare --help."),
    "missing value": (["report", "r", "--title"], "title must have a value, got none."),
    "missing value before a flag": (["report", "r", "--output", "--title", "x"], "output must have a value"),
    "missing value of an id": ([*EVALUATE, "--num_workers", "--eps", "1"], "num_workers must have a value, got none."),
    "empty": (["report", "r", "--output="], "output must not be empty, got ''."),
    "empty path of an id": ([*EVALUATE, "--results_dir", ""], "results_dir must be a path, got ''."),
    "no truth": ([*EVALUATE, "--save_predictions", "maybe"], "save_predictions must be true or false, got 'maybe'."),
    "no number": ([*EVALUATE, "--num_workers", "two"], "num_workers must be a number, got 'two'."),
    "half a number": ([*EVALUATE, "--num_workers", "1#2"], "num_workers must be a number, got '1#2'."),
    "no list": ([*EVALUATE, "--roi_size", "[1,"], "roi_size must be a list, got '[1,'."),
    "infinite": ([*EVALUATE, "--q_max", "1e999"], "q_max must be a number, got '1e999'."),
    "seed": (["demo", "--seed", "-1"], "seed must be a whole number from 0 to 4294967295, got -1."),
    "seed of a run": ([*EVALUATE, "--seed=-1"], "seed must be a whole number from 0 to"),
    "half a seed": (["demo", "--seed", "1.5"], "seed must be a whole number, got '1.5'."),
    "overlap": ([*EVALUATE, "--overlap", "1.0"], "overlap must be a number from 0 to below 1"),
    "no cases": (
        [*EVALUATE, "--num_cases", "0"],
        "num_cases must be a whole number from 1 on, or None for all, got 0.",
    ),
    "cases below": (["benchmark", "B", "data", "--num_cases", "-1"], "num_cases must be a whole number from 1 on"),
    "device": ([*EVALUATE, "--device", "gpu"], "device must be a device of this machine, such as cpu, got 'gpu'."),
    "device of nnU-Net": (
        ["audit_nnunet", "m", "i", "l", "--device", "gpu"],
        "device must be a device of this machine",
    ),
    "fold": (["audit_nnunet", "m", "i", "l", "--fold", "first"], "fold must be a number or all, got 'first'."),
    "tracker": ([*EVALUATE, "--tracking", "paper"], "tracking must be one of ['tensorboard', 'mlflow'], got 'paper'."),
    "attack": ([*EVALUATE, "--attack", "pdg"], "overlay must be one of ["),
    "recipe": (["harden", "B", "pdg"], "recipe must be one of ['frequency_pgd', 'mixed', "),
    "weights of a plain training": (["train", "B", "--start", "a.pt"], "override must be a config id of this run"),
    "start": (["harden", "B", "pgd", "--start", "no.pt"], "checkpoint must be an existing file, got 'no.pt'"),
    "start twice": (["harden", "B", "pgd", "--start", "a.pt", "--pretrained_file", "b.pt"], "must be given once"),
    "weights": (
        [*EVALUATE, "--checkpoint", "no.pt"],
        "checkpoint must be an existing file, got 'no.pt', which",
    ),
    "weights twice": (
        [*EVALUATE, "--checkpoint", "models/model.pt,B/models/model.pt"],
        "must be files of different",
    ),
    "weights by option and id": (
        [*EVALUATE, "--checkpoint", "models/model.pt", "--ckpt_path", "models/model.pt"],
        "ckpt_path must be given once",
    ),
    "one name for two": (
        [*EVALUATE, "--checkpoint", "models/model.pt,models/model_vaft.pt", "--model_name", "x"],
        "model_name must come with one checkpoint, got 'x' for 2.",
    ),
    "weights of a benchmark by id": (
        ["benchmark", "B", "data", "--ckpt_path", "B/models/model_vaft.pt"],
        "overrides must leave ckpt_path to the command",
    ),
    "attack of an audit": (["audit", "B", "data", "--attack_steps", "9"], "must leave attack_steps to the command"),
    "folder of an audit": (["audit", "B", "data", "--output_dir", "out"], "must leave output_dir to the command"),
    "names": (["benchmark", "B", "data", "--attacks", "pgd,,bim"], "attacks must be names with commas between"),
    "setting of another dataset": (
        ["prepare", "acdc", "a", "b", "--classes", "9"],
        "classes must be left out",
    ),
}


@pytest.mark.parametrize(("words", "sentence"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_meant_is_refused_before_anything(words, sentence, folder, asked, run):
    before = sorted(folder.rglob("*"))
    ended = run(*words)
    assert ended.startswith("error: ")
    assert sentence in ended
    assert asked == []
    assert sorted(folder.rglob("*")) == before


UNREAD = {  # each is an id of the configs, and nothing in that run reads it
    "radius of VAFA": (
        [*EVALUATE, "--attack", "vafa_audit", "--eps", "0.1"],
        "'eps' for train, evaluate, att",
    ),
    "steps of one step": ([*EVALUATE, "--attack", "fgsm", "--attack_steps", "9"], "'attack_steps'"),
    "table of PGD": ([*EVALUATE, "--attack", "pgd", "--q_max", "9"], "'q_max'"),
    "part of a config": ([*EVALUATE, "--train#sampler#num_samples", "9"], "'train#sampler#num_samples'"),
    "rate of an evaluation": ([*EVALUATE, "--learning_rate", "0.1"], "'learning_rate'"),
    "radius of a training": (["train", "B", "--eps", "0.1"], "'eps' for train."),
    "rate of hardening": (["train", "B", "--hardening#learning_rate", "1"], "'hardening#learning_rate' for train."),
    "table of another recipe": (
        ["harden", "B", "--recipe", "pgd", "--q_max", "9"],
        "'q_max' for train, harden, ",
    ),
    "all of a benchmark": (["benchmark", "B", "data", "--attacks", "identity,vafa_2d", "--eps", "1"], "'eps'"),
    "rate of an audit": (["audit", "B", "data", "--learning_rate", "1"], "'learning_rate'"),
    "saving": (["attack", "B", "vafa_2d", "--eps", "8 gray"], "'eps'"),
}


@pytest.mark.parametrize(("words", "sentence"), UNREAD.values(), ids=UNREAD)
def test_id_that_nothing_in_a_run_reads_is_refused_before_anything(words, sentence, folder, asked, run):
    ended = run(*words)
    assert ended.startswith("error: override must be an id that something in this run reads, got ")
    assert sentence in ended
    assert asked == []


READ = {
    "one of two attacks": ["benchmark", "B", "data", "--attacks", "vafa_2d,pgd", "--eps", "0.1"],
    "argument that the config leaves out": [*EVALUATE, "--attack", "pgd", "--attack#norm", "l2"],
    "argument of a radius": [*EVALUATE, "--attack", "pgd", "--radius#value", "0.1"],
    "disabled component": [*EVALUATE, "--save_predictions", "true"],
    "below a list": ["train", "B", "--train#random_transforms#3#prob", "0.1"],
    "hardening": ["harden", "B", "--recipe", "pgd", "--hardening#epochs", "3", "--eps", "0.1"],
    "adversarial folder": ["attack", "B", "pgd", "--adv_dir", "adv", "--eps", "8 gray"],
    "audit": ["audit", "B", "data", "--num_cases", "1", "--overlap", "0", "--eps", "0.1", "--network_def#mlp_dim", "9"],
}


@pytest.mark.parametrize("words", READ.values(), ids=READ)
def test_id_that_something_in_a_run_reads_is_taken(words, folder, asked, run):
    assert run(*words) == 0
    assert asked


# What a value means


@pytest.mark.parametrize(
    "word",
    ["data#2", "2024", "1e3", "None", "a,b", "$x", "@seed", "%a.json#b", "[1]", "true", "a b", "größe", "-x", "5 # 6"],
)
def test_path_is_text_and_one_of_the_working_folder(word, folder, evaluated, run):
    assert run("evaluate", "B", f"--dataset_dir={word}", f"--output_dir={word}", f"--model_name={word}") == 0
    parser = evaluated[0].workflow().parser
    assert parser.get_parsed_content("dataset_dir") == str(folder / word)
    assert parser.get_parsed_content("datalist") == f"{folder / word}/dataset.json"
    assert parser.get_parsed_content("results_dir") == f"{folder / word}/results"
    assert parser.get_parsed_content("model_name") == word


@pytest.mark.parametrize("word", ["2024", "None", "5", "rep#1", "$x", "true", "a,b"])
@pytest.mark.parametrize(
    ("words", "name", "argument"),
    [
        (["report", "r", "--title"], "build_report", "title"),
        (["fetch", "--source"], "fetch_bundle", 0),
        (["demo", "--output"], "Demo", 0),
    ],
    ids=["title", "source", "output"],
)
def test_text_is_text_in_every_command(words, name, argument, word, folder, asked, run):
    assert run(*words, word) == 0
    ((_, args, kwargs),) = (one for one in asked if one[0] == name)
    assert (kwargs[argument] if isinstance(argument, str) else args[argument]) == word


VALUES = {
    "number": (["--eps", "0.5"], {"eps": 0.5}),
    "exponent": (["--eps=1e-3"], {"eps": 1e-3}),
    "unit": (["--eps", "8 gray"], {"eps": "8 gray"}),
    "physical unit": (["--eps", "4 HU"], {"eps": "4 HU"}),
    "expression": (["--eps", "$8 / 255"], {"eps": "$8 / 255"}),
    "below null": (["--attack#step_size", "-0.5"], {"attack#step_size": -0.5}),
    "list": (["--roi_size", "[16,16,8]"], {"roi_size": [16, 16, 8]}),
    "list without brackets": (["--roi_size", "16,16,8"], {"roi_size": [16, 16, 8]}),
    "words": (["--classes", '["a #1", "b"]'], {"classes": ["a #1", "b"]}),
    "words without quotes": (["--classes", "a,b,c"], {"classes": ["a", "b", "c"]}),
    "none": (["--num_cases", "None"], {"num_cases": None}),
    "flag": (["--save_predictions"], {"save_predictions": True}),
    "true": (["--save_predictions", "TRUE"], {"save_predictions": True}),
    "false": (["--save_predictions", "false"], {"save_predictions": False}),
    "argument not in the config": (["--attack#norm", "l2"], {"attack#norm": "l2"}),
    "two colons": (["--validate::inferer::overlap", "0.25"], {"validate::inferer::overlap": 0.25}),
    "hyphens": (["--num-cases", "2"], {"num_cases": 2}),
    "weights by id": (["--ckpt_path", "models/model_vaft.pt"], {"ckpt_path": "B/models/model_vaft.pt"}),
}


@pytest.mark.parametrize(("words", "expected"), VALUES.values(), ids=VALUES)
def test_value_of_an_id_is_of_the_kind_that_the_config_has(words, expected, folder, evaluated, run):
    assert run(*EVALUATE, "--attack", "pgd", *words) == 0
    expected = {name: str(folder / value) if name == "ckpt_path" else value for name, value in expected.items()}
    assert evaluated[0].overrides == {**expected, "dataset_dir": str(folder / "data")}


@pytest.mark.parametrize("word", ["false", "False", "FALSE", "no", "off", "0"])
def test_false_is_false(word, folder, asked, run):
    (folder / "f.pt").touch()
    assert run("convert", "f.pt", "B", "--overwrite", word) == 0
    assert run("prepare", "acdc", "a", "b", f"--allow_missing={word}") == 0
    assert run("package", "B", "--smoke", word, "--check") == 0
    arguments = {name: (args, kwargs) for name, args, kwargs in asked}
    assert arguments["convert_checkpoint"][1]["overwrite"] is False
    assert "allow_missing" not in arguments["acdc"][1]
    assert arguments["Package"][1]["smoke"] is False


@pytest.mark.parametrize("words", [["--smoke"], ["--smoke", "true"], ["--smoke=True"], ["--smoke", "."]], ids=" ".join)
def test_flag_takes_the_next_word_only_if_it_is_a_truth(words, folder, asked, run, monkeypatch):
    monkeypatch.chdir(folder / "B")
    assert run("package", *words, *([] if words[-1] == "." else ["."])) == 0
    assert asked[0][2]["smoke"] is True


# Weights


@pytest.mark.parametrize("word", ["B/models/model_vaft.pt", "models/model_vaft.pt"])
def test_weights_are_found_from_here_and_from_the_bundle(word, folder, evaluated, run):
    assert run(*EVALUATE, "--checkpoint", word) == 0
    assert evaluated[0].overrides["ckpt_path"] == str(folder / "B/models/model_vaft.pt")


@pytest.mark.parametrize(
    "word",
    ["models/model.pt,B/models/model_vaft.pt", "['models/model.pt','models/model_vaft.pt']"],
    ids=["text", "list"],
)
@pytest.mark.parametrize("command", ["evaluate", "attack", "benchmark", "audit"])
def test_several_weights_are_taken_by_every_command(command, word, folder, asked, evaluated, run):
    words = {"attack": ["--attack", "pgd"]}.get(command, [])
    assert run(command, "--bundle", "B", "--dataset_dir", "data", "--checkpoint", word, *words) == 0
    files = [str(folder / "B" / "models" / name) for name in ("model.pt", "model_vaft.pt")]
    found = [one.overrides["ckpt_path"] for one in evaluated] or asked[0][1][0].checkpoints
    assert found == files


def test_name_of_weights_with_a_comma_is_one_file(folder, evaluated, run):
    (folder / "a,b.pt").touch()
    assert run(*EVALUATE, "--checkpoint", "a,b.pt") == 0
    assert evaluated[0].overrides["ckpt_path"] == str(folder / "a,b.pt")


def test_weights_that_could_be_two_files_are_refused(folder, evaluated, run):
    (folder / "models").mkdir()
    (folder / "models" / "model.pt").write_text("other")
    assert "checkpoint must be one file, got 'models/model.pt', which is " in run(
        *EVALUATE, "--checkpoint", "models/model.pt"
    )
    assert evaluated == []


def test_hardening_starts_from_the_weights_that_were_named(folder, evaluated, run):
    (folder / "start.pt").touch()
    assert run("harden", "B", "pgd", "--start", "start.pt") == 0
    assert evaluated[0].overlays == ["harden", "hardening/pgd"]
    assert evaluated[0].overrides == {"pretrained_file": str(folder / "start.pt")}


# What is printed


def test_printed_line_does_the_same_from_any_folder(folder, evaluated, run, capsys, monkeypatch):
    (folder / "data#2").mkdir()
    words = ["--checkpoint", "models/model_vaft.pt", "--model_name", "1e3", "--num_cases", "None"]
    assert run("evaluate", "B", "--dataset_dir", "data#2", *words) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("$ "))
    inside = evaluated[0].workflow().parser
    monkeypatch.chdir("/")
    change, _, command = line.removeprefix("$ ").partition(" && ")
    place = Path(shlex.split(change)[1])
    typed = fire.Fire(lambda **settings: settings, command=shlex.split(command)[4:])
    assert typed.pop("config_file") == evaluated[0].configs
    assert all((place / path).is_file() for path in evaluated[0].configs)
    pasted = BundleRun(bundle=place, overlays=evaluated[0].overlays).workflow().parser
    pasted.update(typed)
    for parser in (pasted, inside):
        found = [parser.get_parsed_content(name) for name in ("dataset_dir", "ckpt_path", "model_name", "num_cases")]
        assert found == [str(folder / "data#2"), str(folder / "B/models/model_vaft.pt"), "1e3", None]


@pytest.mark.parametrize("command", COMMANDS.commands)
def test_help_shows_every_option_with_its_meaning(command, run, capsys):
    assert run(command, "--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for option in COMMANDS.commands[command].params:
        assert f"--{option.name} " in shown
        assert " ".join(option.help.split())[:40] in shown
        assert option.help


def test_help_shows_all_commands_in_chapters(run, capsys):
    assert run() == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS.commands)
    assert all(f"\n{title}:\n" in shown for title in COMMANDS.chapters)
    assert run("--version") == 0


# How a command ends


class ForeignError(Exception):
    """An error of another library."""


def wrapped(error):
    """An error as MONAI wraps it."""
    outer = RuntimeError("Failed to instantiate component")
    outer.__cause__ = error
    return outer


FORESEEABLE = {
    "full disk": (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device"),
    "read only": (PermissionError(13, "Permission denied", "/x"), "error: [Errno 13] Permission denied: '/x'"),
    "network": (RuntimeError("sizes\n\tdo not  match"), "error: sizes do not match"),
    "memory": (MemoryError(), "error: MemoryError"),
    "device memory": (torch.OutOfMemoryError("CUDA out of memory"), "error: CUDA out of memory"),
    "missing package": (ModuleNotFoundError("No module named 'x'"), "error: No module named 'x'"),
    "end of file": (EOFError("Ran out of input"), "error: EOFError Ran out of input"),
    "no zip file": (zipfile.BadZipFile("File is not a zip file"), "error: BadZipFile File is not a zip file"),
    "another library": (ForeignError("no"), "error: ForeignError no"),
    "config": (wrapped(ValueError("eps must be at least 0, got -1.")), "error: eps must be at least 0, got -1."),
    "config with a fault": (wrapped(KeyError("a")), "error: KeyError 'a'"),
    "escape codes": (ValueError("a\x1b[31m"), "error: a\\x1b[31m"),
    "long": (RuntimeError("x" * 9999), "error: " + "x" * 600 + "…"),
}


@pytest.mark.parametrize(("error", "sentence"), FORESEEABLE.values(), ids=FORESEEABLE)
def test_foreseeable_failure_ends_with_one_sentence(error, sentence, folder, asked, run, monkeypatch, capsys):
    monkeypatch.setattr(BundleRun, "run", MagicMock(side_effect=error))
    assert run(*EVALUATE) == sentence
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [AttributeError("x"), KeyError("x"), AssertionError(), RecursionError("x")], ids=repr)
def test_fault_of_the_program_ends_with_a_traceback_and_where_to_report_it(
    error, folder, asked, run, monkeypatch, capsys
):
    monkeypatch.setattr(BundleRun, "run", MagicMock(side_effect=error))
    assert run(*EVALUATE) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: this is a fault of vafa-monai; please report the lines above to ")


@pytest.mark.parametrize(
    ("number", "line", "code"),
    [(signal.SIGINT, "interrupted", 130), (signal.SIGTERM, "terminated", 143)],
    ids=["Ctrl-C", "SIGTERM"],
)
def test_signal_ends_a_command_with_one_line(number, line, code, folder, asked, run, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)
    ours = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    monkeypatch.setattr(BundleRun, "run", lambda *_, **__: signal.raise_signal(number))
    try:
        assert run(*EVALUATE) == code
    finally:
        signal.signal(signal.SIGINT, ours)
    assert capsys.readouterr().err.splitlines() == [line]
    assert signal.getsignal(signal.SIGTERM) is before


def test_log_has_no_traceback(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    say.log()
    try:
        raise ValueError("inner")
    except ValueError:
        logging.getLogger("engine").exception("Exception: inner")
    assert capsys.readouterr().err.splitlines()[-1].endswith("ERROR Exception: inner")


# Any line at all

ORDINARY = {
    "bundle": "B",
    "dataset_dir": "data",
    "attack": "pgd",
    "attacks": "identity,ensemble",
    "recipes": "pgd,n_fgsm",
    "seeds": "0,1",
    "strengths": "0.5,2",
    "checkpoint": "models/model.pt",
}
ORDINARY |= {"tracking": None, "device": "cpu", "fold": "0", "model_names": "m", "surrogate": "models/model_vaft.pt"}
ORDINARY |= {"checkpoint": "models/model.pt", "dataset": "decathlon", "table": "table1", "cases": "3", "classes": None}
ORDINARY |= {"recipe": "pgd", "start": "models/model.pt", "output": "new", "value_range": "0,1"}
ORDINARY |= {"roi_size": "8,8,8"}
KINDS = {"text": ["new", "größe", "a b", "x#1"], "number": ["3", "7"], "true|false": ["true", "False", "no"]}
IDS = {"--seed": "3", "--num_workers": "1", "--roi_size": "[8,8,8]", "--eps": "$1 / 255", "--overlap": "0.25"}
ODD = ["", "$x", "@seed", "%a.json#b", "a#b", "::", "#", "1e3", "None", "nan", "-1", "1e999", "9" * 500, "[" * 300]
ODD += [
    "{",
    "[1,",
    "'",
    '"',
    "(",
    "ä ö",
    "\x1b[31m",
    "\ud800",
    "a\nb",
    "a,b",
    "0x10",
    "b'x'",
    "1j",
    "models/model.pt",
    "\0",
]
STRANGE = [
    "attack#nope",
    "$x",
    "@seed",
    "größe",
    "a b",
    "seed#0",
    "#",
    "attack##steps",
    "run#9",
    "%f.json",
    "::",
    "+run",
    "1",
]


def line_of(command, chance):
    """Return the words of a line as they are meant, and those of one more that no command knows, or nothing."""
    words = [command.name]
    for option in command.params:
        needed = option.name in command.places
        value = ORDINARY.get(option.name, chance.choice(KINDS[option.type.name]))
        value = "a,b" if needed and value is None else value
        if value is None or not (needed or option.name == "attack" or chance.random() < 0.3):
            continue
        words += [value] if needed and len(words) == 1 else [f"--{option.name}={value}"]
    if command.others == "overrides" and command.name != "convert":
        unread = {*command.options, *{"train": ["eps"], "study": ["seed"]}.get(command.name, [])}
        free = [pair for pair in IDS.items() if pair[0].removeprefix("--") not in unread]
        words += [word for pair in chance.sample(free, 2) for word in pair]
    return words


def mistyped(command, chance):
    """Return a flag that the command does not know: one with a slip, or one of another world."""
    known = {*command.options, *(name.removeprefix("--") for name in IDS), "sha256"}
    name = chance.choice(sorted(known))
    at = chance.randrange(len(name))
    slips = [name[:at] + name[at + 1 :], name[:at] + name[at] + name[at:], name[:at] + "q" + name[at + 1 :]]
    name = chance.choice([*slips, chance.choice(STRANGE)])
    return None if name in known or not name else f"--{name}"


@pytest.mark.parametrize("name", COMMANDS.commands)
def test_no_line_is_taken_with_a_name_that_nothing_knows(name, folder, asked, run, capsys):
    command, chance = COMMANDS.commands[name], random.Random(f"{name}, 0")
    before, taken = sorted(folder.rglob("*")), 0
    for _ in range(100):
        words, kind = line_of(command, chance), chance.choice(["as meant", "unknown", "odd value", "shuffled"])
        at = chance.randrange(1, len(words) + 1)
        flag = mistyped(command, chance)
        if kind == "unknown" and flag:
            words[at:at] = chance.choice([[f"{flag}={chance.choice(ODD)}"], [flag]])
        elif kind == "odd value":
            option = chance.choice([*command.options, *(IDS if command.others else ())]).removeprefix("--")
            kept = [word for word in words if not word.startswith(f"--{option}=")]
            words = [*kept, f"--{option}={chance.choice(ODD)}"]
        elif kind == "shuffled":
            words[1:] = chance.sample([*words[1:], *chance.sample(ODD, 2)], k=chance.randrange(len(words)))
        asked.clear()
        ended = run(*words)
        assert ended == 0 or str(ended).startswith("error: "), (words, ended, capsys.readouterr().err)
        assert "\n" not in str(ended)
        assert not (kind == "unknown" and flag) or (ended != 0 and asked == []), words
        assert kind != "as meant" or ended == 0, (words, ended)
        taken += bool(asked)
    assert taken > 10
    assert sorted(folder.rglob("*")) == before

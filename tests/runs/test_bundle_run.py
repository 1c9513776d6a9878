"""A bundle run: the command that it stands for, what it refuses, and a run of a bundle that does next to nothing."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fire
import pytest
from monai.bundle import ConfigParser
from monai.bundle.scripts import update_kwargs

import vafa_monai
from vafa_monai.runs import BundleRun, shipped_bundle
from vafa_monai.runs.bundle_run import _loss

BUNDLE = "mni152_unetr_segmentation"


class Step:
    """Iteration of an engine that counts; built from a config."""

    def __init__(self, loss: float) -> None:
        self.loss = loss

    def __call__(self, engine, batch) -> list[dict[str, float]]:
        return [{"loss": self.loss * batch}]


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle whose training is a few calls of :class:`Step`, with an overlay and two attacks."""
    monkeypatch.setattr(vafa_monai, "Step", Step, raising=False)
    train = {
        "bundle_root": ".",
        "data_dir": "data",
        "model_name": "$'a' + 'b'",
        "epochs": 1,
        "loss": 0.5,
        "step": {"_target_": "vafa_monai.Step", "loss": "@loss"},
        "train": {"trainer": {"_target_": "ignite.engine.Engine", "process_function": "@step"}},
        "initialize": [],
        "run": ["$@train#trainer.run([1, 2, 3], max_epochs=@epochs)"],
    }
    files = {"train": train, "vaft": {"loss": 2.0}, "attacks/pgd": {"epochs": 2}, "attacks/fgsm": {}}
    for name, content in files.items():
        path = tmp_path / "configs" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return tmp_path


@pytest.fixture
def arguments_of() -> Callable[[str], dict[str, object]]:
    """Parse the words of a command as its program does, by fire."""

    def parse(command: str) -> dict[str, object]:
        words = shlex.split(command)
        assert words[:4] == ["python", "-m", "monai.bundle", "run"]
        return fire.Fire(lambda **settings: settings, command=words[4:])

    return parse


# The command


def test_command_of_one_config_is_as_short_as_can_be(bundle):
    assert BundleRun(bundle=bundle).command() == "python -m monai.bundle run --config_file configs/train.json"


def test_command_of_overlays_and_overrides_is_spelt_out(bundle):
    run = BundleRun(bundle=bundle, overlays=["vaft", "attacks/pgd"], overrides={"epochs": 3, "step#loss": [0.5, 1]})
    assert run.command() == (
        "python -m monai.bundle run --config_file "
        "\"['configs/train.json','configs/vaft.json','configs/attacks/pgd.json']\" --epochs 3 --step#loss '[0.5, 1]'"
    )


VALUES = {
    "numbers": {"epochs": 3, "loss": 1e-4},
    "a number that is text": {"data_dir": "2024", "model_name": "1e3"},
    "words that mean something to Python": {"data_dir": "None", "model_name": "True"},
    "lists": {"loss": [1, [2.5, None], "a, b"], "step#loss": ["gray #1", "None", "7"]},
    "nothing": {"loss": None},
    "yes and no": {"loss": False, "step#loss": True},
    "marks of MONAI": {"data_dir": "/data#2", "model_name": "$x", "loss": "a#b", "step#loss": "it's 100%"},
    "references in names": {"data_dir": "@epochs", "model_name": "%x.json", "loss": "a @#b"},
    "marks of a shell": {"data_dir": '/a folder/$x\'s "b"', "model_name": "a\\b", "loss": "*;&|`"},
    "beginning like a flag": {"data_dir": "-x", "model_name": "--y", "loss": -1},
    "commas and brackets": {"data_dir": "a,b", "model_name": "[1, 2]", "loss": "(a"},
    "other letters": {"data_dir": "/größe/脳", "model_name": "\t\n", "loss": "é"},
}


@pytest.mark.parametrize("overrides", VALUES.values(), ids=VALUES)
def test_values_survive_configs_and_the_shell_and_fire(bundle, arguments_of, overrides):
    run = BundleRun(bundle=bundle, overlays=["vaft"], overrides=overrides)
    arguments = arguments_of(run.command())
    chain = arguments.pop("config_file")
    assert (ast.literal_eval(chain) if isinstance(chain, str) else chain) == run.configs
    pasted = ConfigParser(ConfigParser.load_config_files([str(bundle / path) for path in run.configs]))
    pasted.update(update_kwargs({}, **arguments))
    for parser in (run.workflow().parser, pasted):
        assert {name: parser.get_parsed_content(name) for name in overrides} == overrides


def test_expressions_stay_expressions(bundle):
    run = BundleRun(bundle=bundle, overrides={"loss": "$1 / 4", "step#loss": "@epochs"})
    parser = run.workflow().parser
    assert [parser.get_parsed_content(name) for name in ("loss", "step#loss")] == [0.25, 1]


def test_configs_are_the_base_and_the_overlays_in_their_order(bundle):
    run = BundleRun(bundle=bundle, overlays=["attacks/pgd", "vaft"])
    assert run.configs == ["configs/train.json", "configs/attacks/pgd.json", "configs/vaft.json"]


# What it refuses


def test_folder_that_is_no_bundle_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"bundle must be a folder with configs/train\.json, got '.*absent'"):
        BundleRun(bundle=tmp_path / "absent")


@pytest.mark.parametrize(
    ("overlay", "sentence"),
    [
        ("vatf", r"overlay must be one of \['train', 'vaft'\], got 'vatf'\."),
        ("attacks/pdg", r"overlay must be one of \['fgsm', 'pgd'\], got 'pdg'\."),
        ("nowhere/pgd", r"overlay must be one of \[\], got 'pgd'\."),
    ],
    ids=["overlay", "attack", "folder"],
)
def test_unknown_overlay_is_refused_with_those_that_are_there(bundle, overlay, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        BundleRun(bundle=bundle, overlays=["vaft", overlay])


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("epoch", "; nearest: epochs."),
        ("step#los", "; nearest: step#loss."),
        ("train#trainer#process", r"; nearest: train#trainer#process_function\."),
        ("run#1", r"\."),
        ("stp#loss", "; nearest: step."),
        ("epochs#0", r"\."),
        ("", r"\."),
        ("+run", "; nearest: run."),
        ("bundleroot", "; nearest: bundle_root."),
    ],
)
def test_id_that_no_config_has_is_refused_with_the_nearest(bundle, name, near):
    with pytest.raises(
        ValueError, match=rf"^override must be a config id of this run, got {re.escape(repr(name))}{near}"
    ):
        BundleRun(bundle=bundle, overlays=["vaft"], overrides={name: 1})


def test_argument_that_a_component_takes_is_an_id_though_its_config_leaves_it_out():
    run = BundleRun(
        bundle=shipped_bundle(BUNDLE),
        overlays=["evaluate", "attacks/pgd"],
        overrides={"attack#norm": "l2", "validate::dataloader::pin_memory": True, "train#handlers#0#_disabled_": True},
    )
    assert run.workflow().parser.get_parsed_content("attack").norm == "l2"
    with pytest.raises(ValueError, match=r"got 'attack#nrom'; nearest: attack#norm"):
        replace(run, overrides={"attack#nrom": "l2"})


IMPOSSIBLE = {
    "seed": [-1, 2**32, 1.5, True, "a"],
    "overlap": [1.0, -0.1, [0.5, 1], "a"],
    "num_cases": [0, -1, 2.0],
    "epochs": [0, -3, 10.0],
    "learning_rate": [0, -1e-3, float("nan"), float("inf")],
    "device": ["gpu", "cuda:99", "", "cuda:", 7.5],
    "validate#inferer#overlap": [1],
    "num_workers": [-1],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in IMPOSSIBLE.items() for value in values])
def test_value_that_no_run_can_have_is_refused_before_it(name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be .*, got {re.escape(repr(value))}\.$"):
        BundleRun(bundle=shipped_bundle(BUNDLE), overlays=["evaluate"], overrides={name: value})


@pytest.mark.parametrize(
    "overrides",
    [{"overlap": [0.5, 0.25, 0]}, {"num_cases": None}, {"seed": 0, "device": "cpu"}, {"learning_rate": "$1e-3"}],
    ids=str,
)
def test_value_that_a_run_can_have_is_let_through(overrides):
    assert BundleRun(bundle=shipped_bundle(BUNDLE), overlays=["evaluate"], overrides=overrides).overrides == overrides


def test_config_that_is_no_object_is_refused_by_name(bundle):
    (bundle / "configs" / "vaft.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"config must be an object in JSON, got list in '.*vaft\.json'"):
        BundleRun(bundle=bundle, overlays=["vaft"])


def test_changed_config_is_read_again(bundle):
    with pytest.raises(ValueError, match="got 'lss'"):
        BundleRun(bundle=bundle, overlays=["vaft"], overrides={"lss": 1})
    (bundle / "configs" / "vaft.json").write_text('{"lss": 2}')
    assert BundleRun(bundle=bundle, overlays=["vaft"], overrides={"lss": 1}).config["lss"] == 2


# The run


def test_run_gives_the_state_of_its_engine(bundle):
    state = BundleRun(bundle=str(bundle)).run(progress="train#trainer")
    assert (state.epoch, state.iteration, state.output) == (1, 3, [{"loss": 1.5}])


def test_overlays_and_overrides_change_the_run(bundle):
    run = BundleRun(bundle=bundle, overlays=["vaft", "attacks/pgd"], overrides={"epochs": 4})
    state = run.run(progress="train#trainer")
    assert (state.epoch, state.iteration, state.output) == (4, 12, [{"loss": 6.0}])


def test_run_does_not_depend_on_the_folder_it_starts_in(bundle, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    parser = BundleRun(bundle=bundle).workflow().parser
    assert parser.get_parsed_content("bundle_root") == str(bundle.resolve())
    assert BundleRun(bundle=bundle).run(progress="train#trainer").iteration == 3


def test_bundle_without_the_names_of_cases_is_not_checked(bundle):
    assert BundleRun(bundle=bundle).check() is None


def test_cases_that_a_bundle_names_are_checked_before_the_run(tmp_path):
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {split: [{"image": "absent.nii.gz", "label": "absent.nii.gz"}] for split in ("training", "validation")}
        )
    )
    run = BundleRun(bundle=shipped_bundle(BUNDLE), overrides={"dataset_dir": str(tmp_path)})
    with pytest.raises(ValueError, match=r"image must be a file, got '.*absent\.nii\.gz'"):
        run.check()


# The bundles of the package


def test_shipped_bundle_is_found_and_can_be_parsed():
    folder = shipped_bundle(BUNDLE)
    assert folder.name == BUNDLE
    run = BundleRun(bundle=folder, overlays=["harden", "hardening/vaft", "attacks/pgd"], overrides={"epochs": 3})
    assert run.workflow().parser.get_parsed_content("epochs") == 3


def test_unknown_bundle_is_refused_with_those_that_are_there():
    with pytest.raises(ValueError, match=rf"bundle must be one of \[.*'{BUNDLE}'.*\], got 'absent'"):
        shipped_bundle("absent")


@pytest.mark.parametrize("output", [[{"loss": 0.5}, {"loss": 0.5}], {"loss": 0.5, "pred": []}], ids=["cases", "batch"])
def test_progress_shows_the_loss_of_cases_and_of_a_whole_batch(output):
    assert _loss(output) == {"loss": 0.5}

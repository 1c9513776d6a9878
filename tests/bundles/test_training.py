"""Trainings of a real bundle, killed, changed and repeated; each in a forked process, which needs no start."""

import json
import logging
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
import traceback
from ast import literal_eval
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from vafa_monai.data import sha256
from vafa_monai.runs import BundleRun

FORK = multiprocessing.get_context("fork")
LENGTH = {"epochs": 3, "windows_per_epoch": 4, "val_interval": 1, "network_def#dropout_rate": 0.2}
HARDENING = {"average_decay": 0.9, "perturbation": 0.01, "strength_warmup": 5, "block_size": [8, 8, 8]}
OVERLAYS = {"model.pt": [], "model_mixed.pt": ["harden", "hardening/mixed"]}


def run(folder, overlays, overrides):
    """Train in this process, on the CPU: what has used a GPU cannot be forked."""
    known = {name: literal(value) for name, value in overrides.items()}
    values = {"device": "$torch.device('cpu')", **(HARDENING if "harden" in overlays else {}), **known}
    BundleRun(bundle=folder, overlays=overlays, overrides=values).run(progress="train#trainer")


def literal(value):
    try:
        return literal_eval(str(value))
    except (SyntaxError, ValueError):
        return value


def run_forked(folder, overlays, overrides, log):
    """Train in a forked process, and tell its log."""
    with log.open("w", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = sys.__stderr__ = file
        logging.basicConfig(stream=file, level=logging.INFO, force=True)
        logging.raiseExceptions = False  # handlers of this process write to what the fork has closed
        try:
            run(folder, overlays, overrides)
        except SystemExit as end:  # whose sentence the interpreter would tell
            file.write("" if isinstance(end.code, int) else f"{end.code}\n")
            raise SystemExit(end.code if isinstance(end.code, int) else 1) from None
        except ValueError as error:  # of an override, which the command line tells in a sentence
            file.write(f"{error}\n")
            raise SystemExit(1) from None
        except Exception:
            traceback.print_exc(file=file)
            raise


@pytest.fixture
def begin(small, tmp_path):
    """Return a function that starts a training in a process of its own."""

    def start(folder, overlays=(), **overrides):
        values = {**small, **LENGTH, **overrides}
        process = FORK.Process(target=run_forked, args=(folder, list(overlays), values, tmp_path / "log"))
        process.start()
        return process

    return start


@pytest.fixture
def complete(begin, tmp_path):
    """Return a function that trains to the end and returns the exit code and what was said."""

    def call(*arguments, **overrides):
        process = begin(*arguments, **overrides)
        process.join(120)
        return process.exitcode, (tmp_path / "log").read_text()

    return call


@pytest.fixture(scope="module")
def unbroken(make_bundle, small):
    """A bundle whose two models were trained without a break, in this process: those forked from it import nothing."""
    folder = make_bundle("unbroken")
    for overlays in OVERLAYS.values():
        run(folder, overlays, {**small, **LENGTH})
    return folder


@pytest.fixture
def bundle(unbroken, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(unbroken, tmp_path / unbroken.name))


@pytest.fixture
def fresh(unbroken, make_bundle):
    """A bundle that was not trained."""
    return make_bundle("fresh")


def weights(folder, name="model.pt"):
    return torch.load(folder / "models" / name, weights_only=True)


def assert_same(first, second, name="model.pt"):
    torch.testing.assert_close(weights(first, name), weights(second, name), rtol=0, atol=0)
    assert (first / "models" / name).read_bytes() == (second / "models" / name).read_bytes()
    path = f"eval/resume/{name[:-3]}/checkpoint_epoch=3.pt"
    states = [torch.load(one / path, weights_only=True) for one in (first, second)]
    assert set(states[0]) >= ({"validated"} if "mixed" in name else set())
    for key in {"network", "validated"} & set(states[0]):
        torch.testing.assert_close(*(state[key] for state in states), rtol=0, atol=0)
    for key in ("best", "epoch", "run"):
        assert states[0][key] == states[1][key]


def content(folder):
    """Return what a training could change, by path."""
    kept = [path for place in ("models", "eval") for path in (folder / place).rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in kept if path.suffix != ".lock"}


def kill_at(process, seconds):
    """Kill after some time, or let it finish before."""
    process.join(seconds)
    process.kill()
    process.join(60)


def kill_when(process, condition):
    """Kill as soon as something is seen."""
    deadline = time.monotonic() + 60
    while not condition() and process.is_alive() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.kill()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


def require_nothing_half_written(folder):
    for path in (folder / "models").glob("*.pt"):
        assert all(torch.isfinite(value).all() for value in torch.load(path, weights_only=True).values())
    assert not list((folder / "models").glob(".*.pt"))
    assert not list((folder / "eval").rglob(".*.pt"))


# Killed


@pytest.mark.parametrize("name", OVERLAYS)
def test_training_killed_in_every_epoch_ends_with_the_weights_of_an_unbroken_one(
    name, unbroken, fresh, begin, complete
):
    if name == "model_mixed.pt":
        shutil.copy(unbroken / "models" / "model.pt", fresh / "models" / "model.pt")
    states = fresh / "eval" / "resume" / name[:-3]
    for epoch in (1, 2):
        kill_when(begin(fresh, OVERLAYS[name]), (states / f"checkpoint_epoch={epoch}.pt").exists)
    code, told = complete(fresh, OVERLAYS[name])
    assert code == 0, told
    assert_same(unbroken, fresh, name)
    require_nothing_half_written(fresh)


@pytest.mark.slow
@pytest.mark.parametrize("name", OVERLAYS)
def test_training_killed_at_twenty_random_moments_ends_with_the_same_weights(name, unbroken, fresh, begin, complete):
    if name == "model_mixed.pt":
        shutil.copy(unbroken / "models" / "model.pt", fresh / "models" / "model.pt")
    start = time.monotonic()
    draw = random.Random(0)
    code, told = complete(fresh, OVERLAYS[name])
    assert code == 0, told
    length = time.monotonic() - start
    for moment in range(20):
        if moment % 4 == 0:  # every fourth begins anew
            shutil.rmtree(fresh / "eval", ignore_errors=True)
            (fresh / "models" / name).unlink(missing_ok=True)  # without its record it would not be trained over
        kill_at(begin(fresh, OVERLAYS[name]), draw.uniform(0.2, 1) * length)
        for path in (fresh / "models").glob("[!.]*.pt"):
            torch.load(path, weights_only=True)  # whole at any moment
    code, told = complete(fresh, OVERLAYS[name])
    assert code == 0, told
    assert_same(unbroken, fresh, name)
    require_nothing_half_written(fresh)


@pytest.mark.parametrize(
    ("name", "changes", "told_of"),
    [("model.pt", {"learning_rate": 0.1}, "learning_rate 0.1 where"), ("model_mixed.pt", {"seed": 1}, "seed 1 where")],
)
def test_training_killed_and_called_with_other_settings_is_refused_and_goes_on_with_its_own(
    name, changes, told_of, unbroken, fresh, begin, complete
):
    if name == "model_mixed.pt":
        shutil.copy(unbroken / "models" / "model.pt", fresh / "models" / "model.pt")
    kill_when(begin(fresh, OVERLAYS[name]), (fresh / "eval" / "resume" / name[:-3] / "checkpoint_epoch=1.pt").exists)
    before = content(fresh)
    code, told = complete(fresh, OVERLAYS[name], **changes)
    assert (code, told_of in told) == (1, True), told
    assert content(fresh) == before
    code, told = complete(fresh, OVERLAYS[name])
    assert code == 0, told
    assert_same(unbroken, fresh, name)


def test_model_is_the_old_or_the_new_one_whenever_the_process_is_killed(bundle, begin, complete):
    old = (bundle / "models" / "model.pt").read_bytes()
    half = bundle / "models"
    process = begin(bundle, resume=False, windows_per_epoch=8)
    kill_when(process, lambda: list(half.glob(".*model.pt")) or (half / "model.pt").read_bytes() != old)
    weights(bundle)
    code, told = complete(bundle, windows_per_epoch=8)
    assert code == 0, told
    require_nothing_half_written(bundle)


@pytest.mark.parametrize("clock", ["1980", "2080"])
def test_newest_state_is_the_one_of_most_epochs_whatever_the_clock_says(clock, bundle, complete):
    folder = bundle / "eval" / "resume" / "model"
    moment = time.mktime((int(clock), 1, 1, 0, 0, 0, 0, 0, 0))
    os.utime(folder / "checkpoint_epoch=3.pt", (moment, moment))
    code, told = complete(bundle)
    assert code == 0
    assert "done already: " in told
    assert "after 3 of 3 epochs" in told
    (folder / "checkpoint_epoch=3.pt").rename(folder / "checkpoint_epoch=1.pt")
    assert "done already: " in complete(bundle)[1]


def test_interrupted_training_says_one_line_and_goes_on(unbroken, fresh, begin, complete, tmp_path):
    process = begin(fresh, windows_per_epoch=4)
    state = fresh / "eval" / "resume" / "model" / "checkpoint_epoch=1.pt"
    while not state.exists() and process.is_alive():
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    told = (tmp_path / "log").read_text()
    assert process.exitcode == 130
    assert "Traceback" not in told
    assert told.strip().splitlines()[-1].startswith("interrupted in epoch ")
    assert "the same command goes on after epoch " in told
    assert complete(fresh)[0] == 0
    assert_same(unbroken, fresh)


# Other settings


def write_other_data(source, folder):
    """Copy a dataset with one voxel of one training image changed."""
    shutil.copytree(source, folder)
    path = folder / "imagesTr" / "case_00.nii.gz"
    image = nib.load(path)
    volume = np.asarray(image.dataobj).copy()
    volume[3, 4, 5] += 1
    nib.save(nib.Nifti1Image(volume, image.affine), path)
    return {"dataset_dir": str(folder)}


@pytest.mark.parametrize(
    ("overlays", "overrides", "sentence"),
    [
        ([], {"learning_rate": 0.1}, "got another: learning_rate 0.1 where it was 0.002; name another model_file, or"),
        ([], {"seed": 1}, "got another: seed 1 where it was 0"),
        ([], {"batch_size": 3, "val_interval": 3}, "got another: batch_size 3 where it was 2, val_interval 3 where it"),
        ([], {"network_def#dropout_rate": 0.3}, "got another: network_def#dropout_rate 0.3 where it was 0.2"),
        ([], {"train#random_transforms#3#prob": 0.1}, "train#random_transforms#3#prob 0.1 where it was 0.5"),
        ([], {"other": "data"}, "got another: other training cases"),
        ([], {"other": "split"}, "got another: other training cases, other validation cases"),
        (["harden", "hardening/mixed", "attacks/pgd"], {}, "got another: "),
        (
            ["harden", "hardening/mixed"],
            {"consistency_weight": 1.0},
            "got another: consistency_weight 1.0 where it was 0.0",
        ),
        (["harden", "hardening/mixed"], {"q_max": 30}, "got another: q_max 30 where it was 20"),
        (["harden", "hardening/mixed"], {"retrained": True}, "got another: other weights to start from"),
        ([], {"epochs": 2}, "epochs must be at least the 3 that this training has had, got 2"),
        ([], {"replaced": True}, "model must be the one that its training wrote, got "),
    ],
    ids=lambda value: "_".join(map(str, value)) if isinstance(value, (dict, list)) else "",
)
def test_training_of_other_settings_is_refused_and_changes_nothing(
    overlays, overrides, sentence, bundle, dataset_dir, complete, tmp_path
):
    if (other := overrides.pop("other", None)) == "data":
        overrides |= write_other_data(dataset_dir, tmp_path / "other")
    elif other == "split":
        listed = json.loads((dataset_dir / "dataset.json").read_text())
        swapped = {**listed, "training": listed["validation"], "validation": listed["training"]}
        shutil.copytree(dataset_dir, tmp_path / "other")
        (tmp_path / "other" / "dataset.json").write_text(json.dumps(swapped))
        overrides |= {"dataset_dir": str(tmp_path / "other")}
    model = bundle / "models" / "model.pt"
    if overrides.pop("retrained", False) or overrides.pop("replaced", False):
        content_of = weights(bundle)
        torch.save({name: value + 1 for name, value in content_of.items()}, model)
    before = content(bundle)
    code, told = complete(bundle, overlays, **overrides)
    assert code == 1
    assert sentence in told
    assert told.count("Error") == told.count("Traceback") == 0
    assert content(bundle) == before


def test_settings_that_change_no_weights_go_on(bundle, dataset_dir, complete, tmp_path):
    moved = shutil.copytree(dataset_dir, tmp_path / "moved")
    places = {"dataset_dir": str(moved), "cache_rate": 0.0, "resume_interval": 2, "num_workers": 1}
    tracking = ["tracking/train_tensorboard"] if find_spec("tensorboard") else []
    code, told = complete(bundle, tracking, **places)
    assert code == 0, told
    assert "done already: " in told


def test_more_epochs_go_on_with_the_same_training(bundle, complete):
    before = weights(bundle)
    code, told = complete(bundle, epochs=4)
    assert code == 0, told
    assert "goes on after epoch 3" in told
    files = sorted(path.name for path in (bundle / "eval" / "resume" / "model").iterdir())
    assert files == ["checkpoint_epoch=3.pt", "checkpoint_epoch=4.pt", "training.json"]
    assert before.keys() == weights(bundle).keys()


@pytest.mark.parametrize("word", [False, "FALSE"])
def test_training_starts_anew_if_asked(word, bundle, complete):
    code, told = complete(bundle, learning_rate=0.01, resume=word)
    assert code == 0, told
    assert "resuming from iteration 0, epoch 0 until 3" in told
    record = json.loads((bundle / "eval" / "resume" / "model" / "training.json").read_text())
    assert record["facts"]["learning_rate"] == 0.01


def test_deleted_model_is_trained_again_to_the_same_weights(unbroken, bundle, complete):
    (bundle / "models" / "model.pt").unlink()
    code, told = complete(bundle)
    assert code == 0, told
    assert "model.pt is missing: its training starts anew" in told
    assert_same(unbroken, bundle)


# What selects a hardened model

MIXED = OVERLAYS["model_mixed.pt"]


def test_record_beside_the_model_says_what_made_and_selected_it(unbroken):
    record = json.loads((unbroken / "models" / "model_mixed.training.json").read_text())
    assert record["sha256"] == sha256(unbroken / "models" / "model_mixed.pt")
    attack = record["statement"]["validation_attack"]
    assert (attack["_target_"], attack["steps"], attack["eps"]) == ("vafa_monai.attacks.PGD", 5, 4 / 255)
    assert [one["_target_"].rpartition(".")[2] for one in record["statement"]["threats"]] == [
        "PGD",
        "FrequencyPGD",
    ]
    selection = record["selection"]
    names = ("val_robust_score", "val_mean_dice", "val_mean_dice_adv")
    assert selection["metric"] == names[0]
    scores = [[one[name] for name in names] for one in selection["validations"]]
    assert [one["epoch"] for one in selection["validations"]] == [1, 2, 3]
    assert all(score == pytest.approx((clean + attacked) / 2) for score, clean, attacked in scores)
    assert all(clean > attacked for _, clean, attacked in scores)
    assert selection["best"]["score"] == max(score for score, *_ in scores)
    assert record["facts"]["average_decay"] == 0.9


def test_hardening_ends_where_no_validation_is_better_and_stays_ended(bundle, complete):
    settings = {"epochs": 9, "learning_rate": 1e-20, "patience": 2, "resume_interval": 5, "model_file": "early.pt"}
    code, told = complete(bundle, MIXED, **settings)
    assert code == 0, told
    assert "no better score in 2 validations: the training ends" in told
    record = json.loads((bundle / "models" / "early.training.json").read_text())
    assert record["selection"]["stopped_early"] is True
    assert (record["selection"]["epochs"], record["selection"]["best"]["epoch"]) == (3, 1)
    before = content(bundle)
    code, told = complete(bundle, MIXED, **settings)
    assert (code, "done already" in told) == (0, True), told
    assert content(bundle) == before
    code, told = complete(bundle, MIXED, **{**settings, "patience": 0})
    assert (code, "patience must be a whole number from 1 on, got 0." in told) == (1, True), told


def test_hardening_opens_no_test_case(unbroken, bundle, dataset_dir, complete, tmp_path):
    """Where the test cases are away it ends with the same bytes."""
    data = Path(shutil.copytree(dataset_dir, tmp_path / "data"))
    for kind in ("images", "labels"):
        shutil.rmtree(data / f"{kind}Ts")
    shutil.rmtree(bundle / "eval")
    (bundle / "models" / "model_mixed.pt").unlink()
    code, told = complete(bundle, MIXED, dataset_dir=str(data))
    assert code == 0, told
    assert "3 of 3 images of the part 'test' are not here: not compared" in told
    assert_same(unbroken, bundle, "model_mixed.pt")


@pytest.mark.parametrize("part", ["validation", "test"])
def test_hardening_on_a_case_of_another_part_is_refused(part, bundle, dataset_dir, complete, tmp_path):
    data = Path(shutil.copytree(dataset_dir, tmp_path / "data"))
    listed = json.loads((data / "dataset.json").read_text())
    shutil.copy(data / listed["training"][0]["image"], data / listed[part][0]["image"])
    before = content(bundle)
    code, told = complete(bundle, MIXED, dataset_dir=str(data))
    assert code == 1
    assert f"(training) and '{data / listed[part][0]['image']}' ({part})." in told
    assert content(bundle) == before


# Damaged pieces


@pytest.mark.parametrize("damage", [b"", b'{"facts": 3}', b"cut off while it was written"])
def test_damaged_record_is_set_aside_and_made_again(damage, bundle, complete):
    record = bundle / "eval" / "resume" / "model" / "training.json"
    record.write_bytes(damage)
    code, told = complete(bundle, epochs=4)
    assert code == 0, told
    assert "training.json.damaged" in told
    assert "goes on after epoch 3" in told
    assert json.loads(record.read_text())["facts"]["seed"] == 0


def test_damaged_state_is_set_aside_and_the_one_before_goes_on_to_the_same_weights(unbroken, bundle, complete):
    state = bundle / "eval" / "resume" / "model" / "checkpoint_epoch=3.pt"
    state.write_bytes(state.read_bytes()[:1000])
    code, told = complete(bundle)
    assert code == 0, told
    assert "checkpoint_epoch=3.pt.damaged" in told
    assert "goes on after epoch 2" in told
    assert_same(unbroken, bundle)


def test_states_of_an_earlier_version_are_refused(bundle, complete):
    folder = bundle / "eval" / "resume" / "model"
    (folder / "training.json").unlink()
    for path in folder.glob("*.pt"):
        state = torch.load(path, weights_only=True)
        torch.save({name: state[name] for name in ("network", "optimizer", "lr_scheduler", "trainer")}, path)
    code, told = complete(bundle)
    assert (code, "got another: one that its files do not tell" in told) == (1, True), told


# No model at the end


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ({"learning_rate": 1e30, "warmup_iterations": 1, "windows_per_epoch": 8}, "must be finite, got "),
        (
            {"loss": "$lambda *_: torch.tensor(float('inf'), requires_grad=True)"},
            "loss must be finite, got inf in iter",
        ),
        ({"val_interval": 5}, "val_interval must be at most the 3 epochs, so that one of them is validated, got 5."),
        ({"val_interval": 0}, "val_interval must be a whole number from 1 on, got 0."),
        ({"epochs": 0}, "epochs must be a whole number from 1 on, got 0."),
        ({"epochs": 1.5}, "epochs must be a whole number from 1 on, got 1.5."),
        ({"validate#data": []}, "val_data must hold at least one case, got an empty list."),
        ({"train#data": []}, "train_data must hold at least one case, got an empty list."),
        ({"resume": "maybe"}, "resume must be True or False, got 'maybe'."),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_training_that_cannot_leave_a_model_says_so_and_keeps_the_one_that_is_there(
    overrides, sentence, fresh, complete
):
    model = fresh / "models" / "model.pt"
    model.write_bytes(b"of before")
    code, told = complete(fresh, **{"resume": False, **overrides})
    assert code == 1
    assert sentence in told
    assert "Traceback" not in told
    assert model.read_bytes() == b"of before"


@pytest.mark.parametrize("name", OVERLAYS)
def test_model_that_no_training_here_wrote_is_not_replaced_by_a_first_epoch(name, unbroken, fresh, complete):
    """A bundle that was downloaded or converted has weights and no folder to go on from."""
    for path in (unbroken / "models").glob("*.pt"):
        shutil.copy(path, fresh / "models" / path.name)
    before = content(fresh)
    code, told = complete(fresh, OVERLAYS[name], learning_rate=1.0)
    assert code == 1
    assert f"model must be a new file, got '{fresh / 'models' / name}', which is there, and no training of it" in told
    assert "name another model_file, or start anew with --resume False." in told
    assert content(fresh) == before
    assert complete(fresh, OVERLAYS[name], model_file="another.pt", epochs=1)[0] == 0
    assert {path: before[path] for path in before} == {path: content(fresh)[path] for path in before}
    assert complete(fresh, OVERLAYS[name], resume=False, epochs=1)[0] == 0
    assert content(fresh)[fresh / "models" / name] != before[fresh / "models" / name]


def test_second_training_of_a_model_is_refused_and_a_killed_one_leaves_no_lock(fresh, begin, complete):
    first = begin(fresh, windows_per_epoch=2000)
    lock = fresh / "models" / ".model.pt.lock"
    while not (fresh / "eval" / "resume" / "model" / "training.json").exists() and first.is_alive():
        time.sleep(0.002)
    assert lock.exists()
    code, told = complete(fresh)
    assert code == 1
    assert "model must be trained by one process at a time, got " in told
    assert complete(fresh, model_file="second.pt", epochs=1)[0] == 0
    first.kill()
    first.join()
    assert complete(fresh, resume=False, epochs=1)[0] == 0

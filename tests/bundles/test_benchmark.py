"""A whole dataset under several attacks: continued, shared, and with cases that fail."""

import json
import shutil
import signal
import socket
import sys
import time
from ast import literal_eval
from datetime import timedelta

import pytest

from vafa_monai.attacks import Identity
from vafa_monai.cli import main
from vafa_monai.runs import Benchmark

ATTACKS = ("identity", "gaussian_noise")


@pytest.fixture(scope="module")
def overrides(small):
    """The small network, as the command line gives it to a function."""
    values = {name: small[name] for name in small if name.startswith(("network_def", "roi_size"))}
    return {name: literal_eval(str(value)) for name, value in values.items()} | {"device": "cpu"}


@pytest.fixture
def run(trained, dataset_dir, overrides, tmp_path):
    """Run in this process; return the outcome and what was told."""

    def begin(folder="one", attacks=ATTACKS, data=dataset_dir, say=None, **changes):
        lines = []
        about = {"bundle": trained, "dataset_dir": data, "attacks": attacks, "output": tmp_path / folder}
        benchmark = Benchmark(**about, overrides={**overrides, **changes}, say=say or lines.append)
        return benchmark.run(), lines

    return begin


def command(trained, dataset_dir, overrides, output):
    flags = [f"--{name}={value}" for name, value in overrides.items()]
    places = ["--bundle", trained, "--dataset_dir", dataset_dir, "--output", output, "--attacks", ",".join(ATTACKS)]
    return ["benchmark", *places, *flags]


def contents(folder):
    """The bytes of all results."""
    files = sorted((folder / "results").rglob("*.*"))
    assert len(files) == 2 * len(ATTACKS)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def broken_data(dataset_dir, tmp_path):
    """The dataset with one test image cut off; and what repairs it."""
    folder = tmp_path / "data"
    shutil.copytree(dataset_dir, folder)
    listed = json.loads((folder / "dataset.json").read_text())["test"]
    image = folder / listed[0]["image"]
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    return folder, lambda: image.write_bytes(whole)


def test_result_is_that_of_an_evaluation_of_all_cases(run, trained, small, tmp_path, run_chain):
    outcome, _ = run(attacks=["identity"])
    assert not outcome.failures
    assert outcome.files["html"].is_file()
    settings = {**small, "val_batch_size": 1, "output_dir": str(tmp_path / "eval"), "device": "cpu"}
    code, output = run_chain(["train", "evaluate", "attacks/identity"], settings, trained)
    assert code == 0, output[-3000:]
    merged, evaluated = (
        json.loads((tmp_path / folder / "results" / "model" / "identity.json").read_text())
        for folder in ("one", "eval")
    )
    assert len(merged["cases"]) > 1
    places = {"seconds": None, "checkpoint": None}
    assert merged | places == evaluated | places
    assert merged["checkpoint"]["sha256"] == evaluated["checkpoint"]["sha256"]


def test_bundle_that_does_not_tell_the_channels_of_its_images_is_evaluated(
    copy_trained, dataset_dir, overrides, tmp_path
):
    """Overlays of earlier versions have no such id."""
    path = copy_trained / "configs" / "evaluate.json"
    content = json.loads(path.read_text().replace("in_channels=@image_channels, ", ""))
    del content["image_channels"]
    path.unlink()  # a link to the overlay of all bundles
    path.write_text(json.dumps(content))
    about = {"bundle": copy_trained, "dataset_dir": dataset_dir, "attacks": ["identity"], "output": tmp_path / "one"}
    assert not Benchmark(**about, overrides={**overrides, "num_cases": 1}).run().failures


def test_broken_off_run_continues_and_gives_the_same_bytes(run, tmp_path):
    class BrokenOffError(Exception):
        pass

    def break_off(line):
        if line.startswith("[2/"):
            raise BrokenOffError

    run("unbroken")
    with pytest.raises(BrokenOffError):
        run("broken", say=break_off)
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "broken" / "records").iterdir()}
    assert len(made) == 4  # two records with their volumes
    _, lines = run("broken")
    assert "2 done already" in lines[0]
    assert contents(tmp_path / "broken") == contents(tmp_path / "unbroken")
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_corrupt_case_is_listed_and_costs_the_others_nothing(run, broken_data, tmp_path):
    data, repair = broken_data
    outcome, lines = run(data=data, attacks=["identity"])
    assert [failure["case"] for failure in outcome.failures] == ["case_03"]
    assert "image must be a readable volume" in outcome.failures[0]["error"]
    assert any("failed" in line for line in lines)
    assert json.loads((tmp_path / "one" / "failures.json").read_text()) == list(outcome.failures)
    result = tmp_path / "one" / "results" / "model" / "identity.json"
    cases = len(json.loads(result.read_text())["cases"])
    repair()
    outcome, _ = run(data=data, attacks=["identity"])
    assert not outcome.failures
    assert json.loads((tmp_path / "one" / "failures.json").read_text()) == []
    assert len(json.loads(result.read_text())["cases"]) == cases + 1


def test_command_ends_with_3_if_a_case_failed(broken_data, trained, overrides, tmp_path, monkeypatch, capsys):
    words = command(trained, broken_data[0], overrides, tmp_path / "two")
    monkeypatch.setattr(sys, "argv", ["vafa-monai", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 3
    assert "failed: model, identity, " in capsys.readouterr().out


def test_other_content_is_another_record(run, tmp_path):
    for noise in (0.1, 0.2):
        run(attacks=["gaussian_noise"], **{"attack#std": noise, "num_cases": 1})
    records = [json.loads(path.read_text()) for path in (tmp_path / "one" / "records").glob("*.json")]
    assert sorted(record["attack"]["settings"]["std"] for record in records) == [0.1, 0.2]
    result = json.loads((tmp_path / "one" / "results" / "model" / "gaussian_noise.json").read_text())
    assert result["attack"]["settings"]["std"] == 0.2


def test_case_whose_evaluation_breaks_off_costs_the_next_ones_nothing(run, monkeypatch):
    """The engine of the second case breaks off in the middle; the third has an engine of its own."""
    calls, attack = [], Identity.run

    def fail_once(self, inputs, targets, network):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("no such kernel")
        return attack(self, inputs, targets, network)

    monkeypatch.setattr(Identity, "run", fail_once)
    outcome, _ = run(attacks=["identity"])
    assert [(failure["case"], failure["error"]) for failure in outcome.failures] == [("case_04", "no such kernel")]
    assert len(calls) == 3
    outcome, _ = run(attacks=["identity"])
    assert not outcome.failures
    assert len(calls) == 4


def test_result_of_other_content_does_not_stay_where_everything_failed(run, broken_data, tmp_path):
    data, _ = broken_data
    run(data=data, attacks=["identity"])
    result = tmp_path / "one" / "results" / "model" / "identity.json"
    assert result.is_file()
    for image in (data / "imagesTs").iterdir():
        image.write_bytes(b"")
    outcome, _ = run(data=data, attacks=["identity"])
    assert len(outcome.failures) == 3
    assert not result.exists()


def test_one_network_is_in_memory_at_a_time(run, trained, dataset_dir, overrides, tmp_path, monkeypatch):
    settings = Benchmark.settings
    kept = []
    monkeypatch.setattr(Benchmark, "settings", lambda self: kept.append(settings(self)) or kept[-1])
    run(num_cases=1)
    assert all("parser" not in vars(setting) for setting in kept[-1])


def test_too_small_a_disk_is_said_before_anything_runs(run, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(ValueError, match=r"output must have \d+ bytes of free disk, got 1 in"):
        run()
    assert not (tmp_path / "one" / "records").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attacks": []}, r"attacks must be at least one, all different, got \[\]"),
        ({"attacks": ["pgd", "pgd"]}, "attacks must be at least one, all different"),
        ({"attacks": ["none"]}, "overlay must be one of .*got 'none'"),
        ({"checkpoints": ["models/none.pt"]}, "checkpoints must be existing files, got .*none.pt"),
    ],
    ids=["no attack", "twice", "unknown attack", "no checkpoint"],
)
def test_what_is_not_there_is_refused(changes, message, trained, dataset_dir):
    with pytest.raises(ValueError, match=message):
        Benchmark(**{"bundle": trained, "dataset_dir": dataset_dir, **changes})


@pytest.mark.slow
def test_killed_process_continues_and_gives_the_same_bytes(
    run, trained, dataset_dir, overrides, tmp_path, start_process
):
    run("unbroken")
    words = [sys.executable, "-m", "vafa_monai.cli", *command(trained, dataset_dir, overrides, tmp_path / "killed")]
    process = start_process(words, tmp_path)
    while not list((tmp_path / "killed").glob("records/*.json")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "results").exists()
    process = start_process(words, tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    assert contents(tmp_path / "killed") == contents(tmp_path / "unbroken")


def test_two_processes_give_what_one_gives(run, trained, dataset_dir, overrides, tmp_path, fork_ranks):
    run("unbroken")
    code, output = fork_ranks(["vafa_monai.cli", *command(trained, dataset_dir, overrides, tmp_path / "two")], tmp_path)
    assert code == 0, output[-3000:]
    assert "process 1: [1/" in output
    assert contents(tmp_path / "two") == contents(tmp_path / "unbroken")


# What lies there from before, or changes meanwhile


DAMAGES = {
    "empty": lambda path: path.write_text(""),
    "object": lambda path: path.write_text("{}"),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-40]),
    "list": lambda path: path.write_text("[1, 2]"),
    "of another case": lambda path: path.write_text(path.read_text().replace("case_03", "case_04")),
    "too good": lambda path: path.write_text(path.read_text().replace('"ssim": 1', '"ssim": 7')),
    "arrays": lambda path: path.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes()[:100]),
    "no arrays": lambda path: path.with_suffix(".npz").unlink(),
    "another's": lambda path: path.write_text(path.read_text().replace('"made_of": "', '"made_of": "0')),
}


def test_damaged_record_is_named_set_aside_and_made_again(run, tmp_path):
    run(attacks=["identity"], num_cases=1)
    whole = (tmp_path / "one" / "results" / "model" / "identity.json").read_bytes()
    for number, damage in enumerate(DAMAGES.values(), start=1):
        (record,) = (tmp_path / "one" / "records").glob("*.json")
        damage(record)
        outcome, lines = run(attacks=["identity"], num_cases=1)
        assert not outcome.failures
        assert sum(line.startswith("set aside: ") and record.name in line for line in lines) == 1
        assert (tmp_path / "one" / "results" / "model" / "identity.json").read_bytes() == whole
        assert len(list((tmp_path / "one" / "records").glob("*.damaged*"))) == number


@pytest.mark.parametrize("text", ["", "{}", "[]"])
def test_damaged_failure_costs_nothing(run, broken_data, tmp_path, text):
    data, _ = broken_data
    run(data=data, attacks=["identity"], num_cases=1)
    (failure,) = (tmp_path / "one" / "failures").iterdir()
    failure.write_text(text)
    outcome, _ = run(data=data, attacks=["identity"], num_cases=1)
    assert [one["case"] for one in outcome.failures] == ["case_03"]


def test_record_that_disappears_during_the_run_is_made_again(run, tmp_path):
    def remove(line):
        if line.startswith("[2/"):
            next((tmp_path / "one" / "records").glob("*.json")).unlink()

    run(attacks=["identity"], say=remove)
    result = json.loads((tmp_path / "one" / "results" / "model" / "identity.json").read_text())
    assert len(result["cases"]) == 3


def test_weights_that_change_during_the_run_fail_and_are_listed(run, copy_trained, dataset_dir, overrides, tmp_path):
    weights = copy_trained / "models" / "model.pt"

    def retrain(line):
        if line.startswith("[1/"):
            shutil.copyfile(copy_trained / "models" / "model_vaft.pt", weights)

    about = {"bundle": copy_trained, "dataset_dir": dataset_dir, "attacks": ["identity"], "output": tmp_path / "one"}
    outcome = Benchmark(**about, overrides=overrides, say=retrain).run()
    assert len(outcome.failures) == 2
    assert "weights are others than at the start" in outcome.failures[0]["error"]
    result = json.loads((tmp_path / "one" / "results" / "model" / "identity.json").read_text())
    assert [one["case"] for one in result["failed"]] == ["case_04", "case_05"]
    page = (tmp_path / "one" / "report.html").read_text()
    assert "2 of 3 cases failed on model under Clean" in page


def test_result_of_other_weights_or_data_does_not_stand_beside(run, tmp_path):
    run(attacks=["identity"], num_cases=1)
    results = tmp_path / "one" / "results" / "model"
    own = json.loads((results / "identity.json").read_text())
    fgsm = own | {"attack": own["attack"] | {"name": "fgsm", "role": "attack"}}
    others = {
        "fgsm": fgsm | {"checkpoint": {"path": "x", "sha256": "0" * 64}},
        "bim": fgsm | {"cases": [own["cases"][0] | {"files": {"image": "0", "label": "0"}}]},
        "pgd": fgsm | {"versions": own["versions"] | {"vafa_monai": "0.0.1"}},
        "apgd": {},
    }
    for name, document in others.items():
        (results / f"{name}.json").write_text(json.dumps(document))
    (results / "fine.json").write_text(json.dumps(fgsm | {"attack": fgsm["attack"] | {"name": "fine"}}))
    outcome, lines = run(attacks=["identity"], num_cases=1)
    told = [line for line in lines if line.startswith("set aside: ")]
    assert len(told) == len(others)
    assert any("of other weights (" in line for line in told)
    assert sorted(path.name for path in results.glob("*.json")) == ["fine.json", "identity.json"]
    document = json.loads(outcome.files["json"].read_text())
    assert {row["attack"] for row in document["rows"]} == {"identity", "fine"}


@pytest.mark.parametrize("number", [-1, 0, 1.5, True, "two"])
def test_number_of_cases_that_is_none_is_refused(run, number):
    with pytest.raises(Exception, match="num_cases") as refused:
        run(attacks=["identity"], num_cases=number)
    error = refused.value
    while error.__cause__ is not None:
        error = error.__cause__
    assert "num_cases must be" in str(error)


@pytest.mark.parametrize(
    "left",
    [{"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost"}],
    ids=["rank", "world size", "no port"],
)
def test_environment_left_over_is_no_launch(run, left, monkeypatch, tmp_path):
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    _, lines = run(attacks=["identity"], num_cases=2)
    assert lines[0].startswith("one process does all: ")
    result = json.loads((tmp_path / "one" / "results" / "model" / "identity.json").read_text())
    assert len(result["cases"]) == 2


def test_launch_without_the_other_process_ends_with_a_sentence(run, monkeypatch):
    monkeypatch.setattr("vafa_monai.runs.work.MEETING", timedelta(seconds=1))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    about = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    for name, value in about.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ValueError, match="not all of the 2 processes of the launch"):
        run(attacks=["identity"])


def test_output_that_cannot_be_written_is_refused_before_anything_runs(run, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "results").write_text("in the way")
    with pytest.raises(ValueError, match="output must be a place that can be written to, got"):
        run(attacks=["identity"])
    assert not (tmp_path / "one" / "records").exists()


def test_images_of_one_name_are_refused_before_anything_runs(run, dataset_dir, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(dataset_dir, folder)
    listed = json.loads((folder / "dataset.json").read_text())
    (folder / "second").mkdir()
    image = folder / "second" / "case_03.nii.gz"
    shutil.copyfile(folder / listed["test"][0]["image"], image)
    listed["test"].append(listed["test"][0] | {"image": "second/case_03.nii.gz"})
    (folder / "dataset.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match="images must have file names that differ, got 'case_03' 2 times"):
        run(attacks=["identity"], data=folder)


@pytest.mark.parametrize("second", ["models/old/model.pt", "./models/model.pt", "models/old/MODEL.pt"])
def test_two_checkpoints_of_one_label_are_refused(second, copy_trained, dataset_dir):
    (copy_trained / "models" / "old").mkdir()
    for name in ("model.pt", "MODEL.pt"):
        shutil.copyfile(copy_trained / "models" / "model.pt", copy_trained / "models" / "old" / name)
    with pytest.raises(ValueError, match="checkpoints must have file names that differ, got"):
        Benchmark(bundle=copy_trained, dataset_dir=dataset_dir, checkpoints=["models/model.pt", second])

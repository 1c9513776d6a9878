"""A whole dataset under several attacks: continued, shared, and with cases that fail."""

import json
import shutil
import signal
import sys
import time
from ast import literal_eval

import pytest

from vafa_monai.attacks import Identity
from vafa_monai.cli import main
from vafa_monai.workflows import Benchmark

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


def test_two_processes_give_what_one_gives(run, trained, dataset_dir, overrides, tmp_path, start_process):
    run("unbroken")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = command(trained, dataset_dir, overrides, tmp_path / "two")
    process = start_process([*launcher, "-m", "vafa_monai.cli", *words], tmp_path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    assert "process 1: [1/" in output
    assert contents(tmp_path / "two") == contents(tmp_path / "unbroken")

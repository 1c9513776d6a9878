"""Audits and benchmarks of a bundle, killed at any moment and called again, with the same and with other settings."""

import json
import random
import shutil
import time
from ast import literal_eval
from functools import partial

import pytest

from vafa_monai.runs import Benchmark, BundleAudit, BundleRun

pytestmark = pytest.mark.slow

FEW = {"steps": 1, "queries": 1, "restarts": 2, "eps_curve": (0, 1), "steps_curve": (1, 2), "stated_dice": 1.0}
TIMES = ("seconds", "command")
MODELS = ("model", "model_vaft")
FILES = [f"models/{model}.pt" for model in MODELS]


@pytest.fixture(scope="module")
def overrides(small):
    values = {name: small[name] for name in small if name.startswith(("network_def", "roi_size"))}
    return {name: literal_eval(value) if isinstance(value, str) else value for name, value in values.items()} | {
        "num_cases": 1,
        "device": "cpu",
    }


@pytest.fixture(scope="module")
def bundle(make_bundle, overrides, window_dir):
    """A bundle with two models of one short training, in this process."""
    folder, cases = make_bundle("killed"), {"num_cases"}
    values = {name: value for name, value in overrides.items() if name not in cases}
    length = {"epochs": 1, "windows_per_epoch": 2, "val_interval": 1, "dataset_dir": str(window_dir)}
    for model, seed in zip(MODELS, (0, 1), strict=True):
        run = BundleRun(bundle=folder, overrides={**values, **length, "model_file": f"{model}.pt", "seed": seed})
        run.run(progress="train#trainer")
    return folder


@pytest.fixture
def audit(bundle, window_dir, overrides, tmp_path):
    """Return a function that audits both models into a folder."""

    def run(name, **settings):
        about = {"bundle": bundle, "dataset_dir": window_dir, "checkpoints": FILES, "overrides": overrides}
        return BundleAudit(**about, output=tmp_path / name, settings={**FEW, **settings}).run()

    return run


def documents(folder):
    """Return the audits in a folder, without their times."""
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/audit.json")}
    return {model: {key: one[key] for key in one if key not in TIMES} for model, one in found.items()}


def files_of(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


def test_audit_killed_at_twenty_moments_is_that_of_an_unbroken_one(audit, kill, tmp_path):
    audit("warm")  # so that the length is that of those that are killed
    start = time.monotonic()
    assert kill(partial(audit, "whole")) == 0
    length, draw = time.monotonic() - start, random.Random(0)
    whole, killed, codes = documents(tmp_path / "whole"), tmp_path / "killed", []
    for number in range(20):
        if number % 2 == 0:  # every second begins anew
            shutil.rmtree(killed, ignore_errors=True)
        document = {"rename": draw.randrange(2), "of": "audit.json"}
        moment = document if number % 10 == 8 else {"seconds": draw.uniform(0, length)}
        codes.append(kill(partial(audit, "killed"), **moment))
        assert documents(killed).items() <= whole.items()
    assert set(codes) <= {0, -9}
    assert codes.count(-9) >= 10
    audit("killed")
    assert documents(killed) == whole
    assert files_of(killed) == files_of(tmp_path / "whole")


def test_audit_killed_and_called_with_other_settings_is_that_of_those(audit, kill, tmp_path):
    """The document of the first model, made with the settings of before, is not taken for one of these."""
    assert kill(partial(audit, "killed"), rename=1, of="audit.json") == -9
    assert documents(tmp_path / "killed").keys() == {"model"}
    for name in ("killed", "whole"):
        audit(name, steps=2)
    assert documents(tmp_path / "killed") == documents(tmp_path / "whole")
    assert all(one["settings"]["steps"] == 2 for one in documents(tmp_path / "whole").values())


def test_evaluation_killed_between_its_files_leaves_no_older_result_beside_its_slices(
    bundle, window_dir, overrides, kill, tmp_path
):
    def evaluate(std):
        values = {**overrides, "attack#std": std, "dataset_dir": str(window_dir), "results_dir": str(tmp_path)}
        run = BundleRun(bundle=bundle, overlays=["evaluate", "attacks/gaussian_noise"], overrides=values)
        run.run(progress="validate#evaluator")

    evaluate(0.1)
    assert kill(partial(evaluate, 0.2), rename=1, of="*.npz") == -9
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["gaussian_noise.npz"]


@pytest.fixture
def benchmark(bundle, window_dir, overrides, tmp_path):
    """Return a function that attacks all cases into a folder."""

    def run(name, **changes):
        about = {"bundle": bundle, "dataset_dir": window_dir, "attacks": ["identity", "gaussian_noise"]}
        return Benchmark(**about, output=tmp_path / name, overrides={**overrides, "num_cases": 3, **changes}).run()

    return run


def results(folder):
    return {path.relative_to(folder): path.read_bytes() for path in (folder / "results").rglob("*.*")}


def test_benchmark_killed_at_twenty_moments_gives_the_bytes_of_an_unbroken_one(benchmark, kill, tmp_path):
    benchmark("warm")
    start = time.monotonic()
    assert kill(partial(benchmark, "whole")) == 0
    length, draw, codes = time.monotonic() - start, random.Random(0), []
    for number in range(20):
        if number % 4 == 0:
            shutil.rmtree(tmp_path / "killed", ignore_errors=True)
        moment = {"rename": draw.randrange(12)} if number % 2 else {"seconds": draw.uniform(0, length / 2)}
        codes.append(kill(partial(benchmark, "killed"), **moment))
    assert set(codes) <= {0, -9}
    assert codes.count(-9) >= 10
    benchmark("killed")
    assert results(tmp_path / "killed") == results(tmp_path / "whole")


@pytest.mark.parametrize("changes", [{"seed": 1}, {"num_cases": 2}, {"overlap": 0.0}], ids=["seed", "cases", "windows"])
def test_benchmark_killed_and_called_with_other_settings_gives_the_bytes_of_those(changes, benchmark, kill, tmp_path):
    assert kill(partial(benchmark, "killed"), rename=15) == -9  # in the second case of the second attack
    assert list((tmp_path / "killed" / "records").glob("*.json"))
    for name in ("killed", "whole"):
        benchmark(name, **changes)
    assert results(tmp_path / "killed") == results(tmp_path / "whole")

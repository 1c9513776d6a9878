"""Tables and demos killed at any moment and called again, with the same and with other settings."""

from __future__ import annotations

import json
import random
import time
from dataclasses import asdict, dataclass
from functools import partial

import pytest

from vafa_monai.paper import Reproduction, ReproductionSettings
from vafa_monai.runs import Demo, DemoSettings

pytestmark = pytest.mark.slow

LASTING = ("seconds",)  # that two runs need not have alike


def without_times(content):
    """Return JSON without how long things took."""
    if isinstance(content, dict):
        return {key: without_times(value) for key, value in content.items() if key not in LASTING}
    return [without_times(value) for value in content] if isinstance(content, list) else content


def documents(folder, pattern):
    """Return JSON documents by their path in a folder, without times and places."""
    paths = [path for path in folder.glob(pattern) if not path.name.startswith(".")]
    texts = {path.relative_to(folder).as_posix(): path.read_text() for path in paths}
    return {name: without_times(json.loads(text.replace(str(folder), "FOLDER"))) for name, text in texts.items()}


def hidden(folder):
    """Return the hidden files in a folder; what somebody began to write is one."""
    return {path.relative_to(folder) for path in folder.rglob(".*") if path.is_file() and path.suffix != ".lock"}


# Tables


@pytest.fixture
def reproduce(paper_bundle, synapse_dir, small):
    """Return a function that reproduces the figure for a moment into a folder."""

    def run(output, **changes):
        overrides = {**small, "device": "cpu", "attack_steps": 1, "overlap": 0.0, **changes.pop("overrides", {})}
        settings = {"bundle": paper_bundle, "dataset_dir": synapse_dir, "quick": True, "overrides": overrides}
        settings = ReproductionSettings(table="figure2", output=output, **settings, **changes)
        return Reproduction(settings, say=lambda _: None).run()

    return run


def kill_often(call, length, kill, draw, longest):
    """Kill a call that continues twenty times, by the clock and at renames of files by turns; return the exit codes."""
    codes = []
    for number in range(20):
        moment = {"rename": draw.randrange(longest)} if number % 2 else {"seconds": draw.uniform(0, length / 4)}
        codes.append(kill(call, **moment))
    return codes


def test_table_killed_at_twenty_moments_is_that_of_an_unbroken_run(reproduce, kill, tmp_path):
    reproduce(tmp_path / "warm")
    start = time.monotonic()
    assert kill(partial(reproduce, tmp_path / "whole")) == 0
    codes = kill_often(
        partial(reproduce, tmp_path / "killed"), time.monotonic() - start, kill, random.Random(0), longest=8
    )
    assert set(codes) <= {0, -9}
    assert codes.count(-9) >= 15
    reproduce(tmp_path / "killed")
    for pattern in ("results/*/*/*.json", "figure2.json"):
        assert documents(tmp_path / "killed", pattern) == documents(tmp_path / "whole", pattern) != {}
    assert hidden(tmp_path / "killed") == hidden(tmp_path / "whole")


@pytest.mark.parametrize("changes", [{"seed": 1}, {"whole_volume": True}], ids=str)
def test_table_killed_and_called_with_other_settings_is_that_of_those(changes, reproduce, kill, tmp_path):
    assert kill(partial(reproduce, tmp_path / "killed"), rename=5, of="*.npz") == -9
    for name in ("killed", "whole"):
        reproduce(tmp_path / name, **changes)
    killed, whole = (documents(tmp_path / name, "figure2.json") for name in ("killed", "whole"))
    assert killed == whole != {}
    used = documents(tmp_path / "whole", "results/*/*/*.json")
    assert used.items() <= documents(tmp_path / "killed", "results/*/*/*.json").items()


# The demo


TINY = {"roi_size": [16, 16, 16], "overlap": 0.0, "device": "cpu"}
TINY |= {f"network_def#{name}": size for name, size in (("feature_size", 4), ("hidden_size", 24))}
TINY |= {"network_def#mlp_dim": 48, "network_def#num_heads": 2}


@dataclass(frozen=True, kw_only=True)
class Tiny(DemoSettings):
    """A demo of one window and one attack step; nothing of it is left out."""

    def training(self):
        one_case = "$monai.data.load_decathlon_datalist(@datalist, True, 'validation')[:1]"
        return {**super().training(), **TINY, "windows_per_epoch": 4, "validate#data": one_case}

    def evaluation(self):
        return {**super().evaluation(), **TINY, "num_cases": 1, "attack_steps": 1}


@pytest.fixture
def demo(monkeypatch):
    """Return a function that runs a demo of few attacks into a folder."""
    pytest.importorskip("nilearn")
    monkeypatch.setattr("vafa_monai.runs.demo.ATTACKS", ("vafa_authors", "vafa_audit"))
    monkeypatch.setattr("vafa_monai.runs.demo.CONTROLS", ("identity", "gaussian_noise"))

    def run(output, **changes):
        return Demo(output, Tiny(quick=True, **changes), say=lambda _: None).run()

    return run


def test_demo_killed_at_twenty_moments_ends_as_an_unbroken_one(demo, kill, tmp_path):
    demo(tmp_path / "warm")
    start = time.monotonic()
    assert kill(partial(demo, tmp_path / "whole")) == 0
    codes = kill_often(partial(demo, tmp_path / "killed"), time.monotonic() - start, kill, random.Random(0), longest=16)
    assert set(codes) <= {0, -9}
    assert codes.count(-9) >= 15
    demo(tmp_path / "killed")
    killed, whole = (documents(tmp_path / name, "**/*.json") for name in ("killed", "whole"))
    assert killed.keys() == whole.keys()
    assert {name for name in whole if killed[name] != whole[name]} == set()
    assert hidden(tmp_path / "killed") == hidden(tmp_path / "whole")


@pytest.mark.parametrize("changes", [{"seed": 1}, {"audit": True}], ids=str)
def test_demo_killed_and_called_with_other_settings_is_refused_and_goes_on_with_its_own(changes, demo, kill, tmp_path):
    assert kill(partial(demo, tmp_path / "killed"), rename=1, of="model.pt") == -9
    before = documents(tmp_path / "killed", "**/*.json")
    with pytest.raises(ValueError, match="output must hold a demo with the settings"):
        demo(tmp_path / "killed", **changes)
    assert documents(tmp_path / "killed", "**/*.json") == before
    assert asdict(Tiny(quick=True)).items() <= before["demo.json"]["settings"].items()

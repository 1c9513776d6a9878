"""What a training is made of; how it goes on is tested with real bundles in ``tests/bundles/test_training.py``."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.handlers.training_record import TrainingRecord, running_config, training_facts

CONFIG = {
    "seed": 0,
    "epochs": 2,
    "device": "cpu",
    "network": {"width": 8, "depth": [1, 2]},
    "train": {"handlers": ["first"]},
}


@pytest.fixture
def cases(tmp_path):
    paths = [tmp_path / name for name in ("a.nii.gz", "b.nii.gz")]
    for path in paths:
        path.write_text(path.name)
    return [{"image": str(path), "fold": 0} for path in paths]


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 9},
        {"device": "$torch.device('cuda:1')"},
        {"dataset_dir": "elsewhere", "output_dir": "x", "ckpt_dir": "y", "model_file": "z.pt"},
        {"num_workers": 8, "cache_rate": 0.0, "resume_interval": 50},
        {
            "train": {
                "handlers": [{"_target_": "StatsHandler"}, "first", {"_target_": "MLFlowHandler", "tag_name": "x"}]
            }
        },
    ],
    ids=lambda change: next(iter(change)),
)
def test_places_devices_length_and_what_only_tells_do_not_count(change, cases):
    assert training_facts({**CONFIG, **change}, cases, cases) == training_facts(CONFIG, cases, cases)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"network": {"width": 8, "depth": [1, 3]}}, "network#depth#1"),
        ({"network": {"width": "8", "depth": [1, 2]}}, "network#width"),
        ({"train": {"handlers": ["first", {"_target_": "EarlyStopHandler"}]}}, "train#handlers#1#_target_"),
        ({"rate": float("nan")}, "rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_all_else_in_the_config_counts_by_its_id(change, name, cases):
    facts = [training_facts({**CONFIG, **extra}, cases, cases) for extra in ({}, change)]
    assert {key for key in {**facts[0], **facts[1]} if facts[0].get(key) != facts[1].get(key)} == {name}


def test_cases_count_by_content_and_order_not_by_place(cases, tmp_path):
    def facts(train):
        return training_facts(CONFIG, train, cases)["training cases"]

    (tmp_path / "moved").mkdir()
    moved = [{**case, "image": str(tmp_path / "moved" / str(index))} for index, case in enumerate(cases)]
    for old, new in zip(cases, moved, strict=True):
        (tmp_path / new["image"]).write_bytes((tmp_path / old["image"]).read_bytes())
    assert facts(moved) == facts(cases) != facts(cases[::-1])
    (tmp_path / moved[0]["image"]).write_text("A")
    assert len({facts(moved), facts(cases), facts([{**case, "fold": 1} for case in cases]), facts(cases[:1])}) == 4


def test_facts_are_json_whatever_is_in_config_and_cases():
    odd = {"array": np.zeros(2), "path": Path("a"), "words": ("a", ("b",)), "none": [], "rate": float("inf"), 3: {4: 5}}
    facts = training_facts(odd, [odd], [odd])
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["words#1#0"] == "b"
    assert facts["3#4"] == 5


def test_weights_to_start_from_count_by_content(tmp_path):
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    for path, value in ((first, 0.0), (second, 1.0)):
        with path.open("wb") as file:
            torch.save({"w": torch.tensor(value)}, file)
    values = [training_facts(CONFIG, [], [], start)["weights to start from"] for start in (None, first, second)]
    assert len(set(values)) == 3


def test_config_is_that_from_which_the_object_is_built():
    parser = ConfigParser({"seed": 3, "found": "$record.running_config()", "imports": ["$import os"]})
    parser.globals["record"] = __import__("vafa_monai.handlers.training_record", fromlist=["record"])
    assert parser.get_parsed_content("found")["seed"] == 3
    assert running_config() == {}


def test_newest_state_has_the_most_epochs_and_only_two_are_kept(tmp_path):
    model = tmp_path / "model.pt"
    record = TrainingRecord(folder=tmp_path, model=model, facts={"seed": 0})
    assert record.find() is None
    for name, epoch in ((9, 1), (1, 10), (2, 9)):  # names that lie
        state = {"epoch": epoch, "run": record.run, "trainer": {}, "best": None}
        torch.save(state, record.state_path(name))
    assert record.find()["epoch"] == 10
    record.keep([record.state_path(1), record.state_path(2)])
    assert {path.name for path in tmp_path.glob("*.pt")} == {"checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt"}


@pytest.fixture
def record(tmp_path):
    """A training that began, and had one epoch."""
    record = TrainingRecord(folder=tmp_path, model=tmp_path / "model.pt", facts={"seed": 0})
    record.begin()
    torch.save({"epoch": 1, "run": record.run, "trainer": {}, "best": None}, record.state_path(1))
    return record


@pytest.mark.parametrize("versions", [None, {"torch": "0.1"}], ids=["same", "other"])
def test_other_versions_go_on_with_a_word(versions, record, caplog):
    found = json.loads(record.path.read_text())
    record.path.write_text(json.dumps({**found, "versions": versions or found["versions"]}))
    with caplog.at_level(logging.WARNING):
        assert record.find()["epoch"] == 1
    assert ("the training began with other versions: {'torch': '0.1'}" in caplog.messages) == bool(versions)


@pytest.mark.parametrize("damage", ["", '{"facts": 3}', '{"facts": {}, "models": "one"}'])
def test_damaged_record_is_set_aside_and_written_again(damage, record, caplog):
    before = record.path.read_text()
    record.path.write_text(damage)
    with caplog.at_level(logging.WARNING):
        assert record.find()["epoch"] == 1
    (message,) = caplog.messages
    assert message.startswith("set aside as ")
    assert record.path.read_text() == before


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"seed": 1}, "seed 1 where it was 0;"),
        ({}, "seed None where it was 0;"),
        ({"seed": 0, "training cases": "abc"}, "other training cases;"),
        ({str(n): n for n in range(3)}, "seed None where it was 0, 0 0 where it was None, 1 1 where .*None, 1 more;"),
    ],
    ids=["value", "left out", "cases", "four"],
)
def test_another_training_is_refused_with_what_differs(facts, what, record):
    other = TrainingRecord(folder=record.folder, model=record.model, facts=facts)
    with pytest.raises(ValueError, match=f"training must be the one that .* belongs to, got another: {what}"):
        other.find()


def test_state_of_another_training_is_refused_without_a_record(record):
    record.path.unlink()
    other = TrainingRecord(folder=record.folder, model=record.model, facts={"seed": 1})
    with pytest.raises(ValueError, match="got another: one that its files do not tell"):
        other.find()
    assert record.find()["epoch"] == 1

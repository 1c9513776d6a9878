"""Documents that someone edited by hand: each is read and shown, or refused in one sentence that says where and why."""

import copy
import json
import random

import pytest

from vafa_monai.results import load_results
from vafa_monai.results.audit import Audit
from vafa_monai.results.document import parse
from vafa_monai.results.record import (
    AttackedVolume,
    BenchmarkFailure,
    BenchmarkRecord,
    DemoState,
    Manifest,
    ModelTraining,
    PaperModel,
    TrainingState,
    WeightsOrigin,
)
from vafa_monai.results.result import Result

HASH = "0" * 64
GOAL = {"objection": None, "reached_before": 0.1, "reached": 0.2, "collateral": 0.1}
MORE_OF_A_CASE = {
    "volume_ml": {"pred": [9, 1, 2], "truth": [9, 1, 2]},
    "attack_details": {"worst_member": "m", "members": {"m": {"dice": [1, 0.5, None]}}, "goal": GOAL},
}
SETTINGS = {"_target_": "x.AttackEnsemble", "eps": 4 / 255, "q_max": 20, "block_size": [8, 8, 8], "name": "VolAA 1"}
ATTACK = {"name": "ensemble", "role": "attack", "settings": SETTINGS, "strength": {"eps": {"HU": 5.0}}}
MORE_OF_A_RESULT = {
    "cost": {"forward": 10, "backward": 5},
    "windows_per_gradient": 3,
    "compiled": True,
    "failed": [{"case": "three", "error": "broken"}],
}
MORE_OF_AN_AUDIT = {
    "settings": {key: SETTINGS[key] for key in ("eps", "q_max", "block_size")} | {"value_range": [0, 1]},
    "inputs": {"one": {"shape": [1, 12, 10, 5], "mean": 0.5, "std": 0.25}},
}
FACTS = {"facts": {"seed": 0}, "versions": {"torch": "2"}}
RECORDS = {
    BenchmarkFailure: {"model": "a", "attack": "pgd", "case": "one", "error": "broken"},
    DemoState: {"settings": {"seed": 0}, "done": {"standard": "0"}},
    PaperModel: {"schema": "vafa_monai.model/1", "finished": True, "settings": {}, "sha256": HASH, "seconds": 1.5},
    TrainingState: {"schema": "vafa_monai.training/1", "models": [None, HASH], **FACTS},
    ModelTraining: {
        "schema": "vafa_monai.model_training/1",
        "model": "model.pt",
        "sha256": HASH,
        "statement": {},
        "selection": {"metric": "val_mean_dice"},
        **FACTS,
    },
    AttackedVolume: {
        "case": "one",
        "attack": {name: value for name, value in ATTACK.items() if name != "role"},
        "seed": 0,
        "checkpoint": {"path": "a.pt", "sha256": HASH},
        "rms_grey": 1.0,
        "linf_grey": 4.0,
        "versions": {"torch": "2"},
    },
    Manifest: {
        "schema": "vafa_monai.manifest/1",
        "name": "a",
        "version": "1",
        "smoke": None,
        "files": {"LICENSE": {"size": 3, "sha256": HASH}},
    },
    WeightsOrigin: {
        "source": {"file": "a.pt", "sha256": HASH},
        "result": {"file": "b.pt", "sha256": HASH},
        "recognized": {"form": "other", "description": "weights that the network takes as they are"},
        "expects": {"input": "not recorded", "classes": ["liver"]},
        "entry": "",
        "entries not taken": ["ema"],
        "dropped": [],
        "added": [],
        "renamed": {"a": "b"},
        "versions": {"torch": "2"},
    },
}
ODD = [None, "x", "", True, -1, 0, 1.5, 1e308, 2**63 - 1, [], {}, [None], ["a"], [[]], {"a": None}, {"a": {"b": [1]}}]
ODD += ["\u202e\x00", [1, 2, 3], [1e308] * 3, float("nan"), float("-inf")]
GONE = object()


@pytest.fixture
def documents(write_result, write_audit):
    """A whole document of every kind."""
    paths = {
        Result: write_result("standard", "ensemble", 0.6, attack=ATTACK, **MORE_OF_A_RESULT),
        Audit: write_audit("standard", "PASS", **MORE_OF_AN_AUDIT),
    }
    found = {shape: json.loads(path.read_text()) for shape, path in paths.items()}
    found[Result]["cases"][0] |= MORE_OF_A_CASE
    statistics = {"name": "statistics", "value": 2, "details": {"mean": 0.5, "low": 0.4, "high": 0.6}}
    found[Audit]["checks"][0] |= statistics
    record = found[Result] | {"cases": found[Result]["cases"][:1], "made_of": HASH}
    return {**found, BenchmarkRecord: record, **RECORDS}


def places(value, place=()):
    """Yield the way to everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


def damaged(document, place, value):
    """Return a copy with another value at one place, or without it."""
    found = copy.deepcopy(document)
    inside = found
    for key in place[:-1]:
        inside = inside[key]
    if value is GONE:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return found


def all_damages(document):
    yield from (copy.deepcopy(value) for value in ODD)
    for place in places(document):
        yield from (damaged(document, place, value) for value in (*ODD, GONE))


def test_damage_is_refused_in_one_sentence_or_does_not_matter(documents):
    wrong, refused = [], 0
    for shape, document in documents.items():
        parse(shape, document, "whole.json")
        for one in all_damages(document):
            try:
                parse(shape, one, "a.json")
            except ValueError as error:
                text, refused = str(error), refused + 1
                sentence = " must " in text and ", got " in text and text.endswith(".") and "\n" not in text
                wrong += [] if sentence and "a.json" in text and type(error) is ValueError else [(shape, text)]
    assert wrong == []
    assert refused > 5000


@pytest.mark.parametrize("shape", [Result, Audit], ids=["result", "audit"])
def test_what_is_not_refused_can_be_shown(shape, documents, write_result, write_report, results_dir, tmp_path):
    write_result("standard", "identity", 0.9, role="control")
    file = results_dir / "standard" / ("ensemble.json" if shape is Result else "audit.json")
    kept = []
    for one in all_damages(documents[shape]):
        try:
            parse(shape, one, "a.json")
        except ValueError:
            continue
        kept.append(one)
    told = []
    for number, one in enumerate(random.Random(0).sample(kept, 40)):
        file.write_text(json.dumps(one))
        try:
            write_report(tmp_path / str(number))
            assert all(isinstance(result.setting_text, str) for result in load_results(results_dir))
        except ValueError as error:  # what one document cannot know: other classes or weights than beside it
            told.append(str(error))
    assert all(" must " in sentence for sentence in told)
    assert len(told) < 30

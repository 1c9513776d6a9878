"""The JSON document of an audit: its schema, its reader, and that a repeat gives the same."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from vafa_monai import results
from vafa_monai.attacks import FrequencyPGD
from vafa_monai.audit import CHECKS, mean_dice, run_audit
from vafa_monai.audit.engine import audit_document
from vafa_monai.losses import MaskedCrossEntropyLoss
from vafa_monai.results.audit import parse_audit
from vafa_monai.results.provenance import case_input

SCHEMA = json.loads((Path(results.__file__).parent / "schemas" / "audit.schema.json").read_text())
CHEAP = [check for check in CHECKS if check.name not in ("controls", "unseen", "transfer", "black_box")]
ABOUT = {"versions": {"torch": "2"}, "command": "vafa-monai audit"}


@pytest.fixture(scope="module")
def documents(plain, build_subject):
    """The same audit twice, of two subjects."""
    return [audit_document(one, run_audit(one, CHEAP), **ABOUT) for one in (plain, build_subject())]


def test_document_fits_its_schema_and_is_read_by_the_report(documents):
    text = json.loads(json.dumps(documents[0], allow_nan=False))
    jsonschema.validate(text, SCHEMA)
    assert text.keys() <= SCHEMA["properties"].keys()
    audit = parse_audit(text, "audit.json")
    assert (audit.model, audit.verdict, audit.sha256) == ("plain", "PASS", "0" * 64)
    assert [check.id for check in audit.checks] == [check.id for check in CHEAP]
    assert [curve.name for curve in audit.curves] == ["budget_voxels", "budget_coefficients", "steps"]


def test_curve_over_the_box_is_that_of_the_attack_with_every_width(documents, plain):
    curve = next(curve for curve in documents[0]["curves"] if curve["name"] == "budget_coefficients")
    settings, loss = plain.settings, MaskedCrossEntropyLoss(balanced=True)
    assert curve["x"] == [0, settings.q_max / 2, settings.q_max, 2 * settings.q_max]
    attacks = [
        FrequencyPGD(q_max=q_max, block_size=settings.block_size, steps=settings.steps, loss_function=loss)
        for q_max in curve["x"][1:]
    ]
    found = [mean_dice(outcomes) for outcomes in (plain.clean, *map(plain.outcomes, attacks))]
    assert curve["dice"] == pytest.approx(found, abs=1e-6)
    assert sorted(found, reverse=True) == found


def test_repeat_gives_the_same_numbers(documents):
    first, second = ({**one, "seconds": None, "cost": None} for one in documents)
    assert first == second  # the cost of the first is shared with what was asked before


def test_everything_that_makes_the_audit_is_said(documents, plain):
    settings = documents[0]["settings"]
    assert settings["steps"] == plain.settings.steps
    assert settings["attack"] == "VolAA 1 (steps 12, queries 40)"
    assert documents[0]["cases"] == [case.name for case in plain.cases]
    assert documents[0]["inputs"] == {case.name: case_input(case.image[0]) for case in plain.cases}


@pytest.mark.parametrize("key", SCHEMA["required"])
def test_document_without_a_part_is_refused(documents, key):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: value for name, value in documents[0].items() if name != key}, SCHEMA)

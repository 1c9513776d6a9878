"""The report that docs/example shows: whole, of today's schema, small, and of no machine."""

import json
import re
from pathlib import Path

import jsonschema
import pytest

from vafa_monai.cli import compare

EXAMPLE = Path(__file__).parents[2] / "docs" / "example"
SCHEMA = Path(__file__).parents[2] / "vafa_monai" / "results" / "schemas" / "report.schema.json"
LARGEST = 15_000_000  # bytes
OURS = re.compile(r"/(?:tmp|home|root|work|Users|mnt)/[a-z]")


@pytest.fixture(scope="module")
def document():
    return json.loads((EXAMPLE / "report.json").read_text(encoding="utf-8"))


def test_document_is_of_the_schema(document):
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(document)


def test_verdict_of_both_models_is_shown(document):
    assert {audit["verdict"] for audit in document["audits"]} <= {"PASS", "WARN", "FAIL"}
    assert len(document["audits"]) == 2
    card = (EXAMPLE / "model_card.md").read_text(encoding="utf-8")
    shown = {one["model"]: one["verdict"]["status"] for one in document["models"]}
    assert all(f"**{model}: {verdict}.**" in card for model, verdict in shown.items())
    assert shown == {"standard": "WARN", "hardened": "WARN"}  # VAFA-2D leaves far less of both than VolAA does


@pytest.mark.parametrize("name", ["report.html", "report.json", "model_card.md"])
def test_file_is_small_and_names_no_folder_of_a_machine(name):
    path = EXAMPLE / name
    assert path.stat().st_size < LARGEST
    assert not OURS.search(path.read_text(encoding="utf-8"))


def test_models_of_the_example_can_be_compared(tmp_path, capsys):
    report = str(EXAMPLE / "report.json")
    compare(report, report, output=str(tmp_path), model_a="standard", model_b="hardened")
    assert "VAFA" in capsys.readouterr().out
    assert (tmp_path / "comparison.html").is_file()

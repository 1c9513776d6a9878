"""The report as JSON: valid against the schema of the repository, and complete enough to be read again."""

import json
from pathlib import Path

import jsonschema
import pytest

from vafa_monai import results
from vafa_monai.reports.evidence import load_report
from vafa_monai.results import load_results


@pytest.fixture
def report(two_models, write_result, write_audit, write_report, tmp_path):
    """A report with audits, costs, details, volumes and undefined values."""
    path = write_result("standard", "ensemble", 0.6, cost={"forward": 10, "backward": 5})
    document = json.loads(path.read_text())
    more = {"volume_ml": {"pred": [9, 1, 2], "truth": [9, 1, 2]}, "attack_details": {"worst_member": "none"}}
    document["cases"][0] |= more
    path.write_text(json.dumps(document))
    write_result("third", "pgd", 0.5, cases=("one",), seed=None)
    write_audit("standard", "WARN", ("PASS", "WARN", "SKIP"))
    return write_report(tmp_path / "report", trained_on="pgd", commands=["make"], settings={"seed": 0})


@pytest.fixture
def schema():
    return json.loads((Path(results.__file__).parent / "schemas" / "report.schema.json").read_text())


def test_report_is_valid(report, schema):
    document = json.loads(report.read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document.keys() == schema["properties"].keys()
    for name, part in (("Row", document["rows"][0]), ("ModelSummary", document["models"][0])):
        assert part.keys() == schema["$defs"][name]["properties"].keys()


@pytest.mark.parametrize(
    "damage",
    [
        lambda report: report.pop("commands"),
        lambda report: report["findings"][0].update(kind="praise"),
        lambda report: report["rows"][0].update(dice="high"),
        lambda report: report["models"][0]["verdict"].update(status="GOOD"),
        lambda report: report["results"][0].pop("seed"),
        lambda report: report["results"][0].pop("checkpoint"),
        lambda report: report["audits"][0]["checks"][0].update(status="MAYBE"),
    ],
    ids=["commands", "finding", "number", "verdict", "seed", "checkpoint", "status"],
)
def test_damaged_report_is_not_valid(report, schema, damage):
    document = json.loads(report.read_text())
    damage(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(schema).validate(document)


def test_report_carries_what_a_repetition_needs(report):
    document = json.loads(report.read_text())
    assert document["commands"] == ["make"]
    assert document["settings"] == {"seed": 0}
    for result in document["results"]:
        assert {"seed", "versions", "checkpoint", "attack", "classes", "device"} <= result.keys()
        assert result["checkpoint"]["sha256"] == f"{result['model']}0123"
        assert result["attack"]["settings"]["_target_"].startswith("vafa_monai.attacks.")


def test_figures_are_computed_again_from_a_report(report, results_dir):
    again = load_report(report.parent)
    assert again == load_report(report)
    strip = [(r.model, r.attack, r.cases, r.summary, r.settings) for r in again.results]
    assert strip == [(r.model, r.attack, r.cases, r.summary, r.settings) for r in load_results(results_dir)]
    assert again.audits["standard"].verdict == "WARN"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "vafa_monai.report/1"}, "schema of .* must be 'vafa_monai.report/2', got 'vafa_monai.report/1'"),
        ({"results": []}, r"results of .* must have at least one value, got \[\]"),
        ({"audits": None}, "audits of .* must be a list, got None"),
        ({"title": 7}, "title of .* must be a text, got 7"),
        ({"rows": [3]}, r"rows\[0\] of .* must be an object, got 3"),
        ({"results": [{}]}, r"results\[0\] of .* must have the value 'schema', got \[\]"),
    ],
)
def test_odd_report_is_refused(report, changes, message):
    report.write_text(json.dumps(json.loads(report.read_text()) | changes))
    with pytest.raises(ValueError, match=message):
        load_report(report)


def test_first_fault_in_a_result_of_a_report_is_found(report):
    document = json.loads(report.read_text())
    document["results"][1]["cases"][0]["nsd"][2] = "all"
    report.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=r"results\[1\]\.cases\[0\]\.nsd\[2\] of .* must be a number, got 'all'"):
        load_report(report)


def test_two_results_of_one_pair_are_refused(report):
    document = json.loads(report.read_text())
    report.write_text(json.dumps(document | {"results": document["results"][:1] * 2}))
    with pytest.raises(ValueError, match=r"results of .* must hold one result for each model and attack"):
        load_report(report)


def test_missing_report_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"report must be a report.json or its folder, got '.*nowhere'"):
        load_report(tmp_path / "nowhere")

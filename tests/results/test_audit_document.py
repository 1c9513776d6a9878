"""Reading audits: what arrives, what is refused; what the verdict says."""

import json

import pytest

from vafa_monai.reports.verdict import judge
from vafa_monai.results import load_results
from vafa_monai.results.audit import load_audits
from vafa_monai.results.result import parse_result

ENSEMBLE = {"_target_": "x.AttackEnsemble", "eps": 4 / 255, "q_max": 20, "block_size": [8, 8, 8], "name": "VolAA 1"}


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def verdict_of(results_dir, model="standard"):
    results = [result for result in load_results(results_dir) if result.model == model]
    return judge(model, results, load_audits(results_dir).get(model))[0]


def test_values_arrive_as_written(write_result, write_audit, results_dir):
    write_result("standard", "pgd", 0.8)
    path = write_audit("standard", "WARN", ("PASS", "WARN", "SKIP"))
    audit = load_audits(results_dir)["standard"]
    assert (audit.verdict, audit.sha256, audit.forward, audit.backward) == ("WARN", "standard0123", 1200, 600)
    assert [check.id for check in audit.of_status("WARN")] == ["S1"]
    assert (audit.checks[0].value, audit.checks[2].value) == (0.25, None)
    assert audit.curves[0].dice == (0.8, 0.6, 0.4, 0.0)
    assert audit.document == json.loads(path.read_text())


def test_checks_are_put_in_order_by_what_matters_most(write_result, write_audit, results_dir):
    write_result("standard", "pgd", 0.8)
    write_audit("standard", "FAIL", ("SKIP", "PASS", "WARN", "FAIL"))
    checks = sorted(load_audits(results_dir)["standard"].checks, key=lambda check: check.severity)
    assert [check.status for check in checks] == ["FAIL", "WARN", "PASS", "SKIP"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "other/1"}, "schema of standard/audit.json must be 'vafa_monai.audit/1', got 'other/1'"),
        ({"verdict": "WARN"}, "verdict of standard/audit.json must be that of its checks, PASS, got 'WARN'"),
        ({"verdict": "GOOD"}, "verdict of standard/audit.json must be 'PASS', 'WARN' or 'FAIL', got 'GOOD'"),
        ({"checks": {}}, "checks of standard/audit.json must be a list, got {}"),
        ({"checks": ["S0"]}, r"checks\[0\] of standard/audit.json must be an object, got 'S0'"),
        ({"checks": [{"id": "S0"}]}, r"checks\[0\] of standard/audit.json must have the value 'name', got \['id'\]"),
        ({"curves": [7]}, r"curves\[0\] of standard/audit.json must be an object, got 7"),
        ({"cost": {"forward": 1}}, "cost of standard/audit.json must have the value 'backward', got .*forward"),
    ],
)
def test_document_against_the_schema_is_refused(write_result, write_audit, results_dir, changes, message):
    write_result("standard", "pgd", 0.8)
    edit(write_audit("standard", "PASS"), **changes)
    with pytest.raises(ValueError, match=message):
        load_audits(results_dir)


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        (
            "checks",
            {"status": "MAYBE"},
            r"checks\[0\].status of .* must be 'PASS', 'WARN', 'FAIL' or 'SKIP', got 'MAYBE'",
        ),
        ("checks", {"value": "much"}, r"checks\[0\].value of .* must be a number, got 'much'"),
        ("curves", {"x": [0]}, r"curves\[0\].x of .* must have a number for each of the 4 DSC, got \(0.0,\)"),
        ("curves", {"x": [0, None, 1, 2]}, r"curves\[0\].x\[1\] of .* must be a number, got None"),
    ],
)
def test_odd_check_or_curve_is_refused(write_result, write_audit, results_dir, part, changes, message):
    write_result("standard", "pgd", 0.8)
    path = write_audit("standard", "PASS")
    document = json.loads(path.read_text())
    edit(path, **{part: [document[part][0] | changes]})
    with pytest.raises(ValueError, match=message):
        load_audits(results_dir)


def test_two_audits_of_one_model_are_refused(write_result, write_audit, results_dir):
    write_result("standard", "pgd", 0.8)
    write_result("hardened", "pgd", 0.8)
    write_audit("standard", "PASS")
    edit(write_audit("hardened", "PASS"), model="standard")
    with pytest.raises(ValueError, match="results_dir must hold one audit for each model, got 'standard'"):
        load_audits(results_dir)


@pytest.mark.parametrize(
    ("status", "statuses", "words"),
    [
        ("PASS", ("PASS", "PASS", "SKIP"), "All 2 checks passed"),
        (
            "WARN",
            ("PASS", "WARN", "SKIP"),
            "Warnings: Check number 1 (S1); the other 1 of 2 checks passed. 1 was skipped.",
        ),
        ("FAIL", ("FAIL", "WARN"), "Failed: Check number 0 (S0). Warnings: Check number 1 (S1)."),
    ],
)
def test_verdict_names_what_was_found(write_result, write_audit, results_dir, status, statuses, words):
    write_result("standard", "pgd", 0.8)
    write_audit("standard", status, statuses)
    verdict = verdict_of(results_dir)
    assert verdict.status == status
    assert words in verdict.text


def test_failed_audit_forbids_the_numbers(write_result, write_audit, results_dir):
    write_result("standard", "pgd", 0.8)
    write_audit("standard", "FAIL", ("FAIL",))
    assert verdict_of(results_dir).text.startswith("Do not use the numbers under attack as evidence of robustness.")


def test_without_an_audit_nothing_is_claimed(write_result, results_dir):
    write_result("standard", "pgd", 0.8)
    verdict = verdict_of(results_dir)
    assert verdict.status == "NOT AUDITED"
    assert verdict.text.startswith("Nothing has checked that the attacks work on this model")


@pytest.mark.parametrize("checkpoint", [{"path": "x", "sha256": "other4567890123"}, None], ids=["other", "none"])
def test_audit_of_other_weights_says_nothing(write_result, write_audit, results_dir, checkpoint):
    write_result("standard", "pgd", 0.8)
    write_audit("standard", "PASS", checkpoint=checkpoint)
    verdict = verdict_of(results_dir)
    assert verdict.status == "NOT AUDITED"
    assert "The audit beside it is of other weights" in verdict.text
    assert "than the numbers (standard0123), so it says nothing about the numbers" in verdict.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cases": ["three"]}, "of other cases (1 of 1 are not those of ensemble)"),
        ({"cases": ["one", "three"]}, "of other cases (1 of 2 are not those of ensemble)"),
        ({"cases": []}, "of other cases"),
        ({"classes": ["background", "white matter", "gray matter"]}, "of other classes"),
        ({"settings": {"eps": 8 / 255}}, "of other settings (eps of ensemble)"),
        ({"settings": {"q_max": 5, "eps": 0.0156863}}, "of other settings (q_max of ensemble)"),
        ({"settings": {"value_range": [-1, 1]}}, "of other settings (value_range of ensemble)"),
        ({"settings": {"block_size": [8, 8, 1]}}, "of other settings (block_size of ensemble)"),
        ({"checks": []}, "it asked no check"),
    ],
)
def test_audit_of_other_data_or_settings_says_nothing(write_result, write_audit, results_dir, changes, words):
    attack = {"name": "ensemble", "role": "attack", "settings": ENSEMBLE}
    write_result("standard", "ensemble", 0.8, attack=attack, intensity={"value_range": [0, 1]})
    edit(write_audit("standard", "PASS"), **changes)
    verdict = verdict_of(results_dir)
    assert verdict.status == "NOT AUDITED"
    assert words in verdict.text


LOOK = {"shape": [1, 8, 9, 10], "mean": 0.4, "std": 0.2}


@pytest.mark.parametrize(
    ("look", "status"),
    [
        (LOOK, "PASS"),
        (LOOK | {"mean": 0.40001}, "PASS"),
        (LOOK | {"mean": 0.41}, "NOT AUDITED"),
        (LOOK | {"std": 0.21}, "NOT AUDITED"),
        (LOOK | {"shape": [1, 9, 8, 10]}, "NOT AUDITED"),
    ],
    ids=["same", "rounding", "shifted", "scaled", "turned"],
)
def test_audit_of_other_images_of_one_name_says_nothing(write_result, write_audit, results_dir, look, status):
    path = write_result("standard", "pgd", 0.8)
    cases = json.loads(path.read_text())["cases"]
    edit(path, cases=[case | {"input": look} for case in cases])
    edit(write_audit("standard", "PASS"), inputs={"one": LOOK})
    verdict = verdict_of(results_dir)
    assert verdict.status == status
    assert ("of other images (one of pgd)" in verdict.text) == (status != "PASS")


def test_audit_of_weights_that_nobody_knows_says_nothing(write_result, write_audit, results_dir):
    write_result("standard", "pgd", 0.8, checkpoint={"path": "x", "sha256": None})
    write_audit("standard", "PASS", checkpoint=None)
    assert verdict_of(results_dir).status == "NOT AUDITED"


@pytest.mark.parametrize("cases", [["two"], ["one", "two"], ["one", "two", "three"]], ids=len)
def test_audit_of_a_part_of_the_cases_or_more_counts(write_result, write_audit, results_dir, cases):
    settings = ENSEMBLE | {"eps": 0.0156863}  # as a document holds 4/255
    write_result("standard", "ensemble", 0.8, attack={"name": "ensemble", "role": "attack", "settings": ENSEMBLE})
    edit(write_audit("standard", "PASS"), cases=cases, settings={**settings, "value_range": [0.0, 1.0]})
    verdict = verdict_of(results_dir)
    assert verdict.status == "PASS"
    assert (f"The audit is of {len(cases)} case" in verdict.text) == (len(cases) != 2)


def test_number_of_the_audit_stands_where_no_result_has_it(write_result, write_audit, results_dir):
    write_result("standard", "pgd", 0.8)
    path = write_audit("standard", "PASS")
    document = json.loads(path.read_text())
    check = document["checks"][0] | {"name": "statistics", "value": 2}
    check["details"] = {"mean": 0.75, "low": 0.7, "high": 0.8}
    edit(path, checks=[check], settings={"eps": 4 / 255, "q_max": 20, "attack": "VolAA 1 (steps 20, queries 200)"})
    text = verdict_of(results_dir).text
    assert text.startswith("VolAA 1 (steps 20, queries 200) leaves a DSC of 0.750 [0.700, 0.800]: voxels within 4/255")


def test_audit_says_nothing_of_results_of_mixed_weights(write_result, write_audit, results_dir):
    paths = [write_result("standard", "pgd", 0.8), write_result("standard", "bim", 0.8, checkpoint={"sha256": "newer"})]
    write_audit("standard", "PASS")
    results = [parse_result(json.loads(path.read_text()), path.name) for path in paths]
    assert judge("standard", results, load_audits(results_dir)["standard"])[0].status == "NOT AUDITED"


STRETCH = {"_target_": "x.VAFA", "q_max": 20, "output_norm": "slice_minmax"}
WIDER = {"_target_": "x.PGD", "eps": 8 / 255}


@pytest.mark.parametrize(
    ("dice", "settings", "role", "status"),
    [
        (0.68, STRETCH, "attack", "WARN"),
        (0.76, STRETCH, "attack", "PASS"),
        (0.68, STRETCH, "control", "PASS"),
        (0.3, WIDER, "attack", "PASS"),
        (0.68, WIDER | {"eps": 4 / 255}, "attack", "WARN"),
    ],
    ids=["stretch", "little", "control", "more budget", "same budget"],
)
def test_passed_audit_is_a_warning_beside_results_that_leave_far_less(
    write_result, write_audit, results_dir, dice, settings, role, status
):
    write_result("standard", "ensemble", 0.8, attack={"name": "ensemble", "role": "attack", "settings": ENSEMBLE})
    write_result("standard", "vafa_2d", dice, attack={"name": "vafa_2d", "role": role, "settings": settings})
    write_audit("standard", "PASS")
    verdict = verdict_of(results_dir)
    assert verdict.status == status
    assert (f"VAFA-2D leaves {dice:.3f} (" in verdict.text) == (status == "WARN")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoint": {"sha256": 7}}, "checkpoint.sha256 of .* must be a text, got 7"),
        ({"cases": [1]}, r"cases\[0\] of standard/audit.json must be a text, got 1"),
        ({"versions": {"scipy": 1.17}}, "versions.scipy of .* must be a text, got 1.17"),
        ({"seconds": -1}, "seconds of standard/audit.json must be at least 0, got -1"),
    ],
)
def test_fact_of_a_wrong_kind_is_refused(changes, message, write_result, write_audit, results_dir):
    write_result("standard", "pgd", 0.8)
    write_audit("standard", "PASS", **changes)
    with pytest.raises(ValueError, match=message):
        load_audits(results_dir)

"""The figures of a study against plain arithmetic on the same cases."""

import json

import pytest

from vafa_monai.reports.statistics import adjusted_p_values, paired_test
from vafa_monai.reports.study import StudyModel, StudyPoint, pareto_front, study_document, write_study
from vafa_monai.results import load_results

CASES = ("one", "two", "three")
DICE = {  # clean and under VolAA, by recipe and seed; the writer adds -0.02, 0 and 0.02 to the three cases
    ("standard", 0): (0.90, 0.10),
    ("standard", 1): (0.86, 0.14),
    ("pgd", 0): (0.87, 0.66),
    ("pgd", 1): (0.85, 0.70),
    ("weak", 0): (0.84, 0.50),
    ("weak", 1): (0.84, 0.50),
}
COST = {"standard": (10, 5.0, 20, 20), "pgd": (4, 6.0, 32, 28), "weak": None}


def model(recipe, seed):
    cost = COST[recipe]
    counted = None if cost is None else dict(zip(("iterations", "seconds", "forward", "backward"), cost, strict=True))
    return StudyModel(recipe=recipe, seed=seed, iterations=10, cost=counted)


MODELS = [model(*key) for key in DICE]


@pytest.fixture
def document(write_result, results_dir):
    for (recipe, seed), (clean, robust) in DICE.items():
        label = model(recipe, seed).label
        write_result(label, "identity", clean, role="control", cases=CASES)
        write_result(label, "ensemble", robust, cases=CASES)
    results = load_results(results_dir)
    points = [
        StudyPoint(model=one, attack="ensemble", strength=8.0, result=result)
        for one in MODELS
        for result in results
        if (result.model, result.attack) == (one.label, "ensemble")
    ]
    about = {"title": "<b>Study", "settings": {"seeds": [0, 1]}, "failures": []}
    runs = [{"kind": "training", "model": "pgd_seed0", "iterations": 10, "sha256": "ab", "command": "train <it>"}]
    return study_document(
        **about, models=MODELS, results=results, points=points, strengths={"ensemble": 4.0}, runs=runs
    )


def row(document, recipe, attack):
    return next(one for one in document["rows"] if (one["recipe"], one["attack"]) == (recipe, attack))


def test_figure_is_the_mean_over_patients_and_seeds(document):
    found = row(document, "pgd", "ensemble")
    assert found["dice"]["mean"] == pytest.approx(0.68)
    assert found["dice"]["n"] == 3
    assert found["seeds"] == {"0": pytest.approx(0.66), "1": pytest.approx(0.70)}
    assert 0.66 - 1e-9 <= found["dice"]["low"] < 0.68 < found["dice"]["high"] <= 0.70 + 1e-9


def test_share_is_that_of_the_standard_drop(document):
    found = row(document, "pgd", "ensemble")
    assert found["drop"] == pytest.approx(0.18)
    assert found["share"] == pytest.approx(0.18 / 0.76)
    assert row(document, "standard", "ensemble")["share"] == pytest.approx(1)
    assert row(document, "pgd", "identity")["drop"] is None


def test_tests_are_paired_over_patients_and_adjusted_over_all_rows(document):
    tests = [one["test"] for one in document["rows"] if one["recipe"] != "standard"]
    expected = paired_test([0.1, 0.12, 0.14], [0.66, 0.68, 0.70]).p_value
    assert row(document, "pgd", "ensemble")["test"]["p_value"] == pytest.approx(expected)
    assert row(document, "pgd", "ensemble")["test"]["mean"] == pytest.approx(0.56)
    assert [one["adjusted"] for one in tests] == pytest.approx(adjusted_p_values([one["p_value"] for one in tests]))
    assert row(document, "standard", "ensemble")["test"]["adjusted"] is None


def test_front_is_marked(document):
    assert {one["recipe"]: one["pareto"] for one in document["recipes"]} == {
        "standard": True,
        "pgd": True,
        "weak": False,
    }


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(0.5, 0.5), (0.5, 0.5)], [True, True]),
        ([(0.5, 0.5), (0.5, 0.6)], [False, True]),
        ([(0.6, 0.5), (0.5, 0.6)], [True, True]),
        ([(0.5, None)], [False]),
    ],
    ids=["equal", "better in one", "either", "unknown"],
)
def test_front_holds_what_nothing_else_beats(points, front):
    assert pareto_front(points) == front


def test_cost_is_that_of_an_iteration_in_units_of_the_standard_one(document):
    costs = {one["recipe"]: one["cost"] for one in document["recipes"]}
    assert costs["pgd"]["seconds"] == pytest.approx(1.5)
    assert costs["pgd"]["relative_seconds"] == pytest.approx(3)
    assert costs["pgd"]["relative_forward"] == pytest.approx(4)
    assert costs["pgd"]["relative_backward"] == pytest.approx(3.5)
    assert costs["standard"]["relative_seconds"] == 1
    assert costs["weak"]["seconds"] is None


def test_curve_begins_without_attack(document):
    curve = next(one for one in document["curves"] if one["recipe"] == "pgd")
    assert curve["x"] == [0, 4, 8]
    assert curve["dice"] == pytest.approx([0.86, 0.68, 0.68])


def test_case_that_one_seed_lacks_is_left_out_and_said(write_result, results_dir):
    cases = {("standard", 0): CASES, ("standard", 1): CASES[:2], ("pgd", 0): CASES, ("pgd", 1): CASES}
    for key, names in cases.items():
        for attack, role in (("identity", "control"), ("ensemble", "attack")):
            write_result(model(*key).label, attack, 0.5, role=role, cases=names)
    failures = [{"model": "standard_seed1", "attack": "ensemble", "case": "three", "error": "no such file"}]
    models = [model(*key) for key in cases]
    about = {"title": "T", "settings": {"seeds": [0, 1]}, "runs": [], "strengths": {}, "points": []}
    found = study_document(**about, models=models, results=load_results(results_dir), failures=failures)
    assert row(found, "standard", "ensemble")["dice"]["n"] == 2
    assert row(found, "pgd", "ensemble")["dice"]["n"] == 3
    assert row(found, "pgd", "ensemble")["test"]["n"] == 2
    page = write_study(found, results_dir / "out")["html"].read_text()
    assert "Failed: standard_seed1, ensemble, three: no such file" in page
    assert "No attack of a curve was asked for." in page


def test_page_shows_the_document_and_escapes_what_is_typed(document, tmp_path):
    files = write_study(document, tmp_path)
    assert json.loads(files["json"].read_text()) == json.loads(json.dumps(document))
    page = files["html"].read_text()
    assert "&lt;b&gt;Study" in page
    assert "train &lt;it&gt;" in page
    assert "0.680 [" in page
    assert "seed 1: 0.700" in page
    assert 'src="http' not in page
    assert page.count("not shown") >= 4  # of three patients nothing is
    assert files["chart"].read_bytes().startswith(b"\x89PNG")


def test_study_without_the_ensemble_of_one_recipe_draws_the_others(document, tmp_path):
    lone = document["recipes"][0]
    lone["robust"] = {"mean": None, "low": None, "high": None, "n": 0}
    lone["robust_seeds"] = {"0": None}
    assert write_study(document, tmp_path)["html"].is_file()

"""Two models case by case: which cases are paired, in which order, and the family of the adjustment."""

import json

import pytest

from vafa_monai.reports.row import paired_rows
from vafa_monai.results import load_results

SIX = tuple(f"case {number}" for number in range(6))


@pytest.fixture
def rows(results_dir):
    def rows():
        results = load_results(results_dir)
        of = {model: {r.attack: r for r in results if r.model == model} for model in ("standard", "hardened")}
        return paired_rows(of["standard"], of["hardened"])

    return rows


def test_differences_are_second_minus_first(two_models, rows):
    found = {row.attack: row for row in rows()}
    assert (found["pgd"].first, found["pgd"].second) == pytest.approx((0.8, 0.745))
    assert found["pgd"].difference == pytest.approx(-0.055)
    assert found["vafa_authors"].difference == pytest.approx(0.135)
    assert found["pgd"].n == 2


def test_clean_run_comes_first_and_controls_last(two_models, rows):
    assert [row.attack for row in rows()] == ["identity", "pgd", "vafa_authors", "identity_stretch"]


def test_all_rows_are_one_family(write_result, rows):
    for model, better in (("standard", 0), ("hardened", 0.1)):
        write_result(model, "pgd", 0.7 + better, cases=SIX)
        write_result(model, "bim", 0.7 - better, cases=SIX)
        write_result(model, "fgsm", 0.7, cases=SIX)
    found = {row.attack: row for row in rows()}
    assert found["pgd"].p_value == found["bim"].p_value == pytest.approx(2 / 2**6)
    assert found["fgsm"].p_value == 1
    assert found["pgd"].adjusted == pytest.approx(3 / 2 * 2 / 2**6)  # two of three rows are as small
    assert [found[name].significant for name in ("pgd", "bim", "fgsm")] == [True, True, False]


def test_only_common_cases_and_attacks_are_paired(write_result, rows):
    write_result("standard", "pgd", 0.8, cases=("one", "two", "three"))
    write_result("hardened", "pgd", 0.8, cases=("three", "one"))
    write_result("hardened", "bim", 0.8)
    (row,) = rows()
    assert (row.attack, row.n) == ("pgd", 2)
    assert row.first == pytest.approx((0.78 + 0.82) / 2)
    assert row.difference == pytest.approx(((0.81 - 0.78) + (0.79 - 0.82)) / 2, abs=1e-9)


def test_no_common_case_has_no_figures(write_result, rows):
    write_result("standard", "pgd", 0.8, cases=("one",))
    write_result("hardened", "pgd", 0.8, cases=("two",))
    (row,) = rows()
    assert (row.n, row.first, row.difference, row.p_value, row.adjusted, row.significant) == (0, *[None] * 4, False)


def test_undefined_dice_is_no_pair(write_result, rows):
    path = write_result("standard", "pgd", 0.8)
    document = json.loads(path.read_text())
    document["cases"][0]["dice"] = [1, None, None]
    path.write_text(json.dumps(document))
    write_result("hardened", "pgd", 0.8)
    assert rows()[0].n == 1

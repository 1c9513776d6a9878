"""Cells of the organ table: means, drops, and how dark they are; members of ensembles."""

import json

import pytest

from vafa_monai.reports.row import ensemble_rows, organ_cell
from vafa_monai.results import load_results
from vafa_monai.results.result_set import Comparison


@pytest.fixture
def cell(results_dir):
    return lambda *place: organ_cell(Comparison(load_results(results_dir)), *place)


def test_cell_has_means_and_drop_of_its_class(two_models, cell):
    found = cell("standard", "vafa_authors", 1)
    assert (found.dice, found.drop, found.hd95) == pytest.approx((0.7, 0.2, 2.0))
    assert found.share == pytest.approx(75 * (0.2 / 0.9) ** 0.5, abs=0.06)


def test_clean_run_and_gain_have_no_color(two_models, write_result, cell):
    write_result("standard", "pgd", 0.95)
    assert (cell("standard", "identity", 1).drop, cell("standard", "identity", 1).share) == (None, 0)
    assert cell("standard", "pgd", 1).drop == pytest.approx(-0.05)
    assert cell("standard", "pgd", 1).share == 0


def test_everything_lost_is_darkest(two_models, write_result, cell):
    write_result("standard", "pgd", 0.0, cases=("one",))
    assert cell("standard", "pgd", 2).share == 75


def test_what_was_not_measured_is_undefined(two_models, write_result, cell):
    write_result("third", "pgd", 0.5)
    assert cell("third", "identity", 1).dice is None
    assert (cell("third", "pgd", 1).dice, cell("third", "pgd", 1).drop) == (pytest.approx(0.5), None)
    assert cell("standard", "pgd", 2).hd95 is None


def test_members_of_an_ensemble_are_counted(write_result, results_dir):
    path = write_result("standard", "ensemble", 0.8)
    document = json.loads(path.read_text())
    tables = [
        ({"a": {"dice": [1, 0.6, 0.4]}, "b": {"dice": [1, 0.2, None]}}, "b"),
        ({"a": {"dice": [1, 0.8, 0.8]}, "b": {"dice": [None, None, None]}}, "a"),
    ]
    for case, (members, worst) in zip(document["cases"], tables, strict=True):
        case["attack_details"] = {"members": members, "worst_member": worst, "worst_dice": [1, 0, 0]}
    path.write_text(json.dumps(document))
    first, second = ensemble_rows(load_results(results_dir))
    assert (first.member, first.dice, first.n, first.worst_of) == ("a", pytest.approx(0.65), 2, 1)
    assert (second.member, second.dice, second.n, second.worst_of) == ("b", pytest.approx(0.2), 1, 1)


def test_results_without_details_have_no_members(two_models, results_dir):
    assert ensemble_rows(load_results(results_dir)) == []

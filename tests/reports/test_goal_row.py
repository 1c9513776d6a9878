"""How near attacks with a target came to it."""

from __future__ import annotations

import json

import pytest

from vafa_monai.reports import build_report
from vafa_monai.reports.row import GoalRow, goal_rows
from vafa_monai.results import load_results
from vafa_monai.results.attack_name import setting_text

REACHED = {"objection": "", "voxels": 9, "reached_before": 0.125, "reached": 0.75, "collateral": 0.0625}
LEFT = {"objection": "class 1 is absent", "voxels": 0, "reached_before": None, "reached": None, "collateral": 0.0}


@pytest.fixture
def with_goals(write_result):
    path = write_result("model", "erase_organ", 0.5)
    document = json.loads(path.read_text())
    for case, goal in zip(document["cases"], (REACHED, LEFT), strict=True):
        case["attack_details"] = {"goal": goal}
    path.write_text(json.dumps(document))
    write_result("model", "identity", 0.9, role="control")


def test_means_are_over_the_cases_that_were_attacked(with_goals, results_dir):
    shares = {name: REACHED[name] for name in ("reached_before", "reached", "collateral")}
    row = GoalRow(attack="erase_organ", model="model", n=1, left_alone={"class 1 is absent": 1}, **shares)
    assert goal_rows(load_results(results_dir)) == [row]


def test_report_shows_them(with_goals, results_dir, tmp_path):
    page = build_report(results_dir, tmp_path, title="Goals")["html"].read_text()
    for text in ("Anatomical targets", "Organ erased", ">12.5<", ">75.0<", ">6.2<", "1: class 1 is absent"):
        assert text in page


def test_other_results_have_no_targets(two_models, results_dir, tmp_path):
    assert goal_rows(load_results(results_dir)) == []
    assert "Anatomical targets" not in build_report(results_dir, tmp_path, title="Goals")["html"].read_text()


def test_setting_names_the_goal():
    goal = {"_target_": "vafa_monai.attacks.EraseOrgan", "organ": 1, "replacement": None}
    settings = {"_target_": "vafa_monai.attacks.GoalAttack", "attack": {"eps": 4 / 255, "steps": 20}, "goal": goal}
    assert setting_text(settings) == "EraseOrgan organ 1, \N{GREEK SMALL LETTER EPSILON} 4/255, 20 steps"

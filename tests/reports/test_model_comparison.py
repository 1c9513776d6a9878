"""Two models by their reports: which are compared, what is said, what is refused."""

import json
import re

import pytest

from vafa_monai.reports.compare import compare_models, write_comparison


@pytest.fixture
def report(two_models, write_audit, write_report, tmp_path):
    write_audit("hardened", "PASS")
    return write_report(tmp_path / "report")


def compare(report, **models):
    return compare_models(report, report.parent, **({"first_model": "standard", "second_model": "hardened"} | models))


def test_lines_stand_in_columns(report):
    lines = compare(report).lines()
    start = next(index for index, line in enumerate(lines) if line.startswith("attack"))
    table = lines[start : start + 5]
    assert [re.split(r"\s{2,}", line)[0] for line in table[1:]] == [
        "Clean",
        "PGD",
        "VAFA (authors)",
        "Slice stretch only",
    ]
    end = table[0].index("cases") + len("cases")
    assert all(line[:end].endswith(" 2") for line in table[1:])
    assert "0.800  0.745  \N{MINUS SIGN}0.055" in table[2]


def test_verdicts_come_first_and_limits_last(report):
    lines = compare(report).lines()
    assert lines[0].startswith(
        "A: standard, weights standard0123, NOT AUDITED, DSC 0.900 [0.890, 0.910] without attack"
    )
    assert lines[1].startswith("B: hardened, weights hardened0123, PASS, ")
    assert "With 2 cases no p can be below 0.500" in lines[-1]


def test_a_model_against_itself_differs_in_nothing(report):
    found = compare(report, second_model="standard")
    assert {(row.difference, row.p_value, row.significant) for row in found.rows} == {(0, 1, False)}
    assert "Both are the same weights." in found.cautions


def test_order_of_models_is_that_of_the_call(report):
    forth, back = compare(report), compare(report, first_model="hardened", second_model="standard")
    assert [row.difference for row in forth.rows] == pytest.approx([-row.difference for row in back.rows])


def test_what_differs_between_the_two_is_said(write_result, write_report, tmp_path):
    write_result("a", "pgd", 0.8)
    write_result("a", "bim", 0.8)
    for model in ("a", "b"):
        write_result(model, "fgsm", 0.8)
    write_result("b", "pgd", 0.8, attack={"name": "pgd", "role": "attack", "settings": {"eps": 1}})
    report = write_report(tmp_path / "report")
    found = compare(report, first_model="a", second_model="b")
    assert [row.attack for row in found.rows] == ["fgsm"]
    assert found.warnings == [
        "Left out, measured for one of the two only: bim.",
        "Left out, measured with other settings: PGD.",
    ]
    assert found.lines()[:2] == found.warnings


def test_files_say_the_same(report, tmp_path):
    files = write_comparison(compare(report), tmp_path / "out")
    page, markdown = files["html"].read_text(), files["markdown"].read_text()
    for text in (page, markdown):
        assert "hardened" in text
        assert "\N{MINUS SIGN}0.055" in text
    assert page.index("Can these numbers be believed?") < page.index("0.745")
    table = [line for line in markdown.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in table}) == 1
    assert len(table) == 2 + 4


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ({"first_model": None}, r"model_a must be one of \['hardened', 'standard'\] of .*report.json, got None"),
        ({"second_model": "best"}, "model_b must be one of .*, got 'best'"),
    ],
)
def test_model_that_is_not_named_is_refused(report, models, message):
    with pytest.raises(ValueError, match=message):
        compare(report, **models)


def test_nothing_in_common_is_refused(write_result, write_report, tmp_path):
    write_result("a", "pgd", 0.8)
    write_result("b", "bim", 0.8)
    write_result("c", "pgd", 0.8, cases=("other",))
    report = write_report(tmp_path / "report")
    with pytest.raises(ValueError, match="reports must have an attack in common"):
        compare(report, first_model="a", second_model="b")
    with pytest.raises(ValueError, match="reports must have a case in common"):
        compare(report, first_model="a", second_model="c")


def test_cases_of_other_files_or_of_one_model_are_left_out_of_every_figure(write_result, write_report, tmp_path):
    write_result("a", "pgd", 0.5, cases=("one", "two", "three"))
    path = write_result("b", "pgd", 0.7, cases=("one", "two", "four"))
    document = json.loads(path.read_text())
    document["cases"][1]["files"]["image"] = "another image"
    path.write_text(json.dumps(document))
    found = compare(write_report(tmp_path / "report"), first_model="a", second_model="b")
    assert found.warnings == ["Left out, cases of one model only or of other files: four, three, two."]
    (row,) = found.rows
    assert (row.n, row.first, row.second) == (1, pytest.approx(0.48), pytest.approx(0.68))
    assert found.first.n_cases == found.second.n_cases == 1
    assert found.first.strongest_dice.mean == pytest.approx(0.48)


@pytest.mark.parametrize(
    "changes",
    [{"versions": {"vafa_monai": "9"}}, {"evaluation": {"amp": True}}, {"intensity": {"value_range": [0, 9]}}],
    ids=["version", "evaluation", "range"],
)
def test_models_measured_unlike_are_not_compared(changes, write_result, write_report, tmp_path):
    write_result("a", "pgd", 0.5)
    write_result("b", "pgd", 0.7, **changes)
    with pytest.raises(ValueError, match="reports must have an attack in common that was measured alike, got"):
        compare(write_report(tmp_path / "report"), first_model="a", second_model="b")

"""Rows and tables: drops, shares, one CSV line for each class of each case."""

import csv
import io

import pytest

from vafa_monai.reports.table import csv_text, drop_share, markdown_text, table_rows
from vafa_monai.results import load_results
from vafa_monai.results.result_set import Comparison


def rows_of(results_dir):
    return {(row.model, row.attack): row for row in table_rows(load_results(results_dir))}


def test_drop_and_share_are_against_clean_and_standard(two_models, results_dir):
    rows = rows_of(results_dir)
    assert rows["standard", "vafa_authors"].drop == pytest.approx(0.2)
    assert rows["hardened", "vafa_authors"].drop == pytest.approx(0.06)
    assert rows["hardened", "vafa_authors"].share == pytest.approx(0.3)
    assert rows["hardened", "pgd"].share == pytest.approx(1.5)
    assert rows["standard", "pgd"].share is None
    assert rows["hardened", "identity"].share is None


def test_standard_comes_first_and_unknown_attacks_last(two_models, write_result, results_dir):
    write_result("standard", "zeta", 0.5)
    write_result("standard", "alpha", 0.5)
    comparison = Comparison(load_results(results_dir))
    assert comparison.models == ["standard", "hardened"]
    assert comparison.attacks() == ["identity", "identity_stretch", "pgd", "vafa_authors", "alpha", "zeta"]
    assert comparison.attacks("control") == ["identity_stretch"]


def test_without_a_standard_model_the_first_is_the_reference(write_result, results_dir):
    for model in ("c", "a", "b"):
        write_result(model, "identity", 0.9, role="control")
        write_result(model, "pgd", {"a": 0.8, "b": 0.85, "c": 0.7}[model])
    shares = {model: row.share for (model, attack), row in rows_of(results_dir).items() if attack == "pgd"}
    assert shares == {"a": None, "b": pytest.approx(0.5), "c": pytest.approx(2.0)}


def test_without_a_clean_run_there_is_no_drop(write_result, results_dir):
    write_result("standard", "pgd", 0.8)
    row = rows_of(results_dir)["standard", "pgd"]
    assert (row.dice, row.dice_clean, row.drop) == (0.8, None, None)


def test_share_of_less_than_half_a_point_is_undefined():
    assert drop_share(0.1, 0.004) is None
    assert drop_share(None, 0.1) is None
    assert drop_share(0.1, 0.2) == 0.5


def test_no_results_are_refused():
    with pytest.raises(ValueError, match=r"results must have at least one entry, got \[\]"):
        table_rows([])


def test_csv_has_one_line_for_each_class_of_each_case(two_models, results_dir):
    lines = list(csv.DictReader(io.StringIO(csv_text(load_results(results_dir)))))
    assert len(lines) == 2 * 4 * 2 * 3
    line = next(
        line
        for line in lines
        if (line["model"], line["attack"], line["case"], line["class"]) == ("hardened", "pgd", "two", "white matter")
    )
    assert float(line["dice"]) == pytest.approx(0.755)
    assert float(line["dice_clean"]) == pytest.approx(0.905)
    assert float(line["dice_drop"]) == pytest.approx(0.15)
    assert (line["hd95_mm"], line["nsd"], line["case_lpips"]) == ("", "", "")
    assert (line["class_index"], line["checkpoint_sha256"]) == ("2", "hardened0123")


def test_csv_without_a_clean_run_leaves_drops_empty(write_result, results_dir):
    write_result("standard", "pgd", 0.8)
    lines = list(csv.DictReader(io.StringIO(csv_text(load_results(results_dir)))))
    assert {line["dice_drop"] for line in lines} == {""}


def test_markdown_has_the_same_cells_in_every_line(two_models, write_result, results_dir):
    write_result("odd | name", "pgd", 0.8)
    lines = markdown_text(table_rows(load_results(results_dir))).splitlines()
    assert (
        "| VAFA (authors) | attack | hardened | 0.835 [0.825, 0.845] | 0.060 | 30 % | 0.825 | 2.0 | 0.900 | 3.6 | 0 |"
        in lines
    )
    assert {line.replace("\\|", "").count("|") for line in lines} == {12}


# Cases and texts that would make a table lie


def test_drop_is_of_the_same_cases_or_none(write_result, results_dir):
    """The clean DSC of case one is 0.89, of all three 0.9 plus 0.02 each."""
    write_result("standard", "identity", 0.9, role="control", cases=("one", "two", "three"))
    write_result("standard", "pgd", 0.5, cases=("one",))
    write_result("standard", "bim", 0.5, cases=("one", "four"))
    rows = {row.attack: row for row in table_rows(load_results(results_dir))}
    assert rows["pgd"].dice_clean == pytest.approx(0.88)
    assert rows["pgd"].drop == pytest.approx(0.38)
    assert rows["bim"].drop is None


@pytest.mark.parametrize(
    "changes",
    [
        {"cases": ("one",)},
        {"evaluation": {"inferer": {}}},
        {"versions": {"vafa_monai": "9"}},
        {"attack": {"name": "pgd", "role": "attack", "settings": {"eps": 0.5}}},
    ],
    ids=["cases", "evaluation", "version", "settings"],
)
def test_share_of_another_measurement_is_not_given(changes, write_result, results_dir):
    for model in ("standard", "hardened"):
        mine = changes if model == "hardened" else {}
        for attack, dice in (("identity", 0.9), ("pgd", 0.5)):
            own = {name: value for name, value in mine.items() if name != "attack" or attack == "pgd"}
            write_result(model, attack, dice, role="control" if attack == "identity" else "attack", **own)
    rows = {(row.model, row.attack): row for row in table_rows(load_results(results_dir))}
    assert rows["hardened", "pgd"].share is None
    assert rows["hardened", "pgd"].drop == pytest.approx(0.4)


@pytest.mark.parametrize("name", ['=HYPERLINK("http://x")', "+1", "-1", "@a", "\tx"])
def test_name_is_no_formula_in_csv(name, write_result, results_dir):
    write_result("standard", "pgd", 0.8, cases=(name, "two"))
    rows = list(csv.reader(io.StringIO(csv_text(load_results(results_dir)))))
    cells = [row[3] for row in rows[1:]]
    assert all(not cell.startswith(("=", "+", "-", "@", "\t")) for cell in cells)
    assert "case two" not in cells


def test_negative_number_stays_a_number_in_csv(write_result, results_dir):
    write_result("standard", "identity", 0.5, role="control")
    write_result("standard", "pgd", 0.75)
    rows = list(csv.DictReader(io.StringIO(csv_text(load_results(results_dir)))))
    drops = [float(row["dice_drop"]) for row in rows if row["attack"] == "pgd" and row["class_index"] == "1"]
    assert drops == pytest.approx([-0.25, -0.25])


@pytest.mark.parametrize("name", ["<script>x</script>", "\x1b[2Jgone", "a|b", "two\nlines", "[a](http://x)"])
def test_name_is_text_in_markdown(name, write_result, results_dir):
    role = {"role": "attack", "settings": {}}
    write_result("standard", "file", 0.8, model=name, attack={"name": name, **role})
    text = markdown_text(table_rows(load_results(results_dir)))
    assert len(text.splitlines()) == 3
    assert not {"<script", "\x1b", "](http"} & {part for part in ("<script", "\x1b", "](http") if part in text}
    assert len({line.replace("\\|", "").count("|") for line in text.splitlines()}) == 1

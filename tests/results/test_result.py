"""Reading results: what is accepted, what is refused."""

import json
import math

import pytest

from vafa_monai.results import load_results
from vafa_monai.results.case import mean_known


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_values_arrive_as_written(write_result, results_dir):
    path = write_result("standard", "pgd", 0.8)
    (result,) = load_results(results_dir)
    assert (result.model, result.attack, result.role) == ("standard", "pgd", "attack")
    assert result.summary["dice"] == 0.8
    assert result.cases[0].hd95_mm == (1.0, 2.0, None)
    assert result.cases[0].foreground_dice == pytest.approx(0.79)
    assert result.document == json.loads(path.read_text())


@pytest.mark.parametrize("version", [1, 2])
def test_audits_and_reports_among_results_are_passed_over(write_result, write_audit, results_dir, version):
    write_result("standard", "pgd", 0.8)
    write_audit("standard", "PASS")
    (results_dir / "report").mkdir()
    (results_dir / "report" / "report.json").write_text(json.dumps({"schema": f"vafa_monai.report/{version}"}))
    assert [result.attack for result in load_results(results_dir)] == ["pgd"]


def test_old_result_has_neither_cost_nor_details(write_result, results_dir):
    write_result("standard", "pgd", 0.8)
    (result,) = load_results(results_dir)
    assert (result.forward, result.backward) == (None, None)
    assert (result.cases[0].attack_details, result.cases[0].volume_ml) == ({}, ())


def test_cost_and_details_arrive_as_written(write_result, results_dir):
    path = write_result("standard", "pgd", 0.8, cost={"forward": 30, "backward": 10})
    case = json.loads(path.read_text())["cases"][0]
    more = {"attack_details": {"worst_member": "a"}, "volume_ml": {"pred": [5, 1, 2], "truth": [4, 1, 3]}}
    edit(path, cases=[case | more])
    (result,) = load_results(results_dir)
    assert (result.forward, result.backward) == (30, 10)
    assert result.cases[0].attack_details == {"worst_member": "a"}
    assert result.cases[0].volume_ml == ((5, 4), (1, 1), (2, 3))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"attack_details": [1]}, r"cases\[0\].attack_details of .* must be an object, got \[1\]"),
        ({"volume_ml": {"pred": [1, 2, 3]}}, r"cases\[0\].volume_ml of .* must have the value 'truth', got \['pred'\]"),
        ({"volume_ml": {"pred": [1], "truth": [1]}}, r"cases\[0\].volume_ml.pred .* must have 3 values, got \[1.0\]"),
    ],
    ids=["details", "one volume", "too few"],
)
def test_odd_details_of_a_case_are_refused(write_result, results_dir, more, message):
    path = write_result("standard", "pgd", 0.8)
    edit(path, cases=[json.loads(path.read_text())["cases"][0] | more])
    with pytest.raises(ValueError, match=message):
        load_results(results_dir)


@pytest.mark.parametrize("cost", [{"forward": "many"}, [3]], ids=["text", "list"])
def test_odd_cost_is_refused(write_result, results_dir, cost):
    write_result("standard", "pgd", 0.8, cost=cost)
    with pytest.raises(ValueError, match=r"cost of standard/pgd.json must be|cost.forward of standard/pgd.json must"):
        load_results(results_dir)


def test_mean_of_nothing_is_undefined():
    assert mean_known([None, None]) is None


def test_missing_folder_is_refused(results_dir):
    with pytest.raises(ValueError, match=r"results_dir must be an existing folder, got '.*results'"):
        load_results(results_dir)


def test_empty_folder_is_refused(results_dir):
    results_dir.mkdir()
    with pytest.raises(ValueError, match=r"results_dir must hold results named <model>/<attack>.json, got"):
        load_results(results_dir)


@pytest.mark.parametrize("text", ["{", '{"seed": NaN}', "\xff"], ids=["broken", "nan", "latin-1"])
def test_unreadable_json_is_refused(write_result, results_dir, text):
    write_result("standard", "pgd", 0.8).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"standard/pgd.json must be readable as JSON, got"):
        load_results(results_dir)


def test_list_is_refused(write_result, results_dir):
    write_result("standard", "pgd", 0.8).write_text("[]")
    with pytest.raises(ValueError, match=r"standard/pgd.json must be an object in JSON, got list in"):
        load_results(results_dir)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": "other/1"}, "schema of standard/pgd.json must be 'vafa_monai.result/1', got 'other/1'"),
        ({"model": 3}, "model of standard/pgd.json must be a text, got 3"),
        (
            {"attack": {"name": "pgd", "role": "friend"}},
            "attack.role of .* must be 'attack' or 'control', got 'friend'",
        ),
        ({"attack": {"role": "attack"}}, r"attack of .* must have the value 'name', got \['role'\]"),
        ({"classes": ["background"]}, r"classes of .* must have at least 2 values, got \['background'\]"),
        ({"classes": ["a", "b", "b"]}, "classes of .* must have a name of its own each, got 'b'"),
        ({"cases": []}, r"cases of .* must have at least one value, got \[\]"),
        ({"cases": [{"case": "x"}, {"case": "x"}]}, r"cases\[0\] of .* must have the value 'dice', got \['case'\]"),
        ({"summary": {}}, r"summary of standard/pgd.json must have the value 'dice_with_background', got \[\]"),
    ],
)
def test_document_against_the_schema_is_refused(write_result, results_dir, changes, message):
    edit(write_result("standard", "pgd", 0.8), **changes)
    with pytest.raises(ValueError, match=message):
        load_results(results_dir)


@pytest.mark.parametrize("value", ["high", True], ids=["text", "bool"])
def test_value_that_is_no_number_is_refused(write_result, results_dir, value):
    path = write_result("standard", "pgd", 0.8)
    edit(path, summary=json.loads(path.read_text())["summary"] | {"dice": value})
    with pytest.raises(ValueError, match=f"summary.dice of .* must be a number, got {value!r}"):
        load_results(results_dir)


def test_number_too_large_for_a_float_is_refused(write_result, results_dir):
    path = write_result("standard", "pgd", 0.8)
    path.write_text(path.read_text().replace('"nsd": 0.9', '"nsd": 1e999'))
    with pytest.raises(ValueError, match=r"\(the number 1e999 is too large\)"):
        load_results(results_dir)


def test_two_results_of_one_pair_are_refused(write_result, results_dir):
    write_result("standard", "pgd", 0.8)
    edit(write_result("standard", "bim", 0.8), attack={"name": "pgd", "role": "attack"})
    with pytest.raises(ValueError, match=r"must hold one result for each model and attack, got .*standard.*pgd"):
        load_results(results_dir)


def test_other_classes_are_refused(write_result, results_dir):
    write_result("standard", "pgd", 0.8)
    edit(write_result("standard", "bim", 0.8), classes=["background", "liver", "spleen"])
    with pytest.raises(ValueError, match=r"classes must be .* everywhere, got"):
        load_results(results_dir)


def test_slices_outside_the_folder_are_refused(write_result, results_dir, tmp_path):
    (tmp_path / "secret.npz").write_bytes(b"")
    edit(write_result("standard", "pgd", 0.8), slices="../../secret.npz")
    with pytest.raises(ValueError, match=r"slices of standard/pgd.json must lie inside results_dir, got '../../secret"):
        load_results(results_dir)


def test_slices_that_are_not_there_are_refused(write_result, results_dir):
    edit(write_result("standard", "pgd", 0.8), slices="nowhere.npz")
    with pytest.raises(ValueError, match=r"slices of .* must be an existing file, got 'nowhere.npz'"):
        load_results(results_dir)


def test_link_out_of_the_folder_is_refused(write_result, results_dir, tmp_path):
    path = write_result("standard", "pgd", 0.8)
    path.rename(tmp_path / "moved.json")
    path.symlink_to(tmp_path / "moved.json")
    with pytest.raises(ValueError, match=r"standard/pgd.json must lie inside the folder it is read from, got"):
        load_results(results_dir)


# One name stands for one set of weights, data, evaluation and versions


def other_case(**changes):
    """A change of one case of a document."""

    def change(document):
        first, *rest = document["cases"]
        return {"cases": [first | changes, *rest]}

    return change


UNLIKE = {
    "weights": (lambda _: {"checkpoint": {"sha256": "newer"}}, r"weights \(newer and standard0123\)"),
    "weights of no name": (lambda _: {"checkpoint": {}}, r"weights \(None and standard0123\)"),
    "image": (other_case(files={"image": "new", "label": "label of one"}), r"data \(files or preparation of one\)"),
    "label": (other_case(files={"image": "image of one", "label": "new"}), r"data \(files or preparation of one\)"),
    "spacing": (other_case(input={"shape": [1, 6, 5, 5], "mean": 0.5, "std": 0.25}), r"data \(files or preparation"),
    "window of HU": (other_case(input={"shape": [1, 12, 10, 5], "mean": 0.4, "std": 0.25}), r"data \(files or"),
    "range": (lambda _: {"intensity": {"value_range": [-1.0, 1.0]}}, r"intensity \(.*value_range\)"),
    "overlap": (lambda _: {"evaluation": {"inferer": {}, "nsd_tolerance_mm": 1.0}}, r"evaluation \(inferer\)"),
    "tolerance": (lambda one: {"evaluation": one["evaluation"] | {"nsd_tolerance_mm": 2}}, r"evaluation \(nsd_tol"),
    "version": (lambda _: {"versions": {"vafa_monai": "0.2.0"}}, r"versions \(vafa_monai 0.2.0 and 0.1.0\)"),
}


@pytest.mark.parametrize("kind", UNLIKE)
def test_one_name_for_different_things_is_refused(kind, write_result, results_dir):
    change, message = UNLIKE[kind]
    write_result("standard", "identity", 0.9, role="control")
    path = write_result("standard", "pgd", 0.5)
    edit(path, **change(json.loads(path.read_text())))
    with pytest.raises(ValueError, match=rf"results of standard must be of the same .*got other {message}.* for pgd"):
        load_results(results_dir)


def test_same_data_on_another_machine_is_the_same_data(write_result, results_dir):
    write_result("standard", "identity", 0.9, role="control")
    path = write_result("standard", "pgd", 0.5)
    moved = other_case(input={"shape": [1, 12, 10, 5], "mean": 0.500001, "std": 0.25})
    edit(path, **moved(json.loads(path.read_text())))
    assert len(load_results(results_dir)) == 2


# What no measurement can give


def change_at(document, place, value):
    """Put a value into a document, by keys and positions."""
    *way, last = place
    for key in way:
        document = document[key]
    document[last] = value


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("cases", 0, "dice", 1), 1.7, r"cases\[0\].dice\[1\] of .* must be at most 1, got 1.7"),
        (("cases", 0, "nsd", 1), -0.1, "must be at least 0, got -0.1"),
        (("cases", 0, "hd95_mm", 1), -2.0, "must be at least 0, got -2.0"),
        (("cases", 0, "ssim"), 1.2, r"cases\[0\].ssim of .* must be at most 1, got 1.2"),
        (("cases", 0, "rms_grey"), -3.6, r"cases\[0\].rms_grey of .* must be at least 0"),
        (("cases", 0, "lost"), None, r"cases\[0\].lost of .* must be a whole number, got None"),
        (("cases", 0, "invented"), 0.5, r"cases\[0\].invented of .* must be a whole number, got 0.5"),
        (("cases", 0, "dice"), [1.0], r"cases\[0\].dice of .* must have 3 values, got \[1.0\]"),
        (("cases", 1, "case"), "one", "cases of .* must have a name of its own each, got 'one'"),
        (("cases", 0, "psnr_db"), math.inf, r"must be readable as JSON, got .*Infinity is no JSON number"),
        (("cases", 0, "input"), {"shape": [0], "mean": 0, "std": 1}, r"input.shape\[0\] of .* must be more than 0"),
        (("attack", "settings"), {"attack": {"eps": None}}, "attack.settings.attack.eps of .* must be a number"),
        (("attack", "strength"), {"eps": {"HU": "5"}}, "attack.strength.eps.HU of .* must be a number, got '5'"),
        (("intensity", "value_range"), 1, "intensity.value_range of .* must be a list, got 1"),
        (("evaluation",), [1], r"evaluation of .* must be an object, got \[1\]"),
        (("summary", "dice"), 70.0, "summary.dice of .* must be at most 1, got 70.0"),
        (("attack", "settings", "eps"), "0.1", "attack.settings.eps of .* must be a number, got '0.1'"),
        (("versions", "torch"), 2, "versions.torch of .* must be a text, got 2"),
        (("checkpoint", "sha256"), 7, "checkpoint.sha256 of .* must be a text, got 7"),
        (("failed",), [{"case": "one", "error": "?"}], "failed of .* must name no case that has figures, got 'one'"),
    ],
)
def test_figure_or_fact_that_cannot_be_is_refused(place, value, message, write_result, results_dir):
    path = write_result("standard", "pgd", 0.8)
    document = json.loads(path.read_text())
    change_at(document, place, value)
    path.write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        load_results(results_dir)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"seed": ' + "9" * 400 + "}", '{"seed": 1, "seed": 2}'], ids=["deep", "digits", "twice"]
)
def test_json_that_breaks_programs_is_refused_in_a_sentence(text, write_result, results_dir):
    write_result("standard", "pgd", 0.8).write_text(text)
    with pytest.raises(ValueError, match=r"standard/pgd.json must be readable as JSON, got '"):
        load_results(results_dir)


@pytest.mark.parametrize("text", ["{", None], ids=["part", "whole"])
def test_what_a_killed_process_left_unfinished_is_no_result(text, write_result, results_dir):
    path = write_result("standard", "pgd", 0.8)
    (path.parent / ".1a2b.77.0123456789abcdef.pgd.json").write_text(path.read_text() if text is None else text)
    assert len(load_results(results_dir)) == 1


def test_setting_of_an_attack_that_only_its_author_knows_is_kept(write_result, results_dir):
    settings = {"_target_": "theirs.Attack", "attack": "their own", "table": [1, None]}
    write_result("standard", "theirs", 0.8, attack={"name": "theirs", "role": "attack", "settings": settings})
    (result,) = load_results(results_dir)
    assert result.settings == settings


@pytest.mark.parametrize("slices", ["a\0b", "a" * 5000], ids=["byte 0", "long"])
def test_slices_of_no_possible_name_are_refused(slices, write_result, results_dir):
    edit(write_result("standard", "pgd", 0.8), slices=slices)
    with pytest.raises(ValueError, match=r"slices of standard/pgd.json must be an existing file, got 'a"):
        load_results(results_dir)

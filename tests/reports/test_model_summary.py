"""The few figures of a model: which attack is the worst of every case, what it does to the organs, what all cost."""

import json

import pytest

from vafa_monai.reports.verdict import model_summary
from vafa_monai.results import load_results
from vafa_monai.results.result_set import Comparison


@pytest.fixture
def summary(results_dir):
    return lambda model="standard": model_summary(Comparison(load_results(results_dir)), model, None)


def set_cases(path, **dice_by_case):
    """Give each case its own DSC a class."""
    document = json.loads(path.read_text())
    for case in document["cases"]:
        case["dice"] = dice_by_case[case["case"]]
    path.write_text(json.dumps(document))


def test_worst_attack_is_found_case_by_case(write_result, summary):
    write_result("standard", "identity", 0.9, role="control")
    set_cases(write_result("standard", "pgd", 0.8), one=[1, 0.5, 0.5], two=[1, 0.76, 0.76])
    set_cases(write_result("standard", "bim", 0.8), one=[1, 0.6, 0.6], two=[1, 0.7, 0.7])
    found = summary()
    assert [(one.case, one.attack, one.dice) for one in found.worst_cases] == [
        ("one", "pgd", 0.5),
        ("two", "bim", pytest.approx(0.7)),
    ]
    assert [one.dice_clean for one in found.worst_cases] == pytest.approx([0.89, 0.91])
    assert (found.strongest, found.strongest_dice.mean) == ("pgd", pytest.approx(0.63))


def test_controls_are_no_attacks(write_result, summary):
    write_result("standard", "identity", 0.9, role="control")
    write_result("standard", "gaussian_noise", 0.2, role="control")
    write_result("standard", "pgd", 0.8)
    assert [one.attack for one in summary().worst_cases] == ["pgd", "pgd"]
    assert summary().n_attacks == 1


def test_weakest_organ_is_that_of_the_largest_drop(write_result, summary):
    write_result("standard", "identity", 0.9, role="control")
    set_cases(write_result("standard", "pgd", 0.8), one=[0.1, 0.8, 0.7], two=[0.1, 0.8, 0.5])
    organ = summary().weakest_organ
    assert (organ.organ, organ.attack) == ("white matter", "pgd")
    assert (organ.dice_clean, organ.dice) == pytest.approx((0.9, 0.6))


def test_lost_rate_is_the_largest_of_the_attacks(write_result, summary):
    path = write_result("standard", "pgd", 0.8)
    document = json.loads(path.read_text())
    document["cases"][0] |= {"lost": 1, "dice": [1, 0.0, None]}  # 2 cases with 1 and 2 organs
    path.write_text(json.dumps(document))
    write_result("standard", "bim", 0.8)
    assert summary().lost_rate == pytest.approx(1 / 3)


def test_cost_is_the_sum_and_unknown_if_a_part_is(write_result, summary):
    write_result("standard", "pgd", 0.8, cost={"forward": 10, "backward": 4})
    write_result("standard", "bim", 0.8, cost={"forward": 1, "backward": 2})
    assert (summary().forward, summary().backward) == (11, 6)
    write_result("standard", "fgsm", 0.8)
    assert (summary().forward, summary().backward) == (None, None)


def test_clean_run_alone_has_no_worst_case(write_result, summary):
    write_result("standard", "identity", 0.9, role="control")
    found = summary()
    assert (found.n_attacks, found.headline.attack, found.threats) == (0, None, ())
    assert (found.strongest, found.weakest_organ) == (None, None)
    assert found.clean.mean == pytest.approx(0.9)


def test_attack_without_a_clean_run_has_no_drop(write_result, summary):
    write_result("standard", "pgd", 0.8)
    found = summary()
    assert (found.clean.mean, found.weakest_organ, found.worst_cases[0].dice_clean) == (None, None, None)


def test_undefined_dice_is_no_worst_case(write_result, summary):
    set_cases(write_result("standard", "pgd", 0.8), one=[1, None, None], two=[1, 0.7, None])
    assert [one.case for one in summary().worst_cases] == ["two"]


LINF, STRETCH = (
    {"_target_": "x.PGD", "eps": 4 / 255},
    {"_target_": "x.VAFA", "q_max": 20, "output_norm": "slice_minmax"},
)
ENSEMBLE = {"_target_": "x.AttackEnsemble", "eps": 4 / 255, "q_max": 20, "block_size": [8, 8, 8], "name": "VolAA 1"}


def attack_of(name, settings, role="attack"):
    return {"attack": {"name": name, "role": role, "settings": settings}}


def test_attacks_of_one_threat_model_are_joined_case_by_case_and_no_others(write_result, summary):
    set_cases(write_result("standard", "pgd", 0.8, **attack_of("pgd", LINF)), one=[1, 0.5, 0.5], two=[1, 0.8, 0.8])
    bim = LINF | {"_target_": "x.BIM"}
    set_cases(write_result("standard", "bim", 0.8, **attack_of("bim", bim)), one=[1, 0.7, 0.7], two=[1, 0.6, 0.6])
    write_result("standard", "wider", 0.4, **attack_of("wider", LINF | {"eps": 8 / 255}))
    write_result("standard", "vafa_2d", 0.2, **attack_of("vafa_2d", STRETCH))
    found = {row.threat: row for row in summary().threats}
    assert list(found) == [
        "voxels within 4/255 (L-inf)",
        "quantization up to q 20, then slice stretch",
        "voxels within 8/255 (L-inf)",
    ]
    joined = found["voxels within 4/255 (L-inf)"]
    assert (joined.attacks, joined.strongest) == (("bim", "pgd"), "bim")
    assert joined.dice.mean == pytest.approx(0.55)  # lower than under either


def test_headline_is_the_ensemble_whatever_else_does_more_harm(write_result, summary):
    write_result("standard", "vafa_2d", 0.2, **attack_of("vafa_2d", STRETCH))
    assert summary().headline.attack is None
    assert "was not run, so there is no number" in summary().verdict.text
    write_result("standard", "ensemble", 0.7, **attack_of("ensemble", ENSEMBLE))
    found = summary()
    assert (found.headline.attack, found.headline.dice.mean) == ("VolAA 1", pytest.approx(0.7))
    assert "VolAA 1 leaves a DSC of 0.700 [0.690, 0.710]: voxels within 4/255 (L-inf), or" in found.verdict.text
    assert [row.strongest for row in found.threats] == ["vafa_2d"]

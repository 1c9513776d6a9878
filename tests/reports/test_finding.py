"""Findings: the sentences follow the numbers, whichever way they fall."""

import pytest

from vafa_monai.reports.statement import adversarial_share, findings
from vafa_monai.results import load_results


@pytest.fixture
def find(results_dir):
    """Return the findings of a kind."""

    def find(kind, trained_on="vafa_authors"):
        return [one for one in findings(load_results(results_dir), trained_on=trained_on) if one.kind == kind]

    return find


def test_target_is_met_with_both_figures(two_models, find):
    (target,) = find("target")
    assert target.met is True
    assert target.figures["share"] == pytest.approx(0.3)
    assert target.text.startswith(
        "Target met: VAFA (authors), on which the hardened model was trained, costs it 6.0 points"
    )
    assert "the standard model 20.0 points; the ratio is 30.0 %" in target.text
    assert "0.8950 against 0.9000, at least 0.8900 is needed" in target.text


@pytest.mark.parametrize(
    ("clean", "attacked", "met"),
    [(0.9, 0.8, True), (0.89, 0.79, True), (0.9, 0.799, False), (0.889, 0.85, False), (0.9, 0.91, True)],
    ids=["half", "half at lowest clean", "more than half", "clean too low", "gain"],
)
def test_target_holds_exactly_at_its_limits(two_models, write_result, find, clean, attacked, met):
    write_result("hardened", "identity", clean, role="control")
    write_result("hardened", "vafa_authors", attacked)
    (target,) = find("target")
    assert target.met is met
    assert target.text.startswith("Target met:" if met else "Target not met:")


@pytest.mark.parametrize(("dice", "holds"), [(0.779, True), (0.77, False)], ids=["at most 60 %", "more"])
def test_attack_ensemble_tells_whether_the_hardened_model_holds(two_models, write_result, find, dice, holds):
    settings = {"_target_": "vafa_monai.attacks.AttackEnsemble", "name": "VolAA 1"}
    attack = {"name": "ensemble", "role": "attack", "settings": settings}
    write_result("standard", "ensemble", 0.7, attack=attack)
    write_result("hardened", "ensemble", dice, attack=attack)
    (target,) = find("target", trained_on=None)
    assert target.met is holds
    assert target.figures["share"] == pytest.approx((0.895 - dice) / 0.2)
    does = "holds" if holds else "does not hold"
    assert target.text.startswith(f"The hardened model {does} under VolAA 1, which costs it")
    assert "at most 60 % is allowed. The clean DSC is 0.8950 against 0.9000" in target.text


def test_target_is_not_judged_without_the_attack(two_models, find):
    (target,) = find("target", trained_on="vafa_authros")
    assert target.met is None
    assert "Target not judged: the clean DSC or the one under vafa_authros is missing" in target.text


def test_target_is_not_judged_where_there_is_nothing_to_halve(two_models, write_result, find):
    write_result("standard", "vafa_authors", 0.9)
    (target,) = find("target")
    assert target.met is None
    assert "costs the standard model 0.0 points, so there is nothing to judge by" in target.text


def test_without_training_attack_or_second_model_there_is_no_target(two_models, write_result, find):
    assert find("target", trained_on=None) == []


def test_one_model_gives_drops_and_no_comparison(write_result, find):
    write_result("standard", "identity", 0.9, role="control")
    write_result("standard", "pgd", 0.8)
    assert find("target") == []
    assert find("worse") == []
    assert [one.text for one in find("drop")] == ["PGD costs the standard model 10.0 points of foreground DSC."]


def test_cost_names_both_models_and_the_share(two_models, find):
    text = "VAFA (authors) costs the standard model 20.0 points of foreground DSC and the hardened model 6.0 points"
    assert f"{text} (30 % of the standard model's)." in [one.text for one in find("drop")]


def test_gain_is_called_a_gain(two_models, write_result, find):
    write_result("hardened", "pgd", 0.905)
    assert any("the hardened model nothing (it gains 1.0 points)." in one.text for one in find("drop"))


def test_every_attack_that_is_worse_is_named(two_models, find):
    (worse,) = find("worse")
    assert worse.text == (
        "The hardened model scores lower than the standard model under 1 of 3 attacks and controls: "
        "PGD (0.745 against 0.800)."
    )
    assert worse.figures == {"model": "hardened", "pgd": pytest.approx(-0.055)}


def test_none_worse_is_said_too(two_models, write_result, find):
    write_result("hardened", "pgd", 0.8)
    assert find("worse")[0].text.endswith("under none of 3 attacks and controls.")


def test_controls_explain_their_part_of_the_drop(two_models, find):
    standard, hardened = find("control")
    assert standard.figures["identity_stretch"] == pytest.approx(0.75)  # (0.85 - 0.70) / (0.90 - 0.70)
    assert hardened.figures["identity_stretch"] == pytest.approx(1.0)
    assert "the adversarial share is 75 % beyond Slice stretch only (5.0 points, rms 3.6 gray levels)." in standard.text


def test_control_that_costs_more_leaves_nothing(two_models, write_result, find):
    write_result("standard", "identity_stretch", 0.6, role="control")
    assert "the adversarial share is nothing beyond Slice stretch only (30.0 points" in find("control")[0].text


def test_drop_too_small_is_not_divided(two_models, write_result, find):
    write_result("hardened", "vafa_authors", 0.893)
    assert find("control")[1].text.endswith(": too little to divide.")


def test_adversarial_share_below_zero_and_above_one():
    assert adversarial_share(0.9, 0.6, 0.8) == pytest.approx(-2)
    assert adversarial_share(0.9, 0.95, 0.8) == pytest.approx(1.5)
    assert adversarial_share(0.9, 0.9, 0.899) is None


def test_three_models_are_each_held_against_the_target(two_models, write_result, find):
    write_result("third", "identity", 0.9, role="control")
    write_result("third", "vafa_authors", 0.7)
    assert [one.met for one in find("target")] == [True, False]


def test_undefined_dice_leaves_its_sentences_out(write_result, find):
    write_result("standard", "identity", 0.9, role="control")
    path = write_result("standard", "pgd", 0.8)
    path.write_text(path.read_text().replace('{"dice": 0.8,', '{"dice": null,'))
    assert find("drop") == []


def test_few_cases_support_no_claim(two_models, find):
    assert "Measured on 2 cases with seed 0: the numbers describe these cases; no claim" in find("caution")[0].text


def test_many_cases_are_only_counted(write_result, find):
    write_result("standard", "identity", 0.7, role="control", cases=[f"case {number}" for number in range(20)])
    assert [one.text for one in find("caution")] == ["Measured on 20 cases with seed 0."]


def test_unequal_cases_settings_and_a_missing_clean_run_are_named(write_result, find):
    write_result("standard", "pgd", 0.8)
    attack = {"name": "pgd", "role": "attack", "settings": {"eps": 0.1}}
    write_result("hardened", "pgd", 0.8, cases=["other"], attack=attack, seed=1)
    size, *texts = [one.text for one in find("caution")]
    assert size.startswith("Measured on 1 to 2 cases with seeds 0, 1")
    assert texts == [
        "There is no clean run (identity) of the standard model, so its drops are unknown.",
        "There is no clean run (identity) of the hardened model, so its drops are unknown.",
        "Settings differ between the models for: PGD.",
    ]
    assert [one.text for one in find("warning")] == [
        "Not the same cases as hardened/pgd, so not comparable with it: standard/pgd.",
        "Not compared, because measured unlike for standard and hardened: other settings: PGD.",
    ]


def test_summary_that_is_not_the_mean_of_its_cases_is_named(write_result, find):
    path = write_result("standard", "identity", 0.9, role="control")
    path.write_text(path.read_text().replace('{"dice": 0.9,', '{"dice": 0.95,'))
    assert find("caution")[-1].text.endswith("is not the mean of the cases for: standard/identity.")

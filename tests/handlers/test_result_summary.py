"""The means of a result, and results put together."""

from __future__ import annotations

import pytest

from vafa_monai.metrics import QUALITY_NAMES
from vafa_monai.results.provenance import merge_results, summarize

QUALITY = dict.fromkeys(QUALITY_NAMES, 0.5)


def case(name, dice, **changes):
    """A case of two organs."""
    figures = {"dice": dice, "hd95_mm": [None, 1.0, 3.0], "nsd": [None, 1.0, None], "lost": 1, "invented": 0}
    return {"case": name, **figures, **QUALITY, **changes}


def result(*cases, **changes):
    about = {"model": "model", "device": "cpu", "seconds": 3.0, "notes": ["one"], "slices": "a.npz"}
    about["checkpoint"] = {"path": "here/model.pt", "sha256": "0"}
    return {**about, "cost": {"forward": 2, "backward": 1}, "cases": list(cases), "summary": {}} | changes


def test_means_are_over_cases_of_means_over_the_organs_they_have():
    found = summarize([case("a", [0.8, 0.5, None]), case("b", [1.0, 0.25, 0.75])])
    assert found["dice"] == 0.5
    assert found["dice_with_background"] == pytest.approx((0.65 + 2 / 3) / 2, abs=1e-6)
    assert (found["hd95_mm"], found["nsd"], found["lost"], found["invented"]) == (2.0, 1.0, 2, 0)


def test_figure_of_the_image_that_one_case_has_not_has_no_mean():
    found = summarize([case("a", [1, 1, 1]), case("b", [1, 1, 1], lpips=None)])
    assert found["lpips"] is None
    assert found["ssim"] == 0.5


def test_cases_of_no_organ_have_no_mean():
    assert summarize([case("a", [1.0, None, None])])["dice"] is None


def test_merged_result_has_all_cases_and_what_they_cost():
    first, second = result(case("a", [1, 0.5, 0.5])), result(case("b", [1, 1, 1]), notes=["one", "two"])
    merged = merge_results([first, second], "b.npz")
    assert [one["case"] for one in merged["cases"]] == ["a", "b"]
    assert merged["summary"] == summarize(merged["cases"])
    assert merged["cost"] == {"forward": 4, "backward": 2}
    assert (merged["seconds"], merged["notes"], merged["slices"]) == (None, ["one", "two"], "b.npz")


def test_results_of_several_devices_and_places_are_one_result():
    moved = {"path": "there/model.pt", "sha256": "0"}
    merged = merge_results([result(device="cuda:1"), result(device="cuda:0", checkpoint=moved)], None)
    assert merged["device"] == "cuda:0, cuda:1"
    assert merged["checkpoint"]["path"] == "here/model.pt"


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"model": "other"}, "model"), ({"checkpoint": {"path": "here/model.pt", "sha256": "1"}}, "checkpoint")],
)
def test_results_of_other_settings_are_not_put_together(changes, name):
    with pytest.raises(ValueError, match=f"results must differ in their cases alone, got another '{name}'"):
        merge_results([result(), result(**changes)], None)


def test_a_case_of_two_results_is_not_counted_twice():
    one = result(case("a", [1, 0.5, 0.5]))
    with pytest.raises(ValueError, match="cases must have file names that differ, got 'a' twice"):
        merge_results([one, result(case("b", [1, 1, 1])), one], None)

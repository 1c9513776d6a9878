"""Curves as pictures: where the points lie, and what a curve comes down to."""

import json
from itertools import pairwise

import pytest

from vafa_monai.reports.chart import curve_charts
from vafa_monai.results.audit import load_audits


@pytest.fixture
def charts(write_result, write_audit, results_dir):
    def build(**changes):
        write_result("standard", "pgd", 0.8)
        path = write_audit("standard", "PASS")
        document = json.loads(path.read_text())
        document["curves"][0] |= changes
        path.write_text(json.dumps(document))
        return curve_charts(load_audits(results_dir))

    return build


def test_points_are_even_on_the_axis_of_log2(charts):
    (chart,) = charts()
    x = [place[0] for place in chart.series[0].places]  # of 0, 1, 3, 7
    assert [right - left for left, right in pairwise(x)] == pytest.approx([x[1] - x[0]] * 3, abs=0.11)
    assert x[0] >= 0
    assert x[-1] <= chart.width


def test_height_falls_with_the_dsc(charts):
    (chart,) = charts(dice=[1.0, 0.5, 0.25, 0.0])
    top, middle, _, bottom = (place[1] for place in chart.series[0].places)
    levels = {label: y for y, label in chart.levels}
    assert (top, middle, bottom) == (levels["1"], levels["0.5"], levels["0"])


def test_area_is_that_of_the_picture_and_half_that_of_the_budget(charts):
    (chart,) = charts()
    (series,) = chart.series
    assert series.area == pytest.approx((0.7 + 0.5 + 0.2) / 3)  # trapezoids of equal width
    assert series.half_loss == pytest.approx(3.0)


def test_area_over_steps_means_nothing(charts):
    (series,) = charts(x_unit="steps")[0].series
    assert (series.area, series.half_loss) == (None, None)


def test_undefined_points_are_left_out(charts):
    (series,) = charts(dice=[0.8, None, 0.4, 0.0])[0].series
    assert len(series.places) == 3


def test_ticks_leave_room_for_their_labels(charts):
    x = [0, *range(100, 131)]
    (chart,) = charts(x=x, dice=[0.5] * len(x))
    places = [place for place, _ in chart.ticks]
    assert all(right - left >= 26 for left, right in pairwise(places))
    assert chart.ticks[0][1] == "0"


def test_models_share_a_chart(charts, write_result, write_audit, results_dir):
    charts()
    write_result("hardened", "pgd", 0.8)
    write_audit("hardened", "PASS")
    (chart,) = curve_charts(load_audits(results_dir))
    assert {series.model for series in chart.series} == {"standard", "hardened"}


def test_curve_of_an_older_audit_has_the_other_spelling(charts):
    (older,), (newer,) = charts(x_unit="grey levels")[0].series, charts(x_unit="gray levels")[0].series
    assert (older.area, older.half_loss) == (newer.area, newer.half_loss) != (None, None)

"""The figure and the chart: they are written, whole, and the same every time."""

import numpy as np
import pytest
from matplotlib.image import imread

from vafa_monai.reports import attack_figure, dice_chart
from vafa_monai.reports.figure import _upright
from vafa_monai.results import load_results


def test_figure_is_wider_with_every_attack_and_the_same_again(write_result, results_dir, tmp_path):
    for attack in ("identity", "pgd", "zeta"):
        write_result("standard", attack, 0.8, role="control" if attack == "identity" else "attack", slices=True)
    write_result("hardened", "pgd", 0.8, slices=True)
    results = load_results(results_dir)
    wide = attack_figure(results, tmp_path / "wide.png")
    narrow = attack_figure(results, tmp_path / "narrow.png", attacks=["pgd"])
    assert imread(wide).shape[1] > imread(narrow).shape[1]
    assert attack_figure(results, tmp_path / "again.png", attacks=["pgd"]).read_bytes() == narrow.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_figure_without_slices_is_refused(write_result, results_dir, tmp_path):
    write_result("standard", "pgd", 0.8)
    with pytest.raises(
        ValueError, match=r"results must have a slice for one of the attacks, got \['identity', 'pgd'\]"
    ):
        attack_figure(load_results(results_dir), tmp_path / "figure.png")


def test_first_axis_points_right_and_second_up():
    corner = np.zeros((4, 3))
    corner[3, 0] = 1  # the end of H, the start of W
    assert _upright(corner).shape == (3, 4)
    assert _upright(corner)[-1, -1] == 1


def test_chart_survives_undefined_and_missing_results(two_models, write_result, results_dir, tmp_path):
    path = write_result("third", "pgd", 0.8)
    path.write_text(path.read_text().replace('{"dice": 0.8,', '{"dice": null,'))
    assert imread(dice_chart(load_results(results_dir), tmp_path / "chart.png")).shape[2] == 4

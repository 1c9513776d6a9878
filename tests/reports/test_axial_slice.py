"""Slices: what is read, what is refused, where an attack broke most."""

import numpy as np
import pytest

from vafa_monai.reports.figure import AxialSlice, load_slice, worst_window
from vafa_monai.results import load_results


def test_perturbation_is_in_gray_levels():
    zeros, classes = np.zeros((2, 3)), np.zeros((2, 3), np.uint8)
    one = AxialSlice(case="x", clean=zeros, adv=zeros + 4 / 255, label=classes, pred=classes)
    np.testing.assert_allclose(one.delta_gray, 4.0)


def test_result_without_slice_gives_none(write_result, results_dir):
    write_result("standard", "pgd", 0.8)
    assert load_slice(load_results(results_dir)[0]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"adv": np.zeros((2, 2), np.float32)}, "slices must be of one 2D shape, got .*for standard/pgd.npz"),
        ({"adv": np.full((12, 10), np.nan, np.float32)}, "slices must have finite intensities, got NaN or infinity"),
        ({"pred": np.full((12, 10), 3, np.uint8)}, "slices must have classes below 3, got 3 for standard/pgd.npz"),
        ({"case": np.array({"a": 1}, dtype=object)}, "slices must hold clean, adv, label, pred and case, got"),
    ],
    ids=["shape", "nan", "class", "pickle"],
)
def test_file_that_is_no_slice_is_refused(write_result, results_dir, changes, message):
    path = write_result("standard", "pgd", 0.8, slices=True).with_suffix(".npz")
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, **changes})
    with pytest.raises(ValueError, match=message):
        load_slice(load_results(results_dir)[0])


def test_missing_array_is_refused(write_result, results_dir):
    path = write_result("standard", "pgd", 0.8, slices=True).with_suffix(".npz")
    np.savez(path, clean=np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"slices must hold clean, adv, label, pred and case, got .*adv"):
        load_slice(load_results(results_dir)[0])


def test_worst_window_covers_what_broke():
    label = np.ones((12, 8), np.uint8)
    pred = label.copy()
    pred[5:7, 3:5] = 0
    image = np.zeros((12, 8))
    before = AxialSlice(case="x", clean=image, adv=image, label=label, pred=label)
    after = AxialSlice(case="x", clean=image, adv=image, label=label, pred=pred)
    assert worst_window(before, after) == (5, 3, 2)
    assert worst_window(before, before) is None
    assert worst_window(AxialSlice(case="x", clean=image, adv=image, label=pred, pred=pred), after) is None

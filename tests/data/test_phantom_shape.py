"""Shapes that are painted into voxels: volumes of closed form, places in mm, mixed borders."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data.phantom_shape import Ellipsoid, Grid, Tube, blurred_means


def painted(shape: object, grid: Grid) -> np.ndarray:
    codes = np.zeros(grid.shape, np.uint8)
    grid.paint(codes, shape, 1)
    return codes


@pytest.mark.parametrize(
    ("shape", "mm3"),
    [
        (Ellipsoid((1, -2, 3), (20, 14, 9)), 4 / 3 * np.pi * 20 * 14 * 9),
        (Ellipsoid((1, -2, 3), (20, 14, 9), 3), 2 / 3 * np.pi * 20 * 14 * 9),
        (Tube(((0, 0, -12), (0, 0, 12)), 9), np.pi * 81 * 24 + 4 / 3 * np.pi * 729),
        (Tube(((-12, 0, 0), (0, 0, 0), (12, 0, 0)), 9), np.pi * 81 * 24 + 4 / 3 * np.pi * 729),
    ],
    ids=["ellipsoid", "lower half of it", "tube", "tube of two pieces"],
)
def test_shape_has_the_volume_of_its_formula(shape, mm3):
    grid = Grid((90, 60, 110), (0.6, 0.7, 0.5))
    assert painted(shape, grid).sum() * 0.6 * 0.7 * 0.5 == pytest.approx(mm3, rel=0.01)


def test_voxels_inside_are_those_whose_centers_the_affine_puts_inside():
    grid = Grid((21, 15, 9), (2, 3, 5), (4.0, -3.0, 7.0))
    shape = Ellipsoid((9, -8, 11), (11, 12, 13))
    centers = nib.affines.apply_affine(grid.affine, np.moveaxis(np.indices(grid.shape), 0, -1))
    inside = ((centers - shape.center) ** 2 / np.square(shape.radii)).sum(-1) <= 1
    np.testing.assert_array_equal(painted(shape, grid), inside)
    np.testing.assert_allclose(centers.reshape(-1, 3).mean(0), grid.origin, atol=1e-9)


def test_shape_that_reaches_out_is_cut_and_one_outside_paints_nothing():
    grid = Grid((10, 10, 10), (1, 1, 1))
    assert painted(Ellipsoid((0, 0, 0), (1e4, 1e4, 1e4)), grid).all()
    assert painted(Tube(((0, 0, -1e3), (0, 0, 1e3)), 2), grid).any(axis=(0, 1)).all()
    assert not painted(Ellipsoid((50, 0, 0), (9, 9, 9)), grid).any()


def test_later_shape_covers_the_earlier():
    grid = Grid((10, 10, 10), (1, 1, 1))
    codes = painted(Ellipsoid((0, 0, 0), (4, 4, 4)), grid)
    grid.paint(codes, Ellipsoid((0, 0, 0), (2, 2, 2)), 7)
    assert set(np.unique(codes)) == {0, 1, 7}


def test_borders_mix_and_the_inside_keeps_its_mean():
    codes = np.zeros((20, 20, 20), np.uint8)
    codes[:10] = 3
    means = blurred_means(codes, {0: -100.0, 3: 300.0})
    assert means[4, 10, 10] == pytest.approx(300, abs=0.1)
    assert means[15, 10, 10] == pytest.approx(-100, abs=0.1)
    assert -100 < means[10, 10, 10] < 100 < means[9, 10, 10] < 300
    assert means.mean() == pytest.approx(100)

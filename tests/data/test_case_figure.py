"""The picture of a data report: the right slice, the right way round, outlines of all classes."""

from __future__ import annotations

import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.image import imread
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from vafa_monai.data.data_report import Sample, case_figure, middle_slice

CLASSES = ("background", "right front", "left back")
SHAPE = (20, 16, 9)


def sample(folder: Path, axes: str = "RAS") -> Sample:
    """A case with one class at the right front and one at the left back, in the slices 3 to 7."""
    label = np.zeros(SHAPE, np.uint8)
    label[14:19, 10:15, 3:8], label[2:6, 2:6, 3:8] = 1, 2
    image = label.astype(np.int16) * 100 + np.arange(9, dtype=np.int16)
    affine = np.diag([1.0, 2.0, 5.0, 1.0])
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(axes))
    for name, volume in (("image", image), ("label", label)):
        nib.save(nib.Nifti1Image(volume, affine).as_reoriented(turn), folder / f"{name}_{axes}.nii")
    return Sample(title=axes, image=folder / f"image_{axes}.nii", label=folder / f"label_{axes}.nii")


@pytest.mark.parametrize("axes", ["RAS", "LPS", "PIR", "SLA"])
def test_slice_is_the_middle_one_with_the_right_side_left_and_the_front_up(tmp_path, axes):
    image, label, aspect = middle_slice(sample(tmp_path, axes))
    assert image.shape == label.shape == (16, 20)
    assert (image[0, 0], aspect) == (5, 2)
    assert label[3, 3] == 1
    assert label[12, 16] == 2
    assert label[12, 3] == label[3, 16] == 0


def test_label_without_classes_shows_the_middle_of_the_volume(tmp_path):
    one = sample(tmp_path)
    nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), np.eye(4)), one.label)
    assert middle_slice(one)[0].min() == 4


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_picture_has_a_place_for_every_case_and_an_outline_of_every_class(tmp_path, count):
    picture = case_figure([sample(tmp_path)] * count, CLASSES, (0, 300))
    pixels = imread(io.BytesIO(picture))[..., :3]
    height, width = pixels.shape[:2]
    columns, rows = min(count, 3), -(-count // 3)
    assert 0.8 < width / height / (columns / (rows * 1.6)) < 1.3
    for index in range(2):
        near = np.abs(pixels - colormaps["tab20"](index)[:3]).max(-1) < 0.05
        assert near.sum() > 20 * count


def test_picture_is_always_the_same_and_depends_on_the_window(tmp_path):
    one = [sample(tmp_path)]
    assert case_figure(one, CLASSES, None) == case_figure(one, CLASSES, None)
    assert case_figure(one, CLASSES, (0, 300)) != case_figure(one, CLASSES, (0, 30))

"""Every thing that can be wrong with the files of a case has a sentence of its own; what is right has none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data.acdc import ACDC
from vafa_monai.data.recipe import image_faults, label_faults, pair_faults, read_or_fault
from vafa_monai.data.synapse import SYNAPSE
from vafa_monai.data.volume import Volume

SHAPE = (5, 6, 7)
SPACING = (1.5, 1.5, 10.0)
TWO_SPACINGS = "got 1.5 x 1.5 x 10 mm by its affine and 1.5 x 1.5 x 5 mm by its pixdim"
HOUNSFIELD = "image must be in Hounsfield units, with air of at most -500 and bone of at least 100"


def image(low: float = -1000, high: float = 1000, affine: object = None, pixdim: object = None) -> Volume:
    array = np.linspace(low, high, np.prod(SHAPE)).reshape(SHAPE)
    return Volume(array, np.diag([*SPACING, 1.0]) if affine is None else affine, pixdim or SPACING, "")


def label(*values: float) -> Volume:
    array = np.zeros(SHAPE)
    array.flat[: len(values)] = values
    return Volume(array, np.diag([*SPACING, 1.0]), SPACING, "")


def image_with(value: float) -> Volume:
    one = image()
    one.array[1, 2, 3] = value
    return one


def affine_with(place: tuple[int, int], value: float) -> np.ndarray:
    affine = np.diag([*SPACING, 1.0])
    affine[place] = value
    return affine


@pytest.mark.parametrize("recipe", [SYNAPSE, ACDC], ids=lambda recipe: recipe.name)
def test_good_volumes_have_no_fault(recipe):
    assert image_faults(image(), "a", recipe) == []
    assert label_faults(label(*range(len(recipe.mapping))), "a", recipe) == []
    assert label_faults(label(1), "a", recipe) == []
    assert pair_faults(image(), label(1), "a", 0) == []


@pytest.mark.parametrize(
    ("volume", "sentence"),
    [
        (image_with(np.nan), "image must be finite, got 1 NaN or infinite voxels for 'a.nii'."),
        (image_with(-np.inf), "image must be finite, got 1 NaN or infinite voxels for 'a.nii'."),
        (image(3, 3), "image must not be constant, got 3 everywhere for 'a.nii'."),
        (
            image(0, 1),
            f"{HOUNSFIELD}, got 0 to 1, which was probably rescaled or clipped, for 'a.nii'.",
        ),
        (
            image(0, 4095),
            f"{HOUNSFIELD}, got 0 to 4095, which was probably rescaled or clipped, for 'a.nii'.",
        ),
        (
            image(-1000, 99),
            f"{HOUNSFIELD}, got -1000 to 99, which was probably rescaled or clipped, for 'a.nii'.",
        ),
        (
            image(affine=affine_with((1, 1), 0)),
            "image must have a spacing above 0 mm along every axis, got 1.5 x 0 x 10 mm for 'a.nii'.",
        ),
        (
            image(affine=affine_with((0, 3), np.nan)),
            "image must have a finite affine, got NaN or infinity in it for 'a.nii'.",
        ),
        (
            image(affine=np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])),
            "image must have an affine that can be inverted, got directions with the determinant 0 for 'a.nii'.",
        ),
        (
            image(pixdim=(1.5, 1.5, 5.0)),
            f"image must have one spacing, {TWO_SPACINGS} for 'a.nii'.",
        ),
    ],
    ids=[
        "NaN",
        "infinite",
        "constant",
        "rescaled to [0, 1]",
        "without the intercept",
        "clipped",
        "zero spacing",
        "NaN in the affine",
        "parallel axes",
        "two spacings",
    ],
)
def test_bad_image_has_exactly_its_sentence(volume, sentence):
    assert image_faults(volume, "a.nii", SYNAPSE) == [sentence]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 4095), (-3, 99)], ids=str)
def test_mri_may_have_any_unit(low, high):
    assert image_faults(image(low, high), "a", ACDC) == []


def test_spacing_of_pixdim_rules_where_it_is_known_to_be_right_and_must_then_be_one():
    unit = np.diag([-1.0, -1.0, 1.0, 1.0])
    assert image_faults(image(affine=unit), "a", ACDC) == []
    sentence = "image must have a spacing above 0 mm along every axis, got 1.5 x 0 x 10 mm for 'a'."
    assert image_faults(image(affine=unit, pixdim=(1.5, 0.0, 10.0)), "a", ACDC) == [sentence]


def test_spacing_that_was_rounded_in_the_header_passes():
    assert image_faults(image(pixdim=(1.501, 1.5, 10.02)), "a", SYNAPSE) == []


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((14,), "label must hold class indices from 0 to 13, got 14 for 'a'."),
        ((-1, 20, 3), "label must hold class indices from 0 to 13, got -1, 20 for 'a'."),
        ((0.5, 1), "label must hold whole numbers, got 0.5 and 0 other values for 'a'."),
        ((0.5, 0.7, np.nan), "label must hold whole numbers, got 0.5 and 2 other values for 'a'."),
        ((), "label must hold something, got the background only for 'a'."),
    ],
    ids=["above the classes", "outside on both sides", "fraction", "NaN", "empty"],
)
def test_bad_label_has_exactly_its_sentence(values, sentence):
    assert label_faults(label(*values), "a", SYNAPSE) == [sentence]


def test_two_faults_have_two_sentences():
    bad = replace(image_with(np.nan), affine=affine_with((0, 0), 0))
    found = image_faults(bad, "a", SYNAPSE)
    assert [sentence.split(",")[0] for sentence in found] == [
        "image must have a spacing above 0 mm along every axis",
        "image must be finite",
    ]


# Between image and label


def test_label_of_another_shape_is_told():
    other = replace(label(1), array=np.zeros((5, 6, 8)))
    assert pair_faults(image(), other, "a", 1) == [
        "label must have the shape of its image (5, 6, 7), got (5, 6, 8) for 'a'."
    ]


@pytest.mark.parametrize(
    ("affine", "voxels"),
    [
        (affine_with((0, 3), 0.3), "0.2"),
        (affine_with((2, 3), -2), "0.2"),
        (affine_with((0, 0), -1.5), "8"),
        (affine_with((2, 2), 10.5), "0.3"),
    ],
    ids=["shifted", "shifted by 2 mm along thick slices", "mirrored", "stretched"],
)
def test_label_that_lies_elsewhere_is_told_in_voxels(affine, voxels):
    elsewhere = replace(label(1), affine=affine)
    [sentence] = pair_faults(image(), elsewhere, "a", 0.1)
    assert sentence == (
        f"label must lie on its image to within 0.1 voxels, got a corner {voxels} voxels away by its affine for 'a'; "
        "if the pictures fit, raise affine_tolerance."
    )
    assert pair_faults(image(), elsewhere, "a", float(voxels) + 1e-9) == []


# Files


def test_missing_content_is_told_with_its_reason(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"no volume")
    volume, [sentence] = read_or_fault("label", path)
    assert volume is None
    assert sentence.startswith("label must be a readable volume, got 'a.nii.gz' (")
    assert "\n" not in sentence


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 5), np.int16), r"image must be 3D, got the shape (4, 5) for 'a.nii'."),
        (np.zeros((4, 5, 6, 1), np.int16), r"image must be 3D, got the shape (4, 5, 6, 1) for 'a.nii'."),
        (np.zeros((4, 5, 6), np.complex64), "image must hold one real number per voxel, got voxels of type complex64"),
        (np.zeros((4, 5, 6), RGB), "image must hold one real number per voxel, got voxels of type [('R'"),
    ],
    ids=["2D", "4D", "complex", "color"],
)
def test_file_that_is_no_gray_volume_is_told(tmp_path, array, sentence):
    path = Path(tmp_path / "a.nii")
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    volume, [found] = read_or_fault("image", path)
    assert volume is None
    assert found.startswith(sentence)

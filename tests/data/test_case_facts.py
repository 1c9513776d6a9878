"""What is measured of a case: numbers that can be counted by hand, and what a user should know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vafa_monai.data.acdc import ACDC
from vafa_monai.data.data_report import CaseFacts, measure
from vafa_monai.data.recipe import Case
from vafa_monai.data.synapse import SYNAPSE, synapse_plan, synapse_split
from vafa_monai.data.volume import Volume

SHAPE = (10, 8, 6)
SPACING = (2.0, 2.5, 5.0)
CASE = Case(name="a", unit="u", image=Path("a.nii"), label=Path("b.nii"), notes={"phase": "ED"})
LPS = np.diag([-2.0, -2.5, 5.0, 1.0])


def volume(array: np.ndarray, **changes: object) -> Volume:
    return Volume(**{"array": array, "affine": LPS, "pixdim": SPACING, "description": "", **changes})


def label_with(**voxels: int) -> np.ndarray:
    """A label with so many voxels of class 1, 2 and so on."""
    label = np.zeros(SHAPE, np.uint8)
    label.flat[: sum(voxels.values())] = np.repeat(np.arange(1, len(voxels) + 1), list(voxels.values()))
    return label


def facts(image: Volume | None = None, label: Volume | None = None, recipe=ACDC) -> CaseFacts:
    ramp = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return measure(CASE, image or volume(ramp), label or volume(label_with(a=40, b=20, c=100)), recipe)


def test_shape_spacing_and_orientation_are_those_of_the_affine():
    one = facts()
    assert (one.shape, one.spacing, one.orientation, one.dtype) == (SHAPE, SPACING, "LPS", "int16")
    assert (one.name, one.unit, one.notes) == ("a", "u", {"phase": "ED"})


def test_class_volumes_are_voxels_times_their_volume():
    assert facts().volumes_ml == (1.0, 0.5, 2.5)  # 25 mm3 each


def test_class_volumes_follow_the_voxel_sizes_of_pixdim_where_it_rules():
    unit = np.diag([-1.0, -1.0, 1.0, 1.0])
    ramp = np.arange(480).reshape(SHAPE)
    one = facts(volume(ramp, affine=unit), volume(label_with(a=40, b=20, c=100), affine=unit))
    assert one.volumes_ml == (1.0, 0.5, 2.5)
    assert one.spacing == SPACING
    assert one.remarks == ("The voxel sizes are those of pixdim, because the affine of the file has others.",)


def test_classes_are_those_after_the_mapping():
    eight = synapse_plan(classes=9, split=synapse_split()).recipe
    values = np.zeros(SHAPE)
    values.flat[:9] = [5, 5, 6, 11, 11, 9, 13, 1, 0]
    volumes = facts(label=volume(values), recipe=eight).volumes_ml
    assert dict(zip(eight.classes[1:], np.asarray(volumes) / 0.025, strict=True)) == pytest.approx(
        dict.fromkeys(eight.classes[1:], 0) | {"liver": 1, "pancreas": 2, "spleen": 1}
    )


def test_intensities_are_extremes_and_percentiles():
    ramp = np.arange(480, dtype=np.float32).reshape(SHAPE)
    assert facts(volume(ramp)).intensity == pytest.approx((0, 0.005 * 479, 0.995 * 479, 479))


def test_copies_have_one_hash_however_they_lie_in_memory():
    ramp = np.arange(480, dtype=np.int16).reshape(SHAPE)
    first = facts(volume(ramp)).voxels
    assert facts(volume(np.asfortranarray(ramp), affine=np.eye(4))).voxels == first
    assert facts(volume(ramp + 1)).voxels != first
    assert facts(volume(ramp.reshape(8, 10, 6)), volume(label_with(a=1, b=1, c=1).reshape(8, 10, 6))).voxels != first


@pytest.mark.parametrize(
    ("affine", "remark"),
    [
        (LPS @ np.diag([1e-3, 1e-3, 1e-3, 1]), "The spacing is unusual: it is not from 0.3 to 20 mm along every axis."),
        (LPS @ np.diag([1, 1, 5, 1]), "The spacing is unusual: it is not from 0.3 to 20 mm along every axis."),
        (LPS @ (np.eye(4) + 0.2 * np.eye(4, k=1) * [1, 1, 0, 0]), "The axes are not at right angles."),
    ],
    ids=["in meters", "thick slices", "sheared"],
)
def test_unusual_geometry_is_told(affine, remark):
    spacing = tuple(np.linalg.norm(affine[:3, :3], axis=0))
    image = volume(np.arange(480).reshape(SHAPE), affine=affine, pixdim=spacing)
    one = facts(image, volume(label_with(a=40, b=20, c=100), affine=affine, pixdim=spacing))
    assert one.remarks == (remark,)


def test_phantom_displaced_label_and_absent_class_are_told():
    image = volume(np.arange(480).reshape(SHAPE), description="vafa_monai phantom, not a patient")
    moved = LPS.copy()
    moved[0, 3] = 0.1
    assert facts(image, volume(label_with(a=9, b=9), affine=moved)).remarks == (
        "The image is a synthetic phantom, not a patient.",
        "The label got the affine of its image, which was not quite its own.",
        "The label has no left ventricle.",
    )


def test_rounding_of_a_label_affine_is_not_told():
    assert facts(label=volume(label_with(a=1, b=1, c=1), affine=LPS * (1 + 1e-6))).remarks == ()
    assert SYNAPSE.hounsfield is not None
    assert facts(recipe=replace(SYNAPSE, mapping=(0, 1, 2, 3), classes=ACDC.classes)).remarks == ()

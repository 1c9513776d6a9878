"""Volumes as they lie in files: what is read, where it lies, and what a reader of NIfTI takes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data.volume import displacement, read_volume, storable

SHAPE = (5, 6, 7)
SPACING = np.diag([1.5, 1.5, 10.0, 1.0])


def write(path: Path, **changes: object) -> Path:
    array = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    nib.save(nib.Nifti1Image(changes.get("array", array), changes.get("affine", SPACING)), path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_volume_is_read_with_voxels_affine_and_spacing(tmp_path, name):
    volume = read_volume(write(tmp_path / name))
    np.testing.assert_array_equal(volume.array.ravel(), np.arange(210))
    assert volume.array.dtype == np.int16
    np.testing.assert_array_equal(volume.affine, SPACING)
    assert volume.spacing == volume.pixdim == (1.5, 1.5, 10)
    assert volume.agrees
    assert volume.settled(pixdim_rules=True) is volume


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("keep", [0, 100, -100, -1], ids=["empty", "header cut", "voxels cut", "end cut"])
def test_cut_off_file_is_refused_with_a_reason(tmp_path, name, keep):
    noise = np.random.default_rng(0).integers(-999, 999, SHAPE).astype(np.int16)  # which does not compress
    path = write(tmp_path / name, array=noise)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"\w"):
        read_volume(path)


def test_compressed_file_that_does_not_fit_its_checksum_is_refused(tmp_path):
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    path = write(tmp_path / "a.nii.gz", array=noise)
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum
    path.write_bytes(content)
    np.asarray(nib.load(path).dataobj)  # which nibabel reads without a word
    with pytest.raises(ValueError, match="CRC check failed"):
        read_volume(path)


def with_unit_sform(path: Path) -> Path:
    """A file as those of ACDC are: the voxels of the sform are 1 mm, the true ones in qform and pixdim."""
    image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), np.diag([-1.5, -1.5, 10.0, 1.0]))
    image.set_qform(image.affine, code=1)
    image.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), code=1)
    nib.save(image, path)
    return path


def test_pixdim_gives_the_voxel_sizes_where_it_rules(tmp_path):
    volume = read_volume(with_unit_sform(tmp_path / "a.nii"))
    assert volume.spacing == (1, 1, 1)
    assert not volume.agrees
    assert volume.settled(pixdim_rules=False) is volume
    settled = volume.settled(pixdim_rules=True)
    np.testing.assert_allclose(settled.affine, np.diag([-1.5, -1.5, 10.0, 1.0]))
    np.testing.assert_array_equal(volume.affine, np.diag([-1.0, -1.0, 1.0, 1.0]))  # the first is as it was


@pytest.mark.parametrize("axis", range(3))
def test_displacement_is_in_voxels_of_its_axis(axis):
    shifted = SPACING.copy()
    shifted[axis, 3] = 3
    assert displacement(SPACING, shifted, SHAPE) == pytest.approx(3 / SPACING[axis, axis])
    assert displacement(SPACING, SPACING, SHAPE) == 0


def test_displacement_is_that_of_the_farthest_corner():
    stretched = SPACING @ np.diag([1.01, 1, 1, 1])
    assert displacement(SPACING, stretched, (101, 6, 7)) == pytest.approx(1)
    turn = nib.affines.from_matvec([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turned = displacement(turn @ SPACING, turn @ stretched, (101, 6, 7))
    assert turned == pytest.approx(1)  # wherever the patient lies


@pytest.mark.parametrize(
    ("kind", "stored"),
    [("u1", "u1"), ("i2", "i2"), ("u2", "u2"), ("f4", "f4"), ("f8", "f4"), ("i8", "i4"), ("u4", "u4")],
    ids=str,
)
def test_64_bits_become_32_and_the_rest_stays(tmp_path, kind, stored):
    array = np.arange(210).reshape(SHAPE).astype(kind)
    assert storable(array).dtype == stored
    np.testing.assert_array_equal(read_volume(write(tmp_path / "a.nii", array=storable(array))).array, array)

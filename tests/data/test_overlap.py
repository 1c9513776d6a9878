"""Parts of a dataset that share an image."""

from __future__ import annotations

import logging
import shutil

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import check_cases

SHAPE = (5, 6, 7)


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a case by its seed under a name; it returns the paths."""

    def case(name, seed, dtype=np.float32, shape=SHAPE):
        volume = np.random.default_rng(seed).integers(0, 200, SHAPE).reshape(shape)
        paths = {kind: str(tmp_path / f"{kind}_{name}") for kind in ("image", "label")}
        nib.save(nib.Nifti1Image(volume.astype(dtype), np.eye(4)), paths["image"])
        nib.save(nib.Nifti1Image((volume > 100).astype(np.uint8), np.eye(4)), paths["label"])
        return paths

    return case


def check(**parts):
    check_cases(parts["training"], num_classes=2, value_range=None, apart=parts)


def test_parts_of_different_images_pass(write):
    check(
        training=[write("a.nii.gz", 1), write("b.nii.gz", 2)],
        validation=[write("c.nii.gz", 3)],
        test=[write("d.nii.gz", 4)],
    )


@pytest.mark.parametrize(
    ("name", "settings"),
    [("copy.nii.gz", {}), ("plain.nii", {}), ("other.nii.gz", {"dtype": np.int16})],
    ids=["copy", "not compressed", "other numbers"],
)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_shared_image_is_refused_whatever_its_file_is(name, settings, part, write):
    parts = {"training": [write("a.nii.gz", 1)], "validation": [write("b.nii.gz", 2)], "test": [write("c.nii.gz", 3)]}
    parts[part] = [*parts[part], write(name, 1, **settings)]
    with pytest.raises(
        ValueError, match=rf"parts must share no image, got '.*a\.nii\.gz' \(training\) and .*\({part}\)"
    ):
        check(**parts)


def test_shared_file_ends_the_process_of_a_config(write):
    case = write("a.nii.gz", 1)
    parts = {"training": [case], "test": [case]}
    with pytest.raises(SystemExit, match="parts must share no image"):
        check_cases([case], num_classes=2, value_range=None, apart=parts, exit_on_error=True)


def test_same_numbers_in_another_shape_and_the_same_image_twice_in_one_part_pass(write):
    check(
        training=[write("a.nii.gz", 1), write("b.nii.gz", 1)],
        validation=[write("c.nii.gz", 1, shape=SHAPE[::-1])],
    )


def test_files_without_a_reader_are_compared_by_their_bytes(write, tmp_path):
    for name in ("one.xyz", "two.xyz"):
        (tmp_path / name).write_bytes(b"no volume")
    parts = {"training": [write("a.nii.gz", 1)], "validation": [{"image": str(tmp_path / "one.xyz")}]}
    parts["test"] = [{"image": str(tmp_path / "two.xyz")}]
    with pytest.raises(ValueError, match=r"one\.xyz' \(validation\) and .*two\.xyz' \(test\)"):
        check(**parts)


def test_what_is_not_here_is_not_compared_and_the_log_says_so(write, tmp_path, caplog):
    case = write("a.nii.gz", 1)
    away = {kind: shutil.move(path, f"{path}.away") and path for kind, path in write("b.nii.gz", 2).items()}
    with caplog.at_level(logging.INFO, logger="vafa_monai.data.overlap"):
        check(training=[case], test=[away])
    assert "1 of 1 images of the part 'test' are not here: not compared" in caplog.text

"""Every case and checkpoint that cannot be used has a sentence of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, ScaleIntensityRanged

from vafa_monai.data import check_cases

SHAPE = (5, 6, 7)
PREPROCESSING = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])

Case = dict[str, str]


@pytest.fixture
def case(tmp_path: Path) -> Callable[..., Case]:
    """Write a case of a ramp in [0, 1] and three classes, with changes; return its paths."""

    def write(**changes: np.ndarray) -> Case:
        ramp = np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
        volumes = {"image": ramp, "label": np.floor(ramp * 2.99).astype(np.uint8)}
        for kind, volume in volumes.items():
            affine = changes.get(f"{kind}_affine", np.diag([1.0, 2.0, 3.0, 1.0]))
            nib.save(nib.Nifti1Image(changes.get(kind, volume), affine), tmp_path / f"{kind}.nii.gz")
        return {kind: str(tmp_path / f"{kind}.nii.gz") for kind in volumes}

    return write


def check(*cases: Case, **settings: object) -> None:
    check_cases(list(cases), **{"num_classes": 3, "preprocessing": PREPROCESSING, **settings})


def ramp_with(value: float) -> np.ndarray:
    volume = np.linspace(0, 1, np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    volume[1, 2, 3] = value
    return volume


def shifted(mm: float) -> np.ndarray:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[1, 3] = mm
    return affine


# Cases


@pytest.mark.parametrize("settings", [{}, {"roi_size": SHAPE}, {"preprocessing": None}], ids=str)
def test_good_case_passes(case, settings):
    assert check(case(), **settings) is None


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64], ids=lambda kind: kind.__name__)
def test_whole_class_indices_of_any_number_format_pass(case, kind):
    check(case(label=(ramp_with(0) * 2.99).astype(np.uint8).astype(kind)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"image": ramp_with(np.nan)}, "image must be finite, got 1 NaN or infinite voxels for"),
        ({"image": ramp_with(-np.inf)}, "image must be finite, got 1 NaN or infinite voxels for"),
        ({"image": np.full(SHAPE, 3, np.int16)}, "image must not be constant, got 3 everywhere for"),
        (
            {"label": np.full(SHAPE, 3, np.uint8)},
            "label must hold whole class indices from 0 to 2, got values from 3 to 3 for",
        ),
        (
            {"label": np.full(SHAPE, -1, np.int16)},
            "label must hold whole class indices from 0 to 2, got values from -1 to -1 for",
        ),
        ({"label": ramp_with(1)}, "label must hold whole class indices from 0 to 2, got values from 0 to 1 for"),
        ({"label": ramp_with(np.nan)}, "label must hold whole class indices from 0 to 2, got values from nan to nan"),
        (
            {"label": np.zeros((5, 6, 8), np.uint8)},
            r"label must have the shape of its image \(5, 6, 7\), got \(5, 6, 8\) for",
        ),
        (
            {"label_affine": shifted(0.5)},
            r"label must have the affine of its image, got one that differs by 0\.5 mm for",
        ),
        (
            {"image_affine": np.diag([-1.0, 2.0, 3.0, 1.0])},
            "label must have the affine of its image, got one that differs by 2 mm for",
        ),
        (
            {"image": ramp_with(1.5)},
            r"image must lie in value_range \(0\.0, 1\.0\) after preprocessing, got 0 to 1\.5 for",
        ),
        (
            {"image": ramp_with(-0.01)},
            r"image must lie in value_range \(0\.0, 1\.0\) after preprocessing, got -0\.01 to 1 for",
        ),
    ],
    ids=[
        "NaN image",
        "infinite image",
        "constant image",
        "label above the classes",
        "label below 0",
        "fractional label",
        "NaN label",
        "shape mismatch",
        "shifted label",
        "mirrored image",
        "too bright",
        "too dark",
    ],
)
def test_bad_case_is_refused_by_one_sentence_with_its_file(case, changes, sentence):
    with pytest.raises(ValueError, match=rf"^{sentence}.*image\.nii\.gz'\.$"):
        check(case(**changes))


@pytest.mark.parametrize("settings", [{}, {"roi_size": (5, 6, 8)}], ids=str)
def test_affine_that_rounds_differently_passes_and_smaller_volume_than_the_window_does_not(case, settings):
    good = case(label_affine=shifted(1e-4))
    if not settings:
        check(good)
        return
    with pytest.raises(ValueError, match=r"at least as large as the window \(5, 6, 8\), got \(5, 6, 7\) for"):
        check(good, **settings)


def test_range_and_window_are_those_after_preprocessing(case):
    scale = ScaleIntensityRanged("image", a_min=-100, a_max=100, b_min=-1, b_max=1, clip=True)
    bright = case(image=(ramp_with(0) * 500).astype(np.int16))
    check(bright, preprocessing=Compose([PREPROCESSING, scale]), value_range=(-1, 1))
    with pytest.raises(ValueError, match=r"lie in value_range \(-1, 1\) after preprocessing, got 0 to 500"):
        check(bright, value_range=(-1, 1))


def test_every_finite_intensity_passes_without_a_range(case):
    check(case(image=1e4 * ramp_with(0) - 7), value_range=None)
    with pytest.raises(ValueError, match=r"lie in value_range \(-inf, inf\) after preprocessing, got"):
        check(case(), preprocessing=lambda one: {"image": PREPROCESSING(one)["image"] / 0}, value_range=None)


def test_intensities_that_resampling_rounded_beyond_the_range_pass(case):
    check(case(image=ramp_with(1.00005)))


def test_preprocessing_that_makes_nan_is_refused(case):
    def divide(one):
        loaded = PREPROCESSING(one)
        return loaded | {"image": loaded["image"] / 0}

    with pytest.raises(ValueError, match=r"image must lie in value_range .*got nan to"):
        check(case(), preprocessing=divide)


@pytest.mark.parametrize("kind", ["image", "label"])
def test_missing_file_is_refused(case, kind):
    paths = case()
    Path(paths[kind]).unlink()
    with pytest.raises(ValueError, match=rf"^{kind} must be a file, got '.*{kind}\.nii\.gz'\.$"):
        check(paths)


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("content", [b"", b"no volume", None], ids=["empty", "text", "cut off"])
def test_unreadable_file_is_refused(case, kind, content):
    paths = case()
    file = Path(paths[kind])
    file.write_bytes(file.read_bytes()[:100] if content is None else content)
    with pytest.raises(ValueError, match=rf"^{kind} must be a readable volume, got '.*{kind}\.nii\.gz' \("):
        check(paths)


def test_no_cases_are_refused():
    with pytest.raises(ValueError, match="data must hold at least one case, got an empty list"):
        check()


def test_bad_case_after_a_good_one_is_found(case, tmp_path):
    with pytest.raises(ValueError, match=r"image must be a file, got '.*absent\.nii\.gz'"):
        check(case(), {"image": str(tmp_path / "absent.nii.gz"), "label": "absent"})


def test_exit_on_error_ends_the_process_with_the_sentence(case):
    with pytest.raises(SystemExit, match=r"^image must not be constant, got 3 everywhere for") as caught:
        check(case(image=np.full(SHAPE, 3, np.int16)), exit_on_error=True)
    assert isinstance(caught.value.code, str)  # which Python prints, and exits with 1
    assert caught.value.__suppress_context__


def test_checks_can_be_called_from_a_config(case):
    config = {
        "imports": ["$import vafa_monai.data as vafa_data"],
        "data": [case()],
        "check": "$vafa_data.check_cases(@data, num_classes=2, exit_on_error=True)",
    }
    with pytest.raises(SystemExit, match="label must hold whole class indices from 0 to 1"):
        ConfigParser(config).get_parsed_content("check")


def test_two_images_of_one_name_are_refused_where_results_would_collide(tmp_path):
    data = [{"image": f"{folder}/ct.nii.gz", "label": "seg.nii.gz"} for folder in ("p1", "p2")]
    with pytest.raises(ValueError, match=r"images must have file names that differ, got 'ct\.nii\.gz' twice"):
        check_cases(data, num_classes=2, unique_names=True)


@pytest.mark.parametrize(
    "case", [{"image": "a.nii.gz"}, {"image": ["a.nii.gz"], "label": "b.nii.gz"}], ids=["none", "list"]
)
def test_a_case_without_one_path_each_is_refused(case):
    with pytest.raises(ValueError, match=r"case must have one path as '(image|label)', got"):
        check_cases([case], num_classes=2)

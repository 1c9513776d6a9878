"""Every case and checkpoint that cannot be used has a sentence of its own."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose, EnsureChannelFirstd, Lambdad, LoadImaged, ScaleIntensityRanged

from vafa_monai.data import check_cases, first_cases, written_cases

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
        (
            {"label": ramp_with(1)},
            "label must hold whole class indices from 0 to 2, got values from 0 to 1, 207 of them not whole for",
        ),
        ({"label": ramp_with(np.nan)}, "label must hold whole class indices from 0 to 2, got values from nan to nan"),
        (
            {"label": np.zeros((5, 6, 8), np.uint8)},
            r"label must have the shape of its image \(5, 6, 7\), got \(5, 6, 8\) for",
        ),
        (
            {"label_affine": shifted(0.5)},
            r"label must lie on its image to within 0\.1 voxels, got a corner 0\.25 voxels away by its affine for",
        ),
        (
            {"image_affine": np.diag([-1.0, 2.0, 3.0, 1.0])},
            r"label must lie on its image to within 0\.1 voxels, got a corner 8 voxels away by its affine for",
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


@pytest.mark.parametrize(("shape", "found"), [((*SHAPE, 2), 2), ((*SHAPE, 1), 1), (SHAPE, 1)], ids=str)
@pytest.mark.parametrize("wanted", [1, 2, 4])
def test_channels_are_those_that_the_network_takes(case, shape, found, wanted):
    ramp = np.linspace(0, 1, np.prod(shape), dtype=np.float32).reshape(shape)
    if found == wanted:
        check(case(image=ramp), in_channels=wanted)
        return
    rule = f"have the {wanted} channels? that the network takes, got {found} for"
    with pytest.raises(ValueError, match=rf"^image must {rule} '.*'; the last axis of a 4D file is its channels\.$"):
        check(case(image=ramp), in_channels=wanted)
    check(case(image=ramp))  # what a network takes is not known


def test_lists_of_modalities_are_channels(case, tmp_path):
    one = case()
    several = {**one, "image": [one["image"]] * 3}
    check(several, in_channels=3)
    with pytest.raises(ValueError, match="have the 1 channel that the network takes, got 3 for"):
        check(several, in_channels=1)


def test_range_and_window_are_those_after_preprocessing(case):
    scale = ScaleIntensityRanged("image", a_min=-100, a_max=100, b_min=-1, b_max=1, clip=True)
    bright = case(image=(ramp_with(0) * 500).astype(np.int16))
    check(bright, preprocessing=Compose([PREPROCESSING, scale]), value_range=(-1, 1))
    with pytest.raises(ValueError, match=r"lie in value_range \(-1, 1\) after preprocessing, got 0 to 500"):
        check(bright, value_range=(-1, 1))


def test_every_channel_is_held_to_its_own_range(case):
    def two(one):
        loaded = PREPROCESSING(one)
        return loaded | {"image": torch.cat([loaded["image"], 300 * loaded["image"]])}

    check(case(), preprocessing=two, value_range=[[0, 1], [0, 300]])
    with pytest.raises(
        ValueError, match=r"image must lie in value_range \(0, 200\) in channel 1 after .*, got 0 to 300"
    ):
        check(case(), preprocessing=two, value_range=[[0, 1], [0, 200]])
    with pytest.raises(ValueError, match="value_range must have a pair for each of 2 channels, got 1 for"):
        check(case(), preprocessing=two, value_range=[[0, 1]])


def test_every_finite_intensity_passes_without_a_range(case):
    check(case(image=1e4 * ramp_with(0) - 7), value_range=None)
    with pytest.raises(ValueError, match=r"lie in value_range \(-inf, inf\) after preprocessing, got"):
        check(case(), preprocessing=lambda one: {"image": PREPROCESSING(one)["image"] / 0}, value_range=None)


def test_intensities_that_resampling_rounded_beyond_the_range_pass(case):
    check(case(image=ramp_with(1.00005)))


@pytest.mark.parametrize("mm", [0.19, -0.19, 0.21, -0.21])
def test_label_may_lie_a_tenth_of_a_voxel_off(case, mm):
    """The second axis has voxels of 2 mm."""
    with nullcontext() if abs(mm) < 0.2 else pytest.raises(ValueError, match=r"got a corner 0\.105 voxels away"):
        check(case(label_affine=shifted(mm)))


@pytest.mark.parametrize("value", [1.00009, -0.00009, 1.00011, -0.00011])
def test_intensity_may_lie_a_ten_thousandth_of_the_width_outside(case, value):
    with nullcontext() if abs(value - 0.5) < 0.5001 else pytest.raises(ValueError, match="lie in value_range"):
        check(case(image=ramp_with(value)))


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
    "case",
    [{"image": "a.nii.gz"}, {"image": [], "label": "b.nii.gz"}, {"image": [1], "label": "b.nii.gz"}, "a.nii.gz"],
    ids=["none", "empty list", "number", "no dictionary"],
)
def test_a_case_without_paths_is_refused(case):
    with pytest.raises(ValueError, match=r"case must have a path, or a list of them, as '(image|label)', got"):
        check_cases([case], num_classes=2)


# Whatever the transforms load


AFFINE = np.eye(4)


def write(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE, kind: type = nib.Nifti1Image) -> str:
    nib.save(kind(volume, affine), path)
    return str(path)


RAMP = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16)
CLASSES = (RAMP % 3).astype(np.uint8)


@pytest.fixture
def label(tmp_path: Path) -> str:
    return write(tmp_path / "label.nii.gz", CLASSES)


@pytest.mark.parametrize("preprocessing", [PREPROCESSING, None], ids=["loaded by the transforms", "no transforms"])
@pytest.mark.parametrize(
    "save",
    [
        lambda path: write(path / "a.nii.gz", np.stack([RAMP] * 4, axis=-1)),
        lambda path: write(path / "a.nii.gz", RAMP[..., None]),
        lambda path: [write(path / f"{name}.nii.gz", RAMP) for name in "ab"],
        lambda path: write(path / "a.nii", RAMP),
        lambda path: write(path / "a.nii", RAMP, kind=nib.Nifti2Image),
        lambda path: write(path / "a.nii.bz2", RAMP),
        lambda path: write(path / "a.nii.gz", RAMP, np.diag([1, 1, 1, 1.0]) + np.eye(4, k=3) * 0.05),
        lambda path: [np.save(path / "a.npy", RAMP), str(path / "a.npy")][1],
        lambda path: [np.savez(path / "a.npz", RAMP), str(path / "a.npz")][1],
        lambda path: write(path / "a.nii.gz", np.stack([RAMP, np.zeros_like(RAMP)], axis=-1)),
    ],
    ids=[
        "channels",
        "one channel",
        "list",
        "nii",
        "NIfTI-2",
        "bz2",
        "0.05 voxels off",
        "npy",
        "npz",
        "absent modality",
    ],
)
def test_what_monai_loads_passes(tmp_path, label, save, preprocessing):
    image = save(tmp_path)
    check_cases([{"image": image, "label": label}], num_classes=3, value_range=None, preprocessing=preprocessing)


def test_nrrd_passes_where_its_reader_is_installed(tmp_path, label):
    nrrd = pytest.importorskip("nrrd")
    header = {"space": "right-anterior-superior", "space directions": np.eye(3), "space origin": np.zeros(3)}
    nrrd.write(str(tmp_path / "a.nrrd"), RAMP, header)
    check_cases([{"image": str(tmp_path / "a.nrrd"), "label": label}], num_classes=3, value_range=None)


RGB = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize(
    ("volume", "dtype"),
    [
        (np.zeros(SHAPE, RGB), r"\[\('R', 'u1'\)"),
        (RAMP.astype(np.complex64), "complex64"),
    ],
    ids=["RGB", "complex"],
)
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.npy"])
def test_colors_and_complex_numbers_are_refused(tmp_path, label, kind, volume, dtype, name):
    np.save(tmp_path / name, volume) if name == "a.npy" else write(tmp_path / name, volume)
    case = {"image": write(tmp_path / "b.nii.gz", RAMP), "label": label, kind: str(tmp_path / name)}
    with pytest.raises(ValueError, match=rf"^{kind} must be a readable volume, .*one real number per voxel.*{dtype}"):
        check_cases([case], num_classes=3)


def test_arrays_of_objects_are_refused_before_a_reader_sees_them(tmp_path, label):
    for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
        save(tmp_path / name, np.array([print], dtype=object))
        with pytest.raises(ValueError, match="one real number per voxel, and its voxels are of type object"):
            check_cases([{"image": str(tmp_path / name), "label": label}], num_classes=3)
    (tmp_path / "a.npy").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(ValueError, match="it is no npy file"):
        check_cases([{"image": str(tmp_path / "a.npy"), "label": label}], num_classes=3)


@pytest.mark.parametrize(
    ("save", "sentence"),
    [
        (lambda path: write(path, RAMP[..., 0]), "image must be 3D, with channels or without, got"),
        (lambda path: write(path, RAMP[..., None, None].repeat(3, -1)), "image must be 3D, with channels or without"),
        (lambda path: [write(path, RAMP), write(path.with_name("b.nii.gz"), RAMP[:4])], "case must be readable by the"),
    ],
    ids=["2D", "vectors", "modalities of two sizes"],
)
def test_what_cannot_be_attacked_is_refused_in_one_sentence(tmp_path, label, save, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        check_cases([{"image": save(tmp_path / "a.nii.gz"), "label": label}], num_classes=3, value_range=None)


def test_label_of_several_channels_is_refused(tmp_path):
    paths = {
        "image": write(tmp_path / "a.nii.gz", RAMP),
        "label": write(tmp_path / "b.nii.gz", np.stack([CLASSES] * 2, -1)),
    }
    with pytest.raises(ValueError, match=r"label must have one channel, got 2 for '.*a\.nii\.gz'\."):
        check_cases([paths], num_classes=3)


# What the transforms make


def test_constant_after_clipping_is_refused(case):
    clip = ScaleIntensityRanged("image", a_min=5, a_max=9, b_min=0, b_max=1, clip=True)
    with pytest.raises(ValueError, match=r"image must not be constant after preprocessing, got 0 everywhere"):
        check(case(), preprocessing=Compose([PREPROCESSING, clip]))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (
            lambda volume: volume + 0.5,
            "label must hold whole class indices from 0 to 2 after preprocessing, got .* not whole",
        ),
        (
            lambda volume: volume + 1,
            "label must hold whole class indices from 0 to 2 after preprocessing, got values from 1 to 3",
        ),
        (
            lambda volume: volume[:, 1:],
            r"label must have the shape of its image \(5, 6, 7\) after preprocessing, got \(4,",
        ),
    ],
    ids=["interpolated", "numbered anew", "cropped alone"],
)
def test_transforms_that_spoil_the_label_are_refused(case, spoil, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(case(), preprocessing=Compose([PREPROCESSING, Lambdad("label", spoil)]))


def test_loader_of_ones_own_is_used(tmp_path):
    for name in ("image", "label"):
        (tmp_path / f"{name}.raw").write_bytes(RAMP.tobytes())

    def load(one):
        return {kind: torch.frombuffer(bytearray(Path(one[kind]).read_bytes()), dtype=torch.int16) for kind in one}

    shaped = Lambdad(["image", "label"], lambda volume: volume.reshape(1, *SHAPE))
    paths = {name: str(tmp_path / f"{name}.raw") for name in ("image", "label")}
    settings = {"num_classes": RAMP.size, "value_range": None}
    check_cases([paths], preprocessing=Compose([load, shaped]), **settings)
    with pytest.raises(ValueError, match="case must be readable by the transforms"):
        check_cases([paths], **settings)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["p1/ct.nii.gz", "p2/ct.nii"], r"'ct\.nii\.gz' and 'ct\.nii'"),
        (["p1/CT.nii.gz", "p2/ct.nii.gz"], r"'CT\.nii\.gz' and 'ct\.nii\.gz'"),
        (["ct.nii.gz", "ct.nii.gz"], r"'ct\.nii\.gz' twice"),
    ],
    ids=["another ending", "capitals", "the same file"],
)
def test_images_whose_results_would_have_one_name_are_refused(names, found):
    data = [{"image": name, "label": "seg.nii.gz"} for name in names]
    with pytest.raises(ValueError, match=f"images must have file names that differ, got {found}"):
        check_cases(data, num_classes=2, unique_names=True)


# Damage


def flip(content: bytearray) -> bytearray:
    content[len(content) // 2] ^= 1
    return content


@pytest.mark.parametrize(
    "spoil",
    [
        flip,
        lambda content: content[:-4],
        lambda content: content[:-8] + bytes(8),
        lambda content: content + b"garbage",
        lambda content: content[: len(content) // 2],
        lambda content: content[1:],
    ],
    ids=["one bit", "no length", "checksum of zero", "garbage behind", "half", "first byte lost"],
)
@pytest.mark.parametrize("kind", ["image", "label"])
def test_damaged_gzip_is_refused(case, kind, spoil):
    rng = np.random.default_rng(0)
    paths = case(image=rng.random(SHAPE).astype(np.float32), label=rng.integers(0, 3, SHAPE).astype(np.uint8))
    path = Path(paths[kind])
    path.write_bytes(bytes(spoil(bytearray(path.read_bytes()))))
    with pytest.raises(ValueError, match=rf"^{kind} must be a readable volume, got '.*{kind}\.nii\.gz' \("):
        check(paths)


def test_gzip_of_several_members_passes(case):
    paths = case()
    content = gzip.decompress(Path(paths["image"]).read_bytes())
    Path(paths["image"]).write_bytes(gzip.compress(content[:300]) + gzip.compress(content[300:]) + bytes(8))
    check(paths)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_file_that_is_shorter_than_its_header_says_is_refused(tmp_path, label, name):
    write(tmp_path / "b.nii", RAMP)
    content = (tmp_path / "b.nii").read_bytes()[:-2]
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ValueError, match=r"image must be a readable volume, got .* \(it ends after 770 of 772 bytes\)"):
        check_cases([{"image": str(tmp_path / name), "label": label}], num_classes=3)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.npy"])
def test_header_that_claims_more_than_fits_into_memory_is_refused_unread(tmp_path, label, name):
    if name == "a.npy":
        np.lib.format.write_array_header_1_0(
            (tmp_path / name).open("wb"), {"descr": "<f4", "fortran_order": False, "shape": (1000, 1000, 1000)}
        )
    else:
        header = nib.Nifti1Header()
        header.set_data_shape((1000, 1000, 1000))
        header.set_data_dtype(np.float32)
        content = header.binaryblock + bytes(4)
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(ValueError, match=r"\(needs 4 GB in memory, more than 2; set VAFA_MONAI_LARGEST_GB"):
        check_cases([{"image": str(tmp_path / name), "label": label}], num_classes=3)


def test_gzip_that_inflates_behind_its_voxels_is_refused(case, monkeypatch):
    paths = case()
    path = Path(paths["image"])
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(10**7)))
    check(paths)
    monkeypatch.setenv("VAFA_MONAI_LARGEST_GB", "0.005")
    with pytest.raises(ValueError, match=r"in memory, more than 0\.005; set VAFA_MONAI_LARGEST_GB"):
        check(paths)


@pytest.mark.parametrize("number", [-1, 0, 2.0, True, "3"])
def test_number_of_cases_that_cuts_the_end_off_is_refused(number):
    with pytest.raises(
        ValueError, match=rf"num_cases must be a whole number from 1 on, or None for all, got {number!r}"
    ):
        first_cases([{"image": "a"}, {"image": "b"}], number)


def test_all_cases_or_the_first_of_them(tmp_path):
    cases = [{"image": "a"}, {"image": "b"}, {"image": "c"}]
    assert first_cases(cases) == first_cases(cases, 9) == cases
    assert first_cases(cases, 2) == cases[:2]


def test_written_cases_are_those_asked_for_whatever_lies_in_the_folder(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}_image.nii.gz").write_bytes(b"")
    (case,) = written_cases([{"image": "data/one.nii.gz", "label": "x"}], tmp_path)
    assert {kind: path.rpartition("/")[2] for kind, path in case.items()} == {
        "image": "one_image.nii.gz",
        "label": "one_label.nii.gz",
        "native_label": "one_native_label.nii.gz",
    }
    (several,) = written_cases([{"image": ["data/one_t1.nii", "data/one_t2.nii"]}], tmp_path)
    assert several["image"].endswith("/one_t1_image.nii.gz")

"""What the viewer is given: volumes that unpack to what was kept, once each, and small enough."""

import base64
import zlib

import numpy as np
import pytest

from vafa_monai.reports.row import median_frequency, spectrum_rows
from vafa_monai.reports.viewer import load_volume, pack, viewer_content
from vafa_monai.results import load_results
from vafa_monai.results.result_set import Comparison


@pytest.fixture
def loaded(results_dir):
    """Comparison and volumes of all results."""

    def load():
        results = load_results(results_dir)
        return Comparison(results), {(r.model, r.attack): one for r in results if (one := load_volume(r)) is not None}

    return load


def unpack(text, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape)


def edit_arrays(path, **changes):
    file = path.with_suffix(".npz")
    with np.load(file) as arrays:
        content = {key: arrays[key] for key in arrays.files}
    np.savez(file, **{key: value for key, value in (content | changes).items() if value is not None})


def test_volumes_unpack_slice_by_slice_with_the_first_axis_to_the_right():
    volume = np.random.default_rng(0).integers(0, 255, (4, 3, 2)).astype(np.uint8)
    slices = unpack(pack(volume), (2, 3, 4))
    for index in range(2):
        np.testing.assert_array_equal(slices[index], np.rot90(volume[..., index]))


def test_content_names_models_attacks_and_their_figures(write_result, loaded):
    for attack in ("identity", "pgd"):
        write_result("standard", attack, 0.8, role="control" if attack == "identity" else "attack", slices=True)
    comparison, volumes = loaded()
    content = viewer_content(comparison, volumes)
    (model,) = content["models"]
    (attack,) = model["attacks"]
    assert (model["name"], model["case"], model["size"], model["start"]) == ("standard", "one", [12, 10, 5], 0)
    assert model["ratio"] == pytest.approx(12 * 2.0 / (10 * 1.0), abs=1e-4)
    assert attack["title"] == "PGD"
    assert attack["dice"] == pytest.approx([0.99, 0.79, 0.79])
    kept = volumes["standard", "pgd"]
    shape = (5, 10, 12)
    np.testing.assert_array_equal(
        unpack(content["volumes"][attack["delta"]], shape), kept.delta.view(np.uint8).transpose(2, 1, 0)[:, ::-1]
    )
    np.testing.assert_array_equal(unpack(content["volumes"][model["label"]], shape)[2], np.rot90(kept.label[..., 2]))
    assert model["label"] == model["pred"]  # the clean run predicts the label: kept once
    assert len(content["volumes"]) == len(set(content["volumes"]))


def test_viewer_begins_with_the_attack_that_harms_most(write_result, loaded):
    write_result("standard", "identity", 0.9, role="control", slices=True)
    for attack, dice in (("fgsm", 0.8), ("bim", 0.5), ("pgd", 0.7)):
        write_result("standard", attack, dice, slices=True)
    (model,) = viewer_content(*loaded())["models"]
    assert model["attacks"][model["start"]]["title"] == "BIM"


def test_too_many_characters_cost_slices(write_result, loaded):
    write_result("standard", "identity", 0.9, role="control", slices=True)
    write_result("standard", "pgd", 0.8, slices=True)
    comparison, volumes = loaded()
    whole = viewer_content(comparison, volumes)
    size = sum(map(len, whole["volumes"]))
    fewer = viewer_content(comparison, volumes, largest=size - 1)
    assert fewer["every"] > whole["every"] == 1
    assert fewer["models"][0]["size"][2] == len(range(0, 5, fewer["every"]))
    assert sum(map(len, fewer["volumes"])) < size
    assert viewer_content(comparison, volumes, largest=10) is None


def test_without_a_clean_run_there_is_nothing_to_compare_with(write_result, loaded):
    write_result("standard", "pgd", 0.8, slices=True)
    assert viewer_content(*loaded()) is None


def test_volume_of_another_case_is_left_out(write_result, loaded):
    write_result("standard", "identity", 0.9, role="control", slices=True)
    write_result("standard", "pgd", 0.8, slices=True)
    write_result("standard", "bim", 0.8, slices=True, cases=("other", "two"))
    assert [one["title"] for one in viewer_content(*loaded())["models"][0]["attacks"]] == ["PGD"]


def test_result_without_a_volume_has_none(write_result, results_dir):
    path = write_result("standard", "pgd", 0.8, slices=True)
    edit_arrays(path, volume_clean=None)
    assert load_volume(load_results(results_dir)[0]) is None
    write_result("standard", "pgd", 0.8)
    assert load_volume(load_results(results_dir)[0]) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"volume_pred": None}, r"volumes of standard/pgd.npz must have every array, got \['volume_pred'\]"),
        ({"volume_clean": np.zeros((12, 10, 5))}, "volumes of standard/pgd.npz must be of kind .*, got .*float64"),
        ({"volume_pred": np.zeros((2, 2, 2), np.uint8)}, "must be of one 3D shape, got"),
        ({"volume_pred": np.full((12, 10, 5), 7, np.uint8)}, "must have classes below 3, got 7"),
        ({"volume_spacing": np.array([1, 0, 1])}, "must have spacing, scale and spectrum as finite numbers"),
        ({"volume_delta_grey": np.float32("nan")}, "must have spacing, scale and spectrum as finite numbers"),
    ],
)
def test_odd_volumes_are_refused(write_result, results_dir, changes, message):
    edit_arrays(write_result("standard", "pgd", 0.8, slices=True), **changes)
    with pytest.raises(ValueError, match=message):
        load_volume(load_results(results_dir)[0])


def test_file_that_holds_no_arrays_is_refused(write_result, results_dir):
    write_result("standard", "pgd", 0.8, slices=True).with_suffix(".npz").write_bytes(b"text")
    with pytest.raises(ValueError, match=r"slices must be a file of arrays, got .* for standard/pgd.npz"):
        load_volume(load_results(results_dir)[0])


def test_spectrum_has_a_row_for_what_changed(write_result, loaded):
    write_result("standard", "identity", 0.9, role="control", slices=True)
    write_result("standard", "pgd", 0.8, slices=True)
    (row,) = spectrum_rows(*loaded())
    assert (row.attack, row.model, row.energy) == ("pgd", "standard", (0.75, 0.25, 0, 0))
    width = 3**0.5 / 2 / 4
    assert row.median == pytest.approx(width * 0.5 / 0.75)
    assert row.fine == pytest.approx(0.25 * (2 * width - 0.25) / width)


def test_median_lies_in_the_band_that_reaches_half():
    assert median_frequency([0, 0, 1, 0]) == pytest.approx(2.5 * 3**0.5 / 8)

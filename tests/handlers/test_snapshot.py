"""What is kept of a case for the report: small, in bytes, and cropped by the label alone."""

import numpy as np
import pytest

from vafa_monai.handlers.robustness_report import LARGEST, case_snapshot, small_volume


def volumes_of(shape, organ, change=0.02):
    """A case whose organ fills a box; the attack adds ``change`` everywhere and loses the organ."""
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(*edges) for edges in organ)] = 2
    clean = np.linspace(0, 0.9, label.size, dtype=np.float32).reshape(shape)
    return {"clean": clean, "adv": clean + np.float32(change), "label": label, "pred": np.zeros_like(label)}


def test_small_case_is_kept_whole():
    volumes = volumes_of((9, 8, 7), [(2, 4), (3, 6), (1, 5)])
    kept = small_volume(volumes, (1.5, 0.8, 2.5))
    np.testing.assert_array_equal(kept["volume_label"], volumes["label"])
    np.testing.assert_array_equal(kept["volume_clean"], np.rint(255 * volumes["clean"]))
    assert kept["volume_spacing"] == pytest.approx([1.5, 0.8, 2.5])


def test_perturbation_is_given_back_to_half_a_step_of_its_scale():
    volumes = volumes_of((9, 8, 7), [(2, 4), (3, 6), (1, 5)])
    volumes["adv"][0, 0, 0] -= 0.06
    kept = small_volume(volumes, (1, 1, 1))
    assert kept["volume_delta_grey"] == pytest.approx(0.04 * 255, rel=1e-4)
    gray = kept["volume_delta"] * float(kept["volume_delta_grey"]) / 127
    np.testing.assert_allclose(gray, 255 * (volumes["adv"] - volumes["clean"]), atol=0.5 * 0.04 * 255 / 127 + 1e-4)


def test_clean_case_has_no_perturbation_and_no_energy():
    kept = small_volume(volumes_of((9, 8, 7), [(2, 4), (3, 6), (1, 5)], change=0), (1, 1, 1))
    assert not kept["volume_delta"].any()
    assert kept["volume_delta_grey"] == kept["spectrum_energy"].sum() == 0


def test_large_case_is_cropped_to_its_organs():
    volumes = volumes_of((200, 100, 60), [(50, 100), (10, 60), (20, 40)])
    kept = small_volume(volumes, (1, 1, 2))
    first, last = 50 - 6, 100 + 6  # 12 % of 50 voxels on each side
    assert kept["volume_label"].shape == (62, 62, 24)
    np.testing.assert_array_equal(kept["volume_label"], volumes["label"][first:last, 4:66, 18:42])


def test_what_is_still_too_large_keeps_every_nth_voxel():
    volumes = volumes_of((300, 150, 20), [(0, 300), (0, 150), (0, 20)])
    kept = small_volume(volumes, (0.5, 1, 3))
    np.testing.assert_array_equal(kept["volume_label"], volumes["label"][::4, ::2])
    assert kept["volume_spacing"] == pytest.approx([2, 2, 3])


@pytest.mark.parametrize("shape", [(97, 5, 5), (96, 193, 49), (300, 20, 97)])
def test_no_axis_is_longer_than_allowed(shape):
    kept = small_volume(volumes_of(shape, [(0, 1), (0, 1), (0, 1)]) | {"label": np.zeros(shape, np.uint8)}, (1, 1, 1))
    assert all(size <= largest for size, largest in zip(kept["volume_pred"].shape, LARGEST, strict=True))


def test_crop_does_not_follow_the_prediction():
    volumes = volumes_of((200, 100, 60), [(50, 100), (10, 60), (20, 40)])
    invented = volumes | {"pred": np.ones_like(volumes["label"])}
    shapes = [small_volume(one, (1, 1, 1))["volume_pred"].shape for one in (volumes, invented)]
    assert shapes[0] == shapes[1]


def test_slice_and_volume_come_from_the_case_and_its_spacing(cases):
    label = cases[0]["label"]
    case = cases[0] | {"clean_image": cases[0]["image"] * 0.5}
    kept = case_snapshot(case, {"pred": label, "label": label})
    middle = kept["volume_label"].shape[-1] // 2
    assert kept["volume_spacing"] == pytest.approx([1.5, 0.8, 2.5])
    np.testing.assert_array_equal(kept["label"], label[0, ..., middle])
    np.testing.assert_array_equal(kept["volume_label"], label[0])
    np.testing.assert_allclose(kept["volume_clean"], 255 * 0.5 * cases[0]["image"][0], atol=0.51)


def test_label_of_the_grid_of_the_image_is_taken_where_the_metrics_are_elsewhere(cases):
    label = cases[0]["label"]
    elsewhere = label.new_zeros(1, 3, 3, 3)
    kept = case_snapshot(cases[0], {"pred": elsewhere, "label": elsewhere, "grid_pred": label})
    np.testing.assert_array_equal(kept["volume_pred"], label[0])
    np.testing.assert_array_equal(kept["volume_label"], label[0])


def test_volume_and_spectrum_do_not_depend_on_the_intensity_unit(cases):
    label = cases[0]["label"]
    case = cases[0] | {"clean_image": cases[0]["image"] * 0.5}
    scaled = case | {key: case[key] * 425 - 175 for key in ("image", "clean_image")}
    unit, hu = (
        case_snapshot(one, {"pred": label, "label": label}, value_range)
        for one, value_range in ((case, (0.0, 1.0)), (scaled, (-175.0, 250.0)))
    )
    np.testing.assert_allclose(hu["clean"], 425 * unit["clean"] - 175, rtol=1e-5)
    np.testing.assert_allclose(hu["volume_clean"].astype(int), unit["volume_clean"], atol=1)
    np.testing.assert_allclose(hu["volume_delta"].astype(int), unit["volume_delta"], atol=1)
    np.testing.assert_allclose(hu["volume_delta_grey"], unit["volume_delta_grey"], rtol=1e-4)
    np.testing.assert_allclose(hu["spectrum_energy"], unit["spectrum_energy"], atol=1e-5)

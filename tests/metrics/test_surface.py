"""Surface metrics against distances between all pairs of surface voxels, and what an attack could gain by them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate
from monai.metrics import HausdorffDistanceMetric
from scipy.spatial.distance import cdist
from torch import Tensor

from vafa_monai.metrics import (
    HausdorffDistance95Metric,
    NormalizedSurfaceDiceMetric,
    compute_hausdorff_distance_95,
    compute_normalized_surface_dice,
)

SPACING = (1.5, 0.8, 2.5)
FUNCTIONS = [compute_hausdorff_distance_95, compute_normalized_surface_dice]
METRICS = [HausdorffDistance95Metric, NormalizedSurfaceDiceMetric]
every_function = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
every_metric = pytest.mark.parametrize("kind", METRICS, ids=lambda kind: kind.__name__)


def surface_points(mask: Tensor, spacing: tuple[float, ...]) -> np.ndarray:
    """Positions in mm of the voxels that have a neighbor outside the mask or the image."""
    padded = np.pad(mask.numpy() > 0, 1)
    inner = padded.copy()
    for axis in range(3):
        inner &= np.roll(padded, 1, axis) & np.roll(padded, -1, axis)
    return np.argwhere(padded & ~inner) * spacing


def distances(pred: Tensor, truth: Tensor, spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Distances of each surface voxel to the other surface, both ways."""
    between = cdist(surface_points(pred, spacing), surface_points(truth, spacing))
    return between.min(1), between.min(0)


def hausdorff_oracle(pred: Tensor, truth: Tensor, spacing: tuple[float, ...]) -> float:
    return max(np.percentile(one_way, 95) for one_way in distances(pred, truth, spacing))


def surface_dice_oracle(pred: Tensor, truth: Tensor, spacing: tuple[float, ...], tolerance: float) -> float:
    return float(np.mean(np.concatenate(distances(pred, truth, spacing)) <= tolerance))


def over_organs(oracle: Callable[..., float], pred: Tensor, truth: Tensor, *rest: object) -> Tensor:
    """Table of the oracle for all samples and organs."""
    rows = [
        [oracle(p, t, *rest) for p, t in zip(*sample, strict=True)]
        for sample in zip(pred[:, 1:], truth[:, 1:], strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def slab(*spans: tuple[int, int], shape: tuple[int, int, int] = (4, 5, 30)) -> Tensor:
    """One-hot ``(1, 1 + organs, H, W, D)``: organs that fill H and W and the given span of D."""
    masks = torch.zeros(1, 1 + len(spans), *shape)
    for organ, (first, last) in enumerate(spans, start=1):
        masks[:, organ, ..., first:last] = 1
    masks[:, 0] = 1 - masks[:, 1:].amax(1)
    return masks


# Values


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_hausdorff_distance_equals_brute_force(organs, spacing, seed):
    pred, truth = organs(2 * seed), organs(2 * seed + 1)
    expected = over_organs(hausdorff_oracle, pred, truth, spacing)
    torch.testing.assert_close(compute_hausdorff_distance_95(pred, truth, spacing), expected)


@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), SPACING], ids=str)
def test_surface_dice_equals_brute_force(organs, spacing, tolerance):
    pred, truth = organs(0), organs(1)
    expected = over_organs(surface_dice_oracle, pred, truth, spacing, tolerance)
    torch.testing.assert_close(compute_normalized_surface_dice(pred, truth, spacing, tolerance), expected)


@pytest.mark.parametrize(("axis", "step"), list(enumerate(SPACING)), ids=["H", "W", "D"])
def test_shift_of_a_voxel_is_a_shift_by_its_spacing_along_that_axis(axis, step):
    truth = torch.zeros(1, 2, 9, 9, 9)
    truth[:, 1, 4, 4, 4] = 1
    shifted = truth.roll(3, dims=2 + axis)
    assert compute_hausdorff_distance_95(shifted, truth, SPACING).item() == pytest.approx(3 * step)
    assert compute_normalized_surface_dice(shifted, truth, SPACING, tolerance=3 * step - 0.01).item() == 0
    assert compute_normalized_surface_dice(shifted, truth, SPACING, tolerance=3 * step + 0.01).item() == 1


def test_distance_grows_with_the_voxel_size(organs):
    pred, truth = organs(0), organs(1)
    small, large = (compute_hausdorff_distance_95(pred, truth, [k * step for step in SPACING]) for k in (1, 3))
    torch.testing.assert_close(large, 3 * small)


def test_equal_segmentations_have_distance_zero_and_surface_dice_one(organs):
    truth = organs(0)
    assert torch.equal(compute_hausdorff_distance_95(truth, truth, SPACING), torch.zeros(2, 3))
    assert torch.equal(compute_normalized_surface_dice(truth, truth, SPACING), torch.ones(2, 3))


@every_function
def test_metrics_are_symmetric(function, organs):
    torch.testing.assert_close(
        function(organs(0), organs(1), SPACING), function(organs(1), organs(0), SPACING), rtol=1e-6, atol=0
    )


@every_function
def test_a_batch_equals_its_samples(function, organs):
    pred, truth = organs(0), organs(1)
    single = [function(pred[i : i + 1], truth[i : i + 1], SPACING) for i in range(2)]
    assert torch.equal(function(pred, truth, SPACING), torch.cat(single))


@every_function
def test_the_background_does_not_count(function, organs):
    pred, truth = organs(0), organs(1)
    expected = function(pred, truth, SPACING)
    pred[:, 0] = 0
    assert torch.equal(function(pred, truth, SPACING), expected)


# Lost and invented organs


@pytest.mark.parametrize("which", ["lost", "invented"])
def test_lost_and_invented_organs_cost_the_image_diagonal_and_all_of_the_surface_dice(which):
    truth, empty = slab((5, 9)), slab((0, 0))
    pair = (empty, truth) if which == "lost" else (truth, empty)
    diagonal = ((4 * 1.5) ** 2 + (5 * 0.8) ** 2 + (30 * 2.5) ** 2) ** 0.5
    assert compute_hausdorff_distance_95(*pair, SPACING).item() == pytest.approx(diagonal)
    assert compute_normalized_surface_dice(*pair, SPACING).item() == 0


@every_function
def test_class_that_neither_has_is_undefined(function):
    assert function(slab((0, 0)), slab((0, 0)), SPACING).isnan().all()


def test_lost_organ_is_undefined_in_the_published_convention(organs):
    truth, pred = organs(0), organs(1)
    pred[:, 2] = 0
    ignored = compute_hausdorff_distance_95(pred, truth, SPACING, lost_organ="ignore")
    assert ignored.isnan().tolist() == [[False, True, False]] * 2
    counted = compute_hausdorff_distance_95(pred, truth, SPACING)
    torch.testing.assert_close(ignored[:, [0, 2]], counted[:, [0, 2]], rtol=0, atol=0)


def test_losing_an_organ_improves_the_mean_of_monai_and_worsens_ours():
    """The reason for these metrics: an attack that erases a badly segmented organ must not look harmless."""
    truth, pred = slab((2, 6), (10, 14)), slab((3, 7), (18, 22))
    erased = slab((3, 7), (0, 0))
    plain = HausdorffDistanceMetric(include_background=False, percentile=95)
    means = {"monai": [], "hd95": [], "nsd": []}
    for attacked in (pred, erased):
        plain.reset()
        plain(attacked, truth)
        means["monai"].append(plain.aggregate().item())
        means["hd95"].append(compute_hausdorff_distance_95(attacked, truth).nanmean().item())
        means["nsd"].append(compute_normalized_surface_dice(attacked, truth).nanmean().item())
    assert means["monai"] == [pytest.approx((1 + 8) / 2), pytest.approx(1)]
    assert means["hd95"][1] > means["hd95"][0]
    assert means["nsd"][1] <= means["nsd"][0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("organ", [1, 2, 3])
def test_deleting_an_organ_never_improves_a_metric(organs, seed, organ):
    truth, pred = organs(seed), organs(seed + 10)
    erased = pred.clone()
    erased[:, organ] = 0
    worse = compute_hausdorff_distance_95(erased, truth, SPACING) >= compute_hausdorff_distance_95(pred, truth, SPACING)
    assert worse.all()
    change = compute_normalized_surface_dice(erased, truth) - compute_normalized_surface_dice(pred, truth)
    assert (change <= 0).all()
    assert (change[:, organ - 1] < 0).all()


# Accumulation


@every_metric
def test_mean_is_over_the_cases_that_were_given(kind, organs):
    metric = kind(spacing=SPACING)
    for seed in (0, 2):
        metric(organs(seed), organs(seed + 1))
    function = FUNCTIONS[METRICS.index(kind)]
    rows = torch.cat([function(organs(seed), organs(seed + 1), SPACING) for seed in (0, 2)])
    torch.testing.assert_close(metric.get_buffer(), rows)
    assert metric.aggregate().item() == pytest.approx(rows.mean(1).mean().item())
    torch.testing.assert_close(metric.aggregate("mean_batch"), rows.mean(0))
    metric.reset()
    metric(organs(0), organs(0))
    assert metric.aggregate().item() == (0 if kind is HausdorffDistance95Metric else 1)


@every_metric
def test_list_of_cases_equals_their_batch(kind, organs):
    together, one_by_one = kind(spacing=SPACING), kind(spacing=SPACING)
    together(organs(0), organs(1))
    one_by_one(list(organs(0)), list(organs(1)))
    assert torch.equal(together.get_buffer(), one_by_one.get_buffer())


@every_metric
@pytest.mark.parametrize("turned", [False, True], ids=["straight", "turned"])
def test_spacing_comes_from_the_metadata_of_the_label(kind, organs, turned):
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    if turned:  # by a quarter about z, and mirrored: the voxel axes keep their spacing
        affine = torch.tensor([[0, -1, 0, 9], [-1, 0, 0, 4], [0, 0, 1, 2], [0, 0, 0, 1]]).double() @ affine
    from_metadata, given = kind(), kind(spacing=SPACING)
    from_metadata(list(organs(0)), [MetaTensor(case, affine=affine) for case in organs(1)])
    given(organs(0), organs(1))
    torch.testing.assert_close(from_metadata.get_buffer(), given.get_buffer())


@every_metric
def test_spacing_of_a_collated_batch_is_that_of_its_cases(kind, organs):
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    batch = list_data_collate([{"label": MetaTensor(case, affine=affine)} for case in organs(1)])["label"]
    from_metadata, given = kind(), kind(spacing=SPACING)
    from_metadata(organs(0), batch)
    given(organs(0), organs(1))
    torch.testing.assert_close(from_metadata.get_buffer(), given.get_buffer())


@every_metric
def test_every_case_of_a_collated_batch_keeps_its_own_spacing(kind, organs):
    affines = [torch.diag(torch.tensor([k, k, k, 1.0], dtype=torch.float64)) for k in (0.5, 4.0)]
    labels = [MetaTensor(case, affine=affine) for case, affine in zip(organs(1), affines, strict=True)]
    collated, listed = kind(), kind()
    collated(organs(0), list_data_collate([{"label": label} for label in labels])["label"])
    listed(list(organs(0)), labels)
    torch.testing.assert_close(collated.get_buffer(), listed.get_buffer())


def test_given_spacing_goes_before_the_metadata(organs):
    given, plain = HausdorffDistance95Metric(spacing=SPACING), HausdorffDistance95Metric(spacing=SPACING)
    given(list(organs(0)), [MetaTensor(case, affine=torch.eye(4) * 9) for case in organs(1)])
    plain(organs(0), organs(1))
    assert torch.equal(given.get_buffer(), plain.get_buffer())


def test_spacing_of_whole_millimeters_is_taken():
    distance = compute_hausdorff_distance_95(slab((0, 0)), slab((5, 9)), (1, 1, 2))
    assert distance.item() == pytest.approx((16 + 25 + 3600) ** 0.5)


@every_metric
def test_mean_of_nothing_is_undefined(kind):
    metric = kind(spacing=SPACING)
    metric(slab((0, 0)), slab((0, 0)))
    assert metric.aggregate().isnan().all()


def test_tolerance_of_the_metric_is_that_of_the_function(organs):
    metric = NormalizedSurfaceDiceMetric(spacing=SPACING, tolerance=2.0)
    metric(organs(0), organs(1))
    expected = compute_normalized_surface_dice(organs(0), organs(1), SPACING, 2.0)
    assert torch.equal(metric.get_buffer(), expected)


# Refusals


@every_metric
def test_label_without_metadata_needs_a_spacing(kind, organs):
    with pytest.raises(ValueError, match="spacing must be given for labels without metadata, got None"):
        kind()(organs(0), organs(1))


@every_metric
def test_missing_truth_is_refused(kind, organs):
    with pytest.raises(ValueError, match="y must be a one-hot truth, got None"):
        kind(spacing=SPACING)(organs(0))


@pytest.mark.parametrize(
    "call",
    [
        lambda: compute_hausdorff_distance_95(slab((1, 2)), slab((1, 2)), lost_organ="ignored"),
        lambda: HausdorffDistance95Metric(lost_organ="ignored"),
    ],
    ids=["function", "metric"],
)
def test_unknown_treatment_of_lost_organs_is_refused(call):
    with pytest.raises(ValueError, match="did you mean 'ignore'"):
        call()


def test_metric_can_be_built_from_json(organs):
    config = {"_target_": "vafa_monai.metrics.HausdorffDistance95Metric", "spacing": list(SPACING), "reduction": "none"}
    metric = ConfigParser({"metric": config | {"lost_organ": "ignore"}}).get_parsed_content("metric")
    metric(organs(0), organs(1))
    expected = compute_hausdorff_distance_95(organs(0), organs(1), SPACING)
    assert torch.equal(metric.aggregate(), expected)

"""Counting lost and invented organs."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.losses import Output
from vafa_monai.metrics import (
    HausdorffDistance95Metric,
    NormalizedSurfaceDiceMetric,
    OrganPresenceMetric,
    compute_hausdorff_distance_95,
    compute_normalized_surface_dice,
    compute_organ_presence,
)
from vafa_monai.metrics.organ_presence import require_one_hot


@pytest.mark.parametrize(
    ("erased", "invented", "expected"),
    [((), (), [0, 0]), ((1,), (), [1, 0]), ((), (4,), [0, 1]), ((1, 3), (4, 5), [2, 2])],
    ids=["all there", "one lost", "one invented", "two of each"],
)
def test_lost_and_invented_organs_are_counted(organs, erased, invented, expected):
    truth = torch.cat([organs(0), torch.zeros(2, 2, 9, 12, 7)], dim=1)  # three organs, two more that no case has
    pred = truth.clone()
    for organ in erased:
        pred[1, organ] = 0
    for organ in invented:
        pred[1, organ, 0, 0, 0] = 1
    assert compute_organ_presence(pred, truth).tolist() == [[0, 0], expected]


def test_organ_of_one_voxel_in_another_place_is_not_lost(organs):
    truth, pred = organs(0), organs(1)
    pred[:, 2] = 0
    pred[:, 2, 0, 0, 0] = 1
    assert compute_organ_presence(pred, truth).tolist() == [[0, 0]] * 2


def test_background_is_no_organ(organs):
    truth, pred = organs(0), organs(0)
    pred[:, 0] = 0
    assert compute_organ_presence(pred, truth).tolist() == [[0, 0]] * 2
    assert compute_organ_presence(truth, pred).tolist() == [[0, 0]] * 2


def test_metric_adds_up_over_cases_and_calls(organs):
    metric, truth = OrganPresenceMetric(), organs(0)
    pred = truth.clone()
    pred[0, 1:3] = 0
    metric(pred, truth)
    metric(list(truth), list(pred))
    assert metric.aggregate().tolist() == [2, 2]
    assert metric.get_buffer().tolist() == [[2, 0], [0, 0], [0, 2], [0, 0]]
    metric.reset()
    metric(truth, truth)
    assert metric.aggregate().tolist() == [0, 0]


def test_missing_truth_is_refused(organs):
    with pytest.raises(ValueError, match="y must be a one-hot truth, got None"):
        OrganPresenceMetric()(organs(0))


EVERY = {
    "presence": compute_organ_presence,
    "hausdorff": compute_hausdorff_distance_95,
    "surface dice": compute_normalized_surface_dice,
    "presence metric": OrganPresenceMetric(),
    "hausdorff metric": HausdorffDistance95Metric(spacing=(1.0, 1.0, 1.0)),
    "surface dice metric": NormalizedSurfaceDiceMetric(spacing=(1.0, 1.0, 1.0)),
}
NOT_MASKS = {
    "one channel": (
        lambda pred, y: (pred[:, :1], y[:, :1]),
        r"y must have one channel for each class, .*, got 1; one chan",
    ),
    "other classes": (
        lambda pred, y: (pred[:, :3], y),
        r"masks of one shape \(B, C, H, W, D\), got \([12], 3, .*\) and \([12], 4,",
    ),
    "other voxels": (lambda pred, y: (pred, y[..., 1:]), r"masks of one shape \(B, C, H, W, D\), got"),
    "probabilities": (lambda pred, y: (0.5 * pred, y), r"y_pred must hold masks of 0 and 1, got 0\.5"),
    "logits": (lambda pred, y: (pred - 3, y), r"y_pred must hold masks of 0 and 1, got -[23]"),
    "nan": (lambda pred, y: (pred / pred, y), r"y_pred must hold masks of 0 and 1, got nan"),
    "indices": (lambda pred, y: (pred, 2 * y), r"y must hold masks of 0 and 1, got 2"),
    "regions": (
        lambda pred, y: (pred, (y + y.roll(1, 1))),
        r"y must have one class a voxel at most, got classes that over",
    ),
}


@pytest.mark.parametrize(("spoil", "match"), NOT_MASKS.values(), ids=NOT_MASKS.keys())
def test_what_is_no_mask_of_several_classes_has_no_figure(spoil, match, not_refused, organs):
    assert not_refused(ValueError, match, lambda measure: measure(*spoil(organs(0), organs(1))), EVERY) == {}


def test_one_hot_masks_have_a_class_in_every_voxel_of_the_truth(organs):
    pred, truth = organs(0), organs(1)
    require_one_hot(pred, truth)
    pred[:, 2] = 0  # what was removed as a small component
    require_one_hot(pred, truth)
    with pytest.raises(
        ValueError, match="y must have one class a voxel, background first, got voxels of none; one chan"
    ):
        require_one_hot(truth[:, 1:], truth[:, 1:])
    with pytest.raises(
        ValueError, match="y_pred must have one class a voxel at most, got classes that overlap; one chan"
    ):
        require_one_hot((truth + truth.roll(1, 1)).clamp_max(1), truth)


FUNCTIONS = [compute_organ_presence, compute_hausdorff_distance_95, compute_normalized_surface_dice]
CLASSES = [OrganPresenceMetric, HausdorffDistance95Metric, NormalizedSurfaceDiceMetric]


@pytest.mark.parametrize("measure", FUNCTIONS, ids=lambda measure: measure.__name__)
def test_regions_of_sigmoids_are_measured_each_by_itself(measure, organs):
    """Channels of one-hot masks without the background are the same organs; so are they where they overlap."""
    pred, truth = organs(0), organs(1)
    pred[0, 2], truth[1, 3] = 0, 0
    alone = measure(pred, truth)
    assert torch.equal(measure(pred[:, 1:], truth[:, 1:], output="sigmoid").nan_to_num(-1), alone.nan_to_num(-1))
    twice = [torch.cat([part[:, 1:], part[:, 1:]], 1) for part in (pred, truth)]
    expected = 2 * alone if measure is compute_organ_presence else torch.cat([alone, alone], 1)
    assert torch.equal(measure(*twice, output="sigmoid").nan_to_num(-1), expected.nan_to_num(-1))
    one = measure(pred[:, 1:2], truth[:, 1:2], output="sigmoid")
    assert one.shape == ((2, 2) if measure is compute_organ_presence else (2, 1))


@pytest.mark.parametrize("measure", FUNCTIONS[1:], ids=lambda measure: measure.__name__)
def test_background_is_the_class_that_is_said(measure, organs):
    pred, truth = organs(0), organs(1)
    every = measure(pred, truth, output=Output(background=None))
    assert every.shape == (2, 4)
    assert torch.equal(every[:, 1:], measure(pred, truth))
    assert torch.equal(every[:, [0, 1, 3]], measure(pred, truth, output=Output(background=2)))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_metric_of_sigmoids_accumulates_its_function(kind, organs):
    spaced = {} if kind is OrganPresenceMetric else {"spacing": (1.0, 1.0, 1.0)}
    metric, (pred, truth) = kind(output="sigmoid", **spaced), (organs(0)[:, 1:], organs(1)[:, 1:])
    function = FUNCTIONS[CLASSES.index(kind)]
    torch.testing.assert_close(metric(pred, truth), function(pred, truth, output="sigmoid"), equal_nan=True)

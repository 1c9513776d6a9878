"""Counting lost and invented organs."""

from __future__ import annotations

import pytest
import torch

from vafa_monai.metrics import OrganPresenceMetric, compute_organ_presence


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

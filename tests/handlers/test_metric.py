"""Metric handlers on MONAI's own evaluator."""

from __future__ import annotations

import inspect
import logging
import math

import pytest
import torch
from monai.bundle import ConfigParser
from monai.handlers import IgniteMetricHandler
from torch import nn

from vafa_monai import handlers, metrics
from vafa_monai.attacks import FGSM, Identity
from vafa_monai.handlers import (
    AttackHandler,
    HausdorffDistance95,
    NormalizedSurfaceDice,
    OrganPresence,
    PerceptualSimilarity,
)
from vafa_monai.metrics import (
    compute_hausdorff_distance_95,
    compute_image_quality,
    compute_normalized_surface_dice,
    image_quality,
)

SPACING = (1.5, 0.8, 2.5)
ATTACK = FGSM(eps=0.05)
TWINS = [
    name
    for name, one in ((name, getattr(handlers, name)) for name in handlers.__all__)
    if isinstance(one, type) and issubclass(one, IgniteMetricHandler)
]


@pytest.fixture(autouse=True)
def no_lpips_weights(tmp_path, monkeypatch):
    """No AlexNet of this machine decides about these tests."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))


@pytest.fixture
def state_after(evaluator):
    """Run an evaluator under an attack with one additional metric; return its state."""

    def run(network, metric, attack=ATTACK):
        engine = evaluator(network, [AttackHandler(attack)])
        metric.attach(engine, "metric")
        engine.run()
        return engine.state

    return run


def one_hot(classes):
    return nn.functional.one_hot(classes.long(), 3).movedim(-1, 1).float()


def segmented(cases, network):
    """One-hot prediction on the attacked case, and truth."""
    for case in cases:
        image, label = (case[key].as_tensor()[None] for key in ("image", "label"))
        yield one_hot(network(ATTACK(image, label, network)).argmax(1)), one_hot(label[:, 0])


@pytest.mark.parametrize(
    ("handler", "function"),
    [
        (HausdorffDistance95(), compute_hausdorff_distance_95),
        (NormalizedSurfaceDice(tolerance=1.0), compute_normalized_surface_dice),
    ],
    ids=["HausdorffDistance95", "NormalizedSurfaceDice"],
)
def test_surface_metric_is_in_mm_of_the_metadata(cases, state_after, threshold_network, handler, function):
    state = state_after(threshold_network, handler)
    expected = torch.cat([function(*pair, SPACING) for pair in segmented(cases, threshold_network)])
    torch.testing.assert_close(state.metric_details["metric"], expected, equal_nan=True)
    assert state.metrics["metric"] == pytest.approx(expected.nanmean(1).mean().item(), rel=1e-5)
    in_voxels = torch.cat([function(*pair) for pair in segmented(cases, threshold_network)])
    assert not torch.allclose(expected, in_voxels, equal_nan=True)


def test_lost_organ_costs_the_diagonal_unless_it_is_ignored(state_after, threshold_network):
    with torch.no_grad():
        threshold_network.bias[2] -= 100  # no voxel is bright tissue: lost in two cases, the third has none
    diagonal = math.hypot(*(size * step for size, step in zip((11, 9, 6), SPACING, strict=True)))
    counted = state_after(threshold_network, HausdorffDistance95()).metric_details["metric"][:, 1]
    assert counted[:2].tolist() == pytest.approx([diagonal] * 2)
    assert counted[2].isnan()
    ignored = state_after(threshold_network, HausdorffDistance95(lost_organ="ignore")).metric_details["metric"][:, 1]
    assert ignored.isnan().all()


def test_lost_and_invented_organs_are_metrics_of_the_engine(state_after, threshold_network):
    with torch.no_grad():
        threshold_network.bias[1] -= 100  # no voxel is gray: lost in three cases; bright begins at 0.5: invented in one
    state = state_after(threshold_network, OrganPresence(), Identity())
    assert (state.metrics["lost_organs"], state.metrics["invented_organs"]) == (3, 1)
    assert state.metrics["metric"] == {"lost_organs": 3, "invented_organs": 1}


def test_similarity_of_attacked_and_clean_volumes_is_a_metric_of_the_engine(cases, state_after, threshold_network):
    state = state_after(threshold_network, PerceptualSimilarity())
    expected = []
    for case in cases:
        image, label = (case[key].as_tensor()[None] for key in ("image", "label"))
        expected.append(compute_image_quality(ATTACK(image, label, threshold_network), image))
    expected = torch.cat(expected)
    torch.testing.assert_close(state.metric_details["metric"][:, :4], expected)
    means = [state.metrics[name] for name in ("ssim", "psnr_db", "rms_grey", "linf_grey")]
    assert means == pytest.approx(expected.mean(0).tolist(), rel=1e-5)
    assert 0 < state.metrics["rms_grey"] <= state.metrics["linf_grey"] == pytest.approx(0.05 * 255, rel=1e-4)


def test_value_range_scales_the_gray_levels(state_after, threshold_network):
    state = state_after(threshold_network, PerceptualSimilarity(value_range=(-1.0, 3.0)))
    assert state.metrics["linf_grey"] == pytest.approx(0.05 * 255 / 4, rel=1e-4)


def test_absent_lpips_weights_are_told_and_stop_nothing(caplog, state_after, threshold_network):
    with caplog.at_level(logging.WARNING):
        handler = PerceptualSimilarity()
    assert "LPIPS is absent" in caplog.text
    assert handler.note in caplog.text
    state = state_after(threshold_network, handler)
    assert state.metric_details["metric"][:, 4].isnan().all()


def test_absent_lpips_is_not_a_number(state_after, threshold_network):
    metrics_found = state_after(threshold_network, PerceptualSimilarity()).metrics
    assert math.isnan(metrics_found["lpips"])
    assert math.isnan(metrics_found["lpips_similarity"])


class MeanDifference(nn.Module):
    """A distance in the place of LPIPS."""

    def forward(self, first, second):
        return (first - second).abs().mean((1, 2, 3), keepdim=True)


def test_lpips_and_the_published_similarity_are_metrics_of_the_engine(monkeypatch, cases, state_after, tiny_network):
    monkeypatch.setattr(image_quality, "load_lpips", lambda weights: (MeanDifference(), None))
    monkeypatch.setattr(image_quality, "SMALLEST_SLICE", 1)
    handler = PerceptualSimilarity()
    state = state_after(tiny_network, handler)
    changes = []
    for case in cases:
        image, label = (case[key].as_tensor()[None] for key in ("image", "label"))
        changes.append(2 * (ATTACK(image, label, tiny_network) - image).abs().mean().item())  # in [-1, 1]
    assert state.metrics["lpips"] == pytest.approx(sum(changes) / 3, rel=1e-4)
    assert state.metrics["lpips_similarity"] == pytest.approx(100 * (1 - sum(changes) / 3), rel=1e-4)
    assert handler.note is None


def test_unreadable_lpips_weights_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"lpips_weights must be a file, got '.*absent\.pth'"):
        PerceptualSimilarity(lpips_weights=str(tmp_path / "absent.pth"))


@pytest.mark.parametrize("name", TWINS)
def test_handler_has_the_arguments_and_defaults_of_its_metric(name):
    face, metric = (
        inspect.signature(one).parameters for one in (getattr(handlers, name), getattr(metrics, f"{name}Metric"))
    )
    expected = {key: parameter.default for key, parameter in metric.items() if parameter.kind.name != "VAR_KEYWORD"}
    assert {key: parameter.default for key, parameter in face.items() if key != "output_transform"} == expected


@pytest.mark.parametrize("name", TWINS)
def test_handler_can_be_built_from_json(name):
    config = {"_target_": f"vafa_monai.handlers.{name}", "output_transform": "$monai.handlers.from_engine('pred')"}
    handler = ConfigParser({"handler": config}).get_parsed_content("handler")
    assert isinstance(handler.metric_fn, getattr(metrics, f"{name}Metric"))

"""The loss of a doubled batch: which terms it adds, in which order, and what it skips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceLoss
from torch import Tensor, nn

from vafa_monai.losses import AdversarialConsistencyLoss, Output, dice_ce, frequency_consistency, generalized_dice


@pytest.fixture
def prediction() -> Tensor:
    """Two clean samples, then the same two attacked."""
    return torch.randn(4, 3, 5, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def target() -> Tensor:
    half = torch.randint(0, 3, (2, 1, 5, 4, 6), generator=torch.Generator().manual_seed(1))
    return torch.cat([half, half])


def unused(*_: Tensor) -> Tensor:
    raise AssertionError("a term of weight 0 was computed")


def test_default_loss_is_soft_dice_plus_cross_entropy(prediction, target):
    p = torch.softmax(prediction.double(), 1).numpy().reshape(4, 3, -1)
    y = np.eye(3)[target.numpy().reshape(4, -1)].transpose(0, 2, 1)
    dice = 1 - 2 * (p * y).sum(2) / ((p**2).sum(2) + (y**2).sum(2) + 1e-6)
    expected = dice.mean() - (y * np.log(p)).sum(1).mean()
    assert dice_ce()(prediction, target).item() == pytest.approx(expected, rel=1e-5)  # float32


@pytest.mark.parametrize("weights", [(1, 1, 1), (0, 1, 0), (1, 0, 0), (0.5, 2, 0.2), (0, 0, 3)], ids=str)
def test_value_is_the_weighted_sum_of_three_terms(prediction, target, weights):
    terms = [dice_ce()(prediction[:2], target[:2]), dice_ce()(prediction[2:], target[2:])]
    terms.append(frequency_consistency(prediction[2:], prediction[:2]))
    names = ("clean_weight", "adversarial_weight", "consistency_weight")
    loss = AdversarialConsistencyLoss(**dict(zip(names, weights, strict=True)))
    expected = sum(weight * term for weight, term in zip(weights, terms, strict=True))
    torch.testing.assert_close(loss(prediction, target), expected)


def test_consistency_gets_the_adversarial_half_first(prediction, target):
    loss = AdversarialConsistencyLoss(consistency=lambda first, _: first.sum(), clean_weight=0, adversarial_weight=0)
    torch.testing.assert_close(loss(prediction, target), prediction[2:].sum())


def test_a_term_of_weight_zero_is_not_computed(prediction, target):
    segmentation_only = AdversarialConsistencyLoss(consistency=unused, consistency_weight=0)
    consistency_only = AdversarialConsistencyLoss(unused, clean_weight=0, adversarial_weight=0)
    assert segmentation_only(prediction, target) > consistency_only(prediction, target) > 0


def test_parts_may_differ_in_size_and_overlap(prediction, target):
    """One clean sample, three attacked ones; the clean one is the last of the attacked ones, too."""
    loss = AdversarialConsistencyLoss(clean_weight=0.5, consistency_weight=0.2)
    expected = 0.5 * dice_ce()(prediction[:1], target[:1]) + dice_ce()(prediction[1:], target[1:])
    expected = expected + 0.2 * frequency_consistency(prediction[3:], prediction[:1])
    torch.testing.assert_close(loss(prediction, target, clean=1, pairs=1), expected)
    apart = AdversarialConsistencyLoss(consistency=unused, consistency_weight=0)
    expected = dice_ce()(prediction[:3], target[:3]) + dice_ce()(prediction[3:], target[3:])
    torch.testing.assert_close(apart(prediction, target, clean=3), expected)


def test_parts_of_one_kind(prediction, target):
    only = AdversarialConsistencyLoss(clean_weight=0, adversarial_weight=2, consistency_weight=0)
    torch.testing.assert_close(only(prediction, target, clean=0), 2 * dice_ce()(prediction, target))
    for loss in (only, AdversarialConsistencyLoss()):
        torch.testing.assert_close(loss(prediction, target, clean=4), dice_ce()(prediction, target))


def test_terms_of_no_samples_are_refused(prediction, target):
    with pytest.raises(ValueError, match=r"clean_weight must be 0 where no volume stays clean, got 1\.0\."):
        AdversarialConsistencyLoss(consistency_weight=0)(prediction, target, clean=0)
    with pytest.raises(ValueError, match=r"consistency_weight must be 0 where no volume is there twice, got 1\.0\."):
        AdversarialConsistencyLoss()(prediction, target, clean=1)


def test_gradient_reaches_both_halves(prediction, target):
    loss = AdversarialConsistencyLoss(clean_weight=0)(prediction.requires_grad_(), target)
    (gradient,) = torch.autograd.grad(loss, prediction)
    assert (gradient.abs().amax((1, 2, 3, 4)) > 0).all()


def test_deep_supervision_takes_consistency_from_the_finest_output(prediction, target):
    coarse, target = prediction[..., ::2], target.float()  # MONAI resizes labels of floating point only
    loss = AdversarialConsistencyLoss(DeepSupervisionLoss(dice_ce()))
    halves = [DeepSupervisionLoss(dice_ce())([prediction[i], coarse[i]], target[i]) for i in (slice(2), slice(2, 4))]
    expected = sum(halves) + frequency_consistency(prediction[2:], prediction[:2])
    torch.testing.assert_close(loss([prediction, coarse], target), expected)


def test_second_call_equals_first(prediction, target):
    loss = AdversarialConsistencyLoss()
    assert loss(prediction, target) == loss(prediction, target)


def test_loss_from_json_equals_the_one_from_python(prediction, target):
    config = {
        "_target_": "vafa_monai.losses.AdversarialConsistencyLoss",
        "loss_function": {"_target_": "monai.losses.DiceLoss", "to_onehot_y": True, "softmax": True},
        "consistency": {"_target_": "vafa_monai.losses.FrequencyConsistencyLoss", "normalization": "mean"},
        "consistency_weight": 0.2,
    }
    parser = ConfigParser({"loss": config})
    loss = parser.get_parsed_content("loss")
    dice = parser.get_parsed_content("loss#loss_function")
    expected = dice(prediction[:2], target[:2]) + dice(prediction[2:], target[2:])
    expected = expected + 0.2 * frequency_consistency(prediction[2:], prediction[:2], "mean")
    torch.testing.assert_close(loss(prediction, target), expected)


@pytest.mark.parametrize("odd", ["prediction", "target"])
def test_an_odd_batch_is_refused(prediction, target, odd):
    cut = {"prediction": (prediction[:3], target), "target": (prediction, target[:3])}[odd]
    with pytest.raises(ValueError, match=r"must hold a clean and an adversarial half of equal size, got 3 samples"):
        AdversarialConsistencyLoss()(*cut)


@pytest.mark.parametrize("name", ["clean_weight", "adversarial_weight", "consistency_weight"])
def test_a_negative_weight_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} must be at least 0, got -0\.5"):
        AdversarialConsistencyLoss(**{name: -0.5})


@pytest.mark.parametrize("weight", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(weight):
    with pytest.raises(ValueError, match=rf"consistency_weight must be finite, got {weight}"):
        AdversarialConsistencyLoss(consistency_weight=weight)


@pytest.mark.parametrize(
    "loss_function", [None, generalized_dice(), nn.CrossEntropyLoss()], ids=["default", "gd", "ce"]
)
def test_a_softmax_of_one_channel_is_refused(loss_function, prediction, target):
    with pytest.raises(ValueError, match=r"loss_function must not take the softmax of 1 channel"):
        AdversarialConsistencyLoss(loss_function)(prediction[:, :1], target.clamp_max(1))


def test_one_channel_under_a_sigmoid_is_learned(prediction, target):
    one = prediction[:, :1].detach().requires_grad_()
    loss = AdversarialConsistencyLoss(DiceCELoss(sigmoid=True))(one, target.clamp_max(1))
    assert torch.autograd.grad(loss, one)[0].abs().max() > 0


@pytest.mark.parametrize(("value", "got"), [(0.999999, r"whole numbers .*, got 0\.99999"), (9.0, r"to 2, got 9")])
def test_labels_that_are_no_classes_are_refused(prediction, target, value, got):
    spoiled = target.float()
    spoiled[0, 0, 0, 0, 0] = value
    with pytest.raises(ValueError, match=rf"target must hold .*{got}"):
        AdversarialConsistencyLoss()(prediction, spoiled)


def test_weights_of_zero_alone_are_refused():
    with pytest.raises(ValueError, match=r"clean_weight, .* must be positive, got 0 for all"):
        AdversarialConsistencyLoss(clean_weight=0, adversarial_weight=0, consistency_weight=0)


def test_labels_may_be_a_list_as_the_logits_of_deep_supervision_are(prediction, target):
    whole = dice_ce()

    def several(outputs, labels):
        return torch.stack([whole(*pair) for pair in zip(outputs, labels, strict=True)]).sum()

    loss = AdversarialConsistencyLoss(several, consistency_weight=0)
    once = AdversarialConsistencyLoss(whole, consistency_weight=0)
    torch.testing.assert_close(loss([prediction] * 2, [target] * 2), 2 * once(prediction, target))
    with pytest.raises(ValueError, match="target must hold class indices"):
        loss([prediction] * 2, [target - 9, target])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float32], ids=str)
def test_labels_of_sigmoids_may_have_any_dtype(dtype):
    """MONAI's Dice of squares takes no integers."""
    logits = torch.randn(4, 2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    regions = (logits.roll(1, 2) > 0).to(dtype)
    dice = DiceLoss(sigmoid=True, squared_pred=True)
    for loss_function, plain in ((dice, dice), (None, dice_ce("sigmoid"))):
        loss = AdversarialConsistencyLoss(loss_function, output="sigmoid", consistency_weight=0)
        expected = sum(plain(logits[part], regions[part].float()) for part in (slice(2), slice(2, 4)))
        torch.testing.assert_close(loss(logits, regions), expected)


def test_losses_and_labels_of_another_output_are_refused():
    logits = torch.zeros(2, 2, 3, 4, 5)
    with pytest.raises(ValueError, match='must not take a softmax under output="sigmoid", got DiceCELoss'):
        AdversarialConsistencyLoss(dice_ce(), output="sigmoid")(logits, logits)
    with pytest.raises(ValueError, match="target must hold 0 or 1 in each channel of a sigmoid, got 2"):
        AdversarialConsistencyLoss(output="sigmoid")(logits, logits + 2)
    with pytest.raises(ValueError, match="output must count every voxel in a training, got ignore=255"):
        AdversarialConsistencyLoss(output=Output(ignore=255))

"""What all losses of single voxels promise: shapes, reductions, classes, precision."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, GeneralizedDiceLoss
from torch import Tensor, nn

from vafa_monai.losses import CosPGDLoss, DiceBCELoss, JensenShannonLoss, MarginLoss, MaskedCrossEntropyLoss, SegPGDLoss
from vafa_monai.losses.output import class_indices, refuse_unfit_loss, require_channels
from vafa_monai.losses.voxel_loss import soft_error, voxel_cross_entropy, voxel_mean

LOSSES = {
    "masked": MaskedCrossEntropyLoss,
    "jensen_shannon": JensenShannonLoss,
    "margin": MarginLoss,
    "seg_pgd": SegPGDLoss,
    "cos_pgd": CosPGDLoss,
}
every_loss = pytest.mark.parametrize("kind", LOSSES.values(), ids=LOSSES.keys())
every_harm = pytest.mark.parametrize("kind", [MaskedCrossEntropyLoss, SegPGDLoss, CosPGDLoss])


def pair(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Logits of four classes, of which the last is absent, and labels."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 4, 5, 4, 3, generator=generator, dtype=dtype)
    return logits, torch.randint(0, 3, (2, 1, 5, 4, 3), generator=generator)


@every_loss
def test_reductions_are_those_of_the_samples(kind):
    samples = kind(reduction="none")(*pair())
    assert samples.shape == (2,)
    torch.testing.assert_close(kind()(*pair()), samples.mean())
    torch.testing.assert_close(kind(reduction="sum")(*pair()), samples.sum())


@every_loss
def test_a_batch_equals_its_samples(kind):
    logits, labels = pair()
    single = [kind()(logits[i : i + 1], labels[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(kind(reduction="none")(logits, labels), torch.stack(single))


@pytest.mark.parametrize("kind", [kind for kind in LOSSES.values() if kind is not CosPGDLoss])
def test_gradient_equals_finite_differences(kind):
    """Not CosPGD's: its weight moves with the logits, and is a constant to the gradient."""
    logits, labels = pair()
    assert torch.autograd.gradcheck(lambda x: kind(reduction="none")(x, labels), logits.requires_grad_())


@every_loss
@pytest.mark.parametrize("scale", [0.0, 1e3], ids=["no idea", "sure"])
def test_loss_and_gradient_of_extreme_logits_are_finite(kind, scale):
    logits, labels = pair(torch.float32)
    logits = (scale * logits).requires_grad_()
    loss = kind()(logits, labels)
    assert torch.isfinite(loss)
    assert torch.isfinite(torch.autograd.grad(loss, logits)[0]).all()


@every_loss
def test_loss_of_the_class_equals_the_one_of_json(kind):
    config = json.loads(json.dumps({"loss": {"_target_": f"vafa_monai.losses.{kind.__name__}", "reduction": "sum"}}))
    loss = ConfigParser(config).get_parsed_content("loss")
    torch.testing.assert_close(loss(*pair()), kind(reduction="sum")(*pair()))


def test_labels_of_another_shape_are_refused(not_refused):
    logits, labels = pair()
    match = r"target must have .* one channel, got \(2, 1, 5, 4, 2\) for input"
    assert not_refused(ValueError, match, lambda kind: kind()(logits, labels[..., 1:]), LOSSES) == {}
    match = r"target must have .* one channel, got \(2, 4, 5, 4, 3\) for input"
    assert not_refused(ValueError, match, lambda kind: kind()(logits, logits), LOSSES) == {}


UNFIT_LABELS = {
    "just below a class": (1.999999, r"target must hold whole numbers as class indices, got 1\.999999"),
    "just above a class": (2.0001, r"whole numbers as class indices, got 2\.0000"),
    "between classes": (0.5, r"whole numbers as class indices, got 0\.5; round labels beforehand"),
    "nan": (float("nan"), r"whole numbers as class indices, got nan"),
    "infinite": (float("inf"), r"whole numbers as class indices, got inf"),
    "negative": (-1.0, r"target must hold class indices from 0 to 3, got -1"),
    "too large": (4.0, r"target must hold class indices from 0 to 3, got 4"),
    "far too large": (1e30, r"target must hold whole numbers as class indices, got 1.*e\+30"),
}


@pytest.mark.parametrize(("value", "match"), UNFIT_LABELS.values(), ids=UNFIT_LABELS.keys())
def test_a_single_label_that_is_no_class_is_refused(value, match, not_refused):
    logits, labels = pair()
    labels = labels.float()
    labels[0, 0, 2, 1, 1] = value
    assert not_refused(ValueError, match, lambda kind: kind()(logits, labels), LOSSES) == {}


@every_loss
def test_labels_of_any_dtype_give_the_loss_of_int64(kind):
    logits, labels = pair()
    expected = kind()(logits, labels)
    for dtype in (torch.uint8, torch.uint16, torch.int8, torch.int32, torch.float16, torch.float32, torch.bfloat16):
        assert torch.equal(kind()(logits, labels.to(dtype)), expected), dtype


@every_loss
def test_boolean_labels_are_classes_0_and_1(kind):
    logits, labels = pair()
    assert torch.equal(kind()(logits, labels > 0), kind()(logits, labels.clamp_max(1)))


def test_class_indices_are_the_labels_in_any_shape():
    labels = torch.tensor([[0.0, 3.0], [1.0, 2.0]], dtype=torch.float16)
    assert torch.equal(class_indices(labels, 4), torch.tensor([[0, 3], [1, 2]]))
    assert class_indices(torch.empty(0)).tolist() == []


def test_without_a_number_of_classes_only_negative_labels_are_refused():
    assert class_indices(torch.tensor([999])).tolist() == [999]
    with pytest.raises(ValueError, match=r"truth must hold class indices from 0 on, got -2"):
        class_indices(torch.tensor([0, -2]), name="truth")


@pytest.mark.parametrize(("channels", "classes"), [(1, None), (1, 1), (1, 2), (3, 2), (2, 3), (0, None)])
def test_channels_that_are_not_those_of_the_classes_are_refused(channels, classes):
    with pytest.raises(ValueError, match=rf"network must return one channel for each.*, got {channels}; one"):
        require_channels(channels, classes)


@pytest.mark.parametrize("classes", [None, 3])
def test_a_channel_for_each_class_is_allowed(classes):
    require_channels(3, classes)


SOFTMAXES = [DiceLoss(softmax=True), DiceCELoss(softmax=True), GeneralizedDiceLoss(softmax=True), nn.CrossEntropyLoss()]
SIGMOIDS = [DiceLoss(sigmoid=True), DiceCELoss(sigmoid=True), nn.BCEWithLogitsLoss(), DiceBCELoss(), F.mse_loss]


@pytest.mark.parametrize("loss", SOFTMAXES, ids=lambda loss: type(loss).__name__)
def test_a_softmax_of_one_channel_is_refused(loss):
    refuse_unfit_loss(loss, channels=2)
    with pytest.raises(
        ValueError, match=rf"loss_function must not take the softmax .*, got {type(loss).__name__}; say"
    ):
        refuse_unfit_loss(loss, channels=1)
    with pytest.raises(
        ValueError, match=rf'loss_function must not take a softmax .*"sigmoid", got {type(loss).__name__}'
    ):
        refuse_unfit_loss(loss, channels=2, output="sigmoid")


@pytest.mark.parametrize("loss", SIGMOIDS, ids=lambda loss: getattr(loss, "__name__", type(loss).__name__))
def test_a_loss_without_softmax_takes_one_channel(loss):
    refuse_unfit_loss(loss, channels=1, output="sigmoid")


def test_losses_that_are_no_sum_over_sigmoids_are_refused():
    for loss, match in (
        (DiceCELoss(sigmoid=True), "must not take a softmax"),  # its cross entropy of several channels is one
        (FocalLoss(use_softmax=True), "must not take a softmax"),
        (DiceLoss(sigmoid=True, to_onehot_y=True), "must not have to_onehot_y"),
        (MarginLoss(), "must be made for output 'sigmoid', got a MarginLoss for 'softmax'"),
    ):
        with pytest.raises(ValueError, match=match):
            refuse_unfit_loss(loss, channels=3, output="sigmoid")


@every_loss
def test_an_unknown_reduction_is_refused(kind):
    with pytest.raises(ValueError, match="'men'"):
        kind(reduction="men")


@every_harm
def test_harm_is_the_mean_probability_of_a_wrong_class(kind):
    logits, labels = pair()
    right = logits.softmax(1).gather(1, labels)
    torch.testing.assert_close(kind().harm(logits, labels), 1 - right.mean((1, 2, 3, 4)))


@every_harm
def test_harm_rises_with_every_voxel_that_turns_wrong(kind):
    """Unlike the loss, which is 0 at both ends."""
    _, labels = pair()
    right = 9.0 * F.one_hot(labels[:, 0], 4).movedim(-1, 1)
    wrong = right.roll(1, 1)
    harms = []
    for share in range(6):
        half = torch.cat([wrong[:, :, :share], right[:, :, share:]], 2)
        harms.append(kind().harm(half, labels)[0].item())
    assert harms == sorted(harms)
    assert harms[0] < 0.01
    assert harms[-1] > 0.99


def test_cross_entropy_of_voxels_equals_torch():
    logits, labels = pair()
    expected = -logits.log_softmax(1).gather(1, labels)[:, 0]
    torch.testing.assert_close(voxel_cross_entropy(logits, labels), expected)


def test_balanced_mean_is_the_mean_of_the_means_of_the_classes_present():
    logits, labels = pair()
    values = logits[:, 0]
    for sample in range(2):
        means = [values[sample][labels[sample, 0] == label].mean() for label in range(3)]
        torch.testing.assert_close(voxel_mean(values, labels, balanced=True)[sample], torch.stack(means).mean())


def test_balanced_mean_of_equal_values_is_the_value():
    _, labels = pair()
    ones = torch.ones(2, 5, 4, 3)
    torch.testing.assert_close(voxel_mean(ones, labels, balanced=True), torch.ones(2))
    torch.testing.assert_close(voxel_mean(ones, 0 * labels + 3, balanced=True), torch.ones(2))


def test_soft_error_of_balanced_classes_counts_a_small_class_as_much():
    labels = torch.tensor([1, 0, 0, 0]).view(1, 1, 1, 1, 4)
    logits = torch.tensor([[50.0] * 4, [-50.0] * 4]).view(1, 2, 1, 1, 4)  # all background
    errors = [soft_error(logits, labels, balanced=balanced).item() for balanced in (False, True)]
    assert errors == pytest.approx([0.25, 0.5])

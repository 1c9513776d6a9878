"""What the channels of logits and labels mean: sigmoids against the softmax of (0, logit), labels that do not fit."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.losses import DiceCELoss
from torch import Tensor

from vafa_monai.losses import (
    CosPGDLoss,
    DiceBCELoss,
    JensenShannonLoss,
    KLDivergenceLoss,
    MarginLoss,
    MaskedCrossEntropyLoss,
    Output,
    SegPGDLoss,
    cospgd_weight,
    dice_ce,
    generalized_dice,
    segpgd_weight,
)
from vafa_monai.losses.voxel_loss import voxel_cross_entropy, voxel_mean

LOSSES = {
    "masked": MaskedCrossEntropyLoss,
    "balanced": lambda **settings: MaskedCrossEntropyLoss(balanced=True, **settings),
    "jensen_shannon": JensenShannonLoss,
    "margin": MarginLoss,
    "seg_pgd": lambda **settings: SegPGDLoss(0.5, **settings),
    "cos_pgd": CosPGDLoss,
}
every_loss = pytest.mark.parametrize("build", LOSSES.values(), ids=LOSSES)


def pair(channels: int = 3) -> tuple[Tensor, Tensor]:
    """Logits, and regions that overlap."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, channels, 5, 4, 3, generator=generator, dtype=torch.float64)
    return logits, torch.rand(logits.shape, generator=generator) > 0.6


@every_loss
def test_one_sigmoid_is_the_softmax_of_two_classes_whose_difference_it_takes(build):
    """Same value and same gradient, of the logits (a, b) and of b - a."""
    two = torch.randn(2, 2, 5, 4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).requires_grad_()
    labels = pair(1)[1]
    values = build()(two, labels.long()), build(output="sigmoid")(two[:, 1:] - two[:, :1], labels)
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*(torch.autograd.grad(value, two, retain_graph=True)[0] for value in values))


@every_loss
def test_loss_of_several_sigmoids_is_the_mean_of_the_losses_of_each(build):
    logits, regions = pair()
    each = [build(output="sigmoid")(logits[:, i : i + 1], regions[:, i : i + 1]) for i in range(3)]
    torch.testing.assert_close(build(output="sigmoid")(logits, regions), torch.stack(each).mean())


@every_loss
def test_labels_of_sigmoids_may_have_any_dtype(build):
    logits, regions = pair()
    expected = build(output="sigmoid")(logits, regions)
    for dtype in (torch.uint8, torch.int64, torch.float32, torch.float64):
        assert torch.equal(build(output="sigmoid")(logits, regions.to(dtype)), expected)


@pytest.mark.parametrize("build", [build for name, build in LOSSES.items() if name != "cos_pgd"])
def test_gradient_of_sigmoids_equals_finite_differences(build):
    logits, regions = pair()
    loss = build(output="sigmoid", reduction="none")
    assert torch.autograd.gradcheck(lambda x: loss(x, regions), logits.requires_grad_())


def test_cross_entropy_of_sigmoids_is_the_binary_one_of_torch():
    logits, regions = pair()
    expected = F.binary_cross_entropy_with_logits(logits, regions.double(), reduction="none")
    torch.testing.assert_close(voxel_cross_entropy(logits, regions, "sigmoid"), expected)


def test_masked_loss_and_margin_of_sigmoids_by_hand():
    logits, regions = pair()
    entropy = F.binary_cross_entropy_with_logits(logits, regions.double(), reduction="none")
    right = (logits > 0) == regions
    torch.testing.assert_close(MaskedCrossEntropyLoss(output="sigmoid")(logits, regions), (entropy * right).mean())
    torch.testing.assert_close(
        MarginLoss(output="sigmoid")(logits, regions), torch.where(regions, -logits, logits).mean()
    )


def test_weights_of_sigmoids_by_hand():
    logits, regions = pair()
    right, share = (logits > 0) == regions, logits.sigmoid()
    torch.testing.assert_close(
        segpgd_weight(logits, regions, 0.5, output="sigmoid"), torch.where(right, 0.75, 0.25).double()
    )
    answers = torch.stack([1 - share, share])
    truth = torch.stack([~regions, regions]).double()
    expected = F.cosine_similarity(answers, truth, dim=0)
    for likeness in ("softmax", "sigmoid"):
        torch.testing.assert_close(cospgd_weight(logits, regions, likeness, output="sigmoid"), expected)


def test_balanced_mean_of_sigmoids_is_that_of_the_answers_of_each_channel():
    values, regions = pair()
    for sample in range(2):
        means = [values[sample, i][regions[sample, i] == answer].mean() for i in range(3) for answer in (False, True)]
        found = voxel_mean(values, regions, balanced=True, output="sigmoid")[sample]
        torch.testing.assert_close(found, torch.stack(means).mean())


def test_divergence_of_sigmoids_is_that_of_torch():
    wanted, found = pair()[0], pair()[0].roll(1, 2)
    answers = [torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)]) for logits in (found, wanted)]
    expected = F.kl_div(*answers, log_target=True, reduction="none").sum(0).mean()
    torch.testing.assert_close(KLDivergenceLoss(output="sigmoid")(found, wanted), expected)


def test_dice_and_binary_cross_entropy_are_those_of_monai():
    """Of one channel as MONAI gives them, of several as the mean of each."""
    logits, regions = pair()
    monai = DiceCELoss(sigmoid=True, squared_pred=True, smooth_nr=0.0, smooth_dr=1e-6)
    each = [monai(logits[:, i : i + 1], regions[:, i : i + 1].double()) for i in range(3)]
    torch.testing.assert_close(dice_ce("sigmoid")(logits, regions), torch.stack(each).mean())
    assert torch.equal(DiceBCELoss()(logits, regions.float()), DiceBCELoss()(logits, regions))
    assert generalized_dice("sigmoid")(logits, regions.double()).isfinite()


# Voxels that do not count


@every_loss
@pytest.mark.parametrize("ignore", [255, -1, 2], ids=str)
def test_ignored_voxels_have_no_part_in_a_loss(build, ignore):
    logits = pair()[0].requires_grad_()
    labels = torch.randint(0, 2, (2, 1, 5, 4, 3), generator=torch.Generator().manual_seed(2))
    output, kept = Output("softmax", ignore=ignore), slice(0, 3)
    marked = labels.clone()
    marked[:, :, 3:] = ignore
    value, expected = build(output=output)(logits, marked), build()(logits[:, :, kept], labels[:, :, kept])
    torch.testing.assert_close(value, expected)
    gradients = [torch.autograd.grad(one, logits)[0] for one in (value, expected)]
    torch.testing.assert_close(*gradients)
    assert not gradients[0][:, :, 3:].any()


def test_voxels_that_count_are_handed_to_any_loss():
    logits, labels = pair()[0][:1], torch.tensor([0, 1, 2]).repeat(20).view(1, 1, 5, 4, 3)
    labels[..., 0, :] = 7
    some, truth = Output("softmax", ignore=7).counted(logits, labels)
    assert (some.shape, truth.shape) == ((1, 3, 45), (1, 1, 45))
    torch.testing.assert_close(dice_ce()(some, truth), dice_ce()(logits[..., 1:, :], labels[..., 1:, :]))
    with pytest.raises(ValueError, match="target must have voxels that count, got the ignored label 7 alone"):
        Output("softmax", ignore=7).counted(logits, labels * 0 + 7)


# What it is made of, and what is refused


def test_foreground_is_all_but_the_background():
    values = torch.arange(3.0)
    assert Output("softmax").foreground(values).tolist() == [1, 2]
    assert Output("softmax", background=1).foreground(values).tolist() == [0, 2]
    assert Output("softmax", background=None).foreground(values).tolist() == [0, 1, 2]
    assert Output("sigmoid").foreground(values).tolist() == [0, 1, 2]


def test_it_is_built_from_json():
    output = {"_target_": "vafa_monai.losses.Output", "kind": "softmax", "background": None, "ignore": 255}
    loss = {"_target_": "vafa_monai.losses.MarginLoss", "output": output}
    built = ConfigParser(json.loads(json.dumps({"loss": loss}))).get_parsed_content("loss")
    assert built.output == Output("softmax", background=None, ignore=255)


REFUSED = {
    "kind": (lambda: Output("softmx"), "did you mean 'softmax'"),
    "background": (lambda: Output(background=-1), r'background must be a class from 0 on, None or "auto", got -1'),
    "ignore of a sigmoid": (lambda: Output("sigmoid", ignore=3), "ignore must be None for a sigmoid, got 3"),
    "ignore": (lambda: Output(ignore=0.5), r"ignore must be a label or None, got 0\.5"),
    "several channels": (
        lambda: MarginLoss()(*pair()),
        r'target must have .* \(2, 3, 5, 4, 3\) .*are output="sigmoid"',
    ),
    "one channel": (lambda: MarginLoss()(*pair(1)), r'one channel for each class, .* got 1; .*are output="sigmoid"'),
    "other channels": (
        lambda: MarginLoss(output="sigmoid")(pair()[0], pair()[1][:, :1]),
        r"target must have the shape of input, 0 or 1 in each channel of a sigmoid, got \(2, 1, 5, 4, 3\) for input",
    ),
    "indices": (
        lambda: DiceBCELoss()(pair()[0], 2 * pair()[1].long()),
        "target must hold 0 or 1 in each channel of a sigmoid, got 2",
    ),
    "half": (lambda: DiceBCELoss()(pair()[0], pair()[1] / 2), r"target must hold 0 or 1 .*, got 0\.5"),
    "nan": (lambda: DiceBCELoss()(pair()[0], pair()[1] * float("nan")), "target must hold 0 or 1 .*, got nan"),
}


@pytest.mark.parametrize(("call", "match"), REFUSED.values(), ids=REFUSED)
def test_contradictions_are_one_sentence(call, match):
    with pytest.raises(ValueError, match=match):
        call()

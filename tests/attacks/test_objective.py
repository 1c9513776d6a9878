"""What an attack maximizes, and what it compares its iterates by."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DiceCELoss, GeneralizedDiceLoss

from vafa_monai.attacks import PGD, FrequencyPGD, Iterate, ascend
from vafa_monai.attacks.ascent import LossObjective, judge
from vafa_monai.attacks.norm import VoxelBall
from vafa_monai.losses import (
    CosPGDLoss,
    JensenShannonLoss,
    MarginLoss,
    MaskedCrossEntropyLoss,
    Output,
    SegPGDLoss,
    dice_ce,
    generalized_dice,
)

LOSSES = {
    "dice_ce": dice_ce(),
    "generalized_dice": generalized_dice(),
    "masked": MaskedCrossEntropyLoss(),
    "masked_balanced": MaskedCrossEntropyLoss(balanced=True),
    "jensen_shannon": JensenShannonLoss(),
    "margin": MarginLoss(),
    "seg_pgd": SegPGDLoss(),
    "cos_pgd": CosPGDLoss(),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@every_loss
def test_objective_is_the_loss_of_every_sample_and_its_negative_if_targeted(loss, volume, label, tiny_network):
    logits = tiny_network(volume)
    expected = torch.stack([loss(logits[i : i + 1], label[i : i + 1]).squeeze() for i in range(2)])
    for sign in (1.0, -1.0):
        torch.testing.assert_close(LossObjective(loss, label, tiny_network, sign)(volume), sign * expected)


@every_loss
def test_iterates_are_compared_by_the_harm_where_a_loss_has_one(loss, volume, label, tiny_network):
    value, score = LossObjective(loss, label, tiny_network, -1.0).judge(volume, 0)
    if hasattr(loss, "harm"):
        torch.testing.assert_close(score, -loss.harm(tiny_network(volume), label))
        assert not score.requires_grad
        assert not torch.allclose(score, value)
    else:
        assert score is value


def test_loss_that_changes_is_told_the_share_of_the_steps_taken(volume, label, tiny_network):
    objective = LossObjective(SegPGDLoss(), label, tiny_network, steps=8)
    for step, progress in ((0, 0.0), (2, 0.25), (8, 1.0), (9, 1.0)):
        expected = SegPGDLoss(progress, reduction="none")(tiny_network(volume), label)
        torch.testing.assert_close(objective.judge(volume, step).value, expected)


def test_a_plain_function_is_climbed_and_compared_by_alike(volume):
    value, score = judge(lambda adv: adv.mean((1, 2, 3, 4)), volume, 3)
    assert value is score
    torch.testing.assert_close(value, volume.mean((1, 2, 3, 4)))


def test_public_loop_compares_by_harm_too(cases, trained_network):
    """:func:`ascend` with the objective of an attack, as a user's own attack calls it."""
    inputs, targets = cases
    objective = PGD(loss_function=CosPGDLoss()).objective(targets, trained_network)
    ball = VoxelBall(inputs, 1.0, (0.0, 1.0))
    found = ascend(ball, objective, steps=8, step_size=0.3, iterate=Iterate.BEST)
    with torch.no_grad():
        torch.testing.assert_close(found.objective, CosPGDLoss().harm(trained_network(found.adv), targets))


@every_loss
@pytest.mark.parametrize("kind", [PGD, FrequencyPGD])
def test_every_objective_does_harm(kind, loss, cases, trained_network):
    """Mean probability of a wrong class, against Gaussian noise of the same size."""
    inputs, targets = cases
    settings = {"eps": 8 / 255} if kind is PGD else {"block_size": (4, 4, 4), "q_max": 16}
    adv = kind(loss_function=loss, steps=10, **settings)(inputs, targets, trained_network)
    noise = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    noisy = inputs + (adv - inputs).square().mean().sqrt() * noise
    with torch.no_grad():
        harm, harm_of_noise = (CosPGDLoss().harm(trained_network(volume), targets) for volume in (adv, noisy))
    assert (harm > harm_of_noise + 0.02).all()


@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("kind", [MaskedCrossEntropyLoss, SegPGDLoss, CosPGDLoss])
def test_a_loss_made_for_the_other_direction_is_refused(kind, targeted):
    PGD(loss_function=kind(targeted=targeted), targeted=targeted)
    with pytest.raises(
        ValueError, match=f"targeted must be that of loss_function, which is {not targeted}, got {targeted}"
    ):
        PGD(loss_function=kind(targeted=not targeted), targeted=targeted)


def test_masked_loss_leads_to_the_target(cases, trained_network):
    inputs, targets = cases
    goal = 2 - targets
    attack = PGD(loss_function=MaskedCrossEntropyLoss(targeted=True), targeted=True, eps=1.0, steps=40, iterate="best")
    with torch.no_grad():
        predicted = trained_network(attack(inputs, goal, trained_network)).argmax(1, keepdim=True)
    assert (predicted == goal).float().mean() > 0.8


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float64], ids=str)
def test_loss_of_one_sigmoid_channel_takes_labels_of_every_type(dtype, volume, label):
    network, loss = torch.nn.Conv3d(1, 1, 3, padding=1), DiceCELoss(sigmoid=True)
    binary = (label > 0).to(torch.float32)
    attack = PGD(eps=0.1, steps=2, loss_function=loss, output="sigmoid")
    assert torch.equal(attack(volume, binary.to(dtype), network), attack(volume, binary, network))
    plain = PGD(eps=0.1, steps=2, loss_function=loss)  # the loss says what the channel is
    assert torch.equal(plain(volume, binary.to(dtype), network), attack(volume, binary, network))


@pytest.mark.parametrize("kind", [None, MaskedCrossEntropyLoss, GeneralizedDiceLoss], ids=str)
def test_ignored_voxels_have_no_part_in_an_attack(kind, volume, label, tiny_network):
    """It is the attack on the loss of the other voxels, whatever kind of loss that is."""
    loss = {None: dice_ce, GeneralizedDiceLoss: generalized_dice}.get(kind, kind)()
    marked = label.clone()
    marked[:, :, :4] = 255
    attack = PGD(steps=3, loss_function=loss, output=Output("softmax", ignore=255))
    other = PGD(steps=3, loss_function=lambda logits, targets: loss(logits[:, :, 4:], targets[:, :, 4:]))
    inputs, network = volume.double(), tiny_network.double()
    torch.testing.assert_close(attack(inputs, marked, network), other(inputs, label, network))
    with pytest.raises(ValueError, match="target must have voxels that count, got the ignored label 255 alone"):
        attack(volume, label * 0 + 255, tiny_network.float())

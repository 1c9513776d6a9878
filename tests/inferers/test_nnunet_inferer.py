"""nnU-Net's sliding window: where its windows lie, what they weigh, and its gradient."""

import pytest
import torch
from torch import nn

from vafa_monai.attacks import PGD
from vafa_monai.inferers import InferredNetwork, NNUNetInferer


def network(classes=3):
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv3d(4, classes, 3, padding=1)).double()


def volume(*shape, batch=1):
    return torch.rand(batch, 1, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_a_network_without_neighbors_is_what_it_is_voxel_by_voxel():
    pointwise = nn.Conv3d(1, 2, 1).double()
    inputs = volume(11, 9, 5, batch=2)
    found = NNUNetInferer((8, 4, 8), mirror_axes=(0, 2))(inputs, pointwise)
    torch.testing.assert_close(found, pointwise(inputs))


@pytest.mark.parametrize(
    ("voxels", "edge", "starts"), [(110, 64, [0, 23, 46]), (64, 64, [0]), (65, 64, [0, 1]), (10, 4, [0, 2, 4, 6])]
)
def test_windows_are_spread_evenly(voxels, edge, starts):
    assert NNUNetInferer((edge,))._starts(voxels, edge) == starts


def test_the_mean_is_over_all_mirrored_copies():
    model, inputs = network(), volume(6, 6, 6)
    flips = [(), (2,), (4,), (2, 4)]
    expected = torch.stack([model(inputs.flip(flip)).flip(flip) for flip in flips]).mean(0)
    torch.testing.assert_close(NNUNetInferer((6, 6, 6), mirror_axes=(0, 2))(inputs, model), expected)


def test_two_windows_are_blended_by_their_weights():
    model, inputs, inferer = network(), volume(6, 4, 4), NNUNetInferer((4, 4, 4))
    weight = inferer._weight.double()
    assert weight[2, 2, 2] == 10
    first, last = model(inputs[:, :, :4]), model(inputs[:, :, 2:])
    found = inferer(inputs, model)
    torch.testing.assert_close(found[:, :, :2], first[:, :, :2])
    share = weight[2:] / (weight[2:] + weight[:2])
    torch.testing.assert_close(found[:, :, 2:4], share * first[:, :, 2:] + (1 - share) * last[:, :, :2])


def test_windows_of_a_whole_step_lie_side_by_side():
    model, inputs = network(), volume(8, 4, 4)
    expected = torch.cat([model(half) for half in inputs.split(4, dim=2)], dim=2)
    torch.testing.assert_close(NNUNetInferer((4, 4, 4), step_size=1)(inputs, model), expected)


@pytest.mark.parametrize("gaussian", [True, False])
def test_gradient_is_that_of_autograd(gaussian):
    model = network(classes=2)
    inferer = NNUNetInferer((4, 4, 4), mirror_axes=(1,), gaussian=gaussian)
    inputs = volume(6, 5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: inferer(x, model), inputs, atol=1e-6)


def test_a_network_can_be_attacked_through_it():
    model, inputs = network(classes=2).float(), volume(7, 6, 5).float()
    labels = model(inputs).argmax(1, keepdim=True)
    whole = InferredNetwork(model, NNUNetInferer((4, 4, 4)))
    adv = PGD(eps=0.1, steps=3)(inputs, labels, whole)
    assert 0 < (adv - inputs).abs().max() <= 0.1 + 1e-6


@pytest.mark.parametrize("change", [{"step_size": 0}, {"step_size": 1.5}, {"mirror_axes": (3,)}])
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        NNUNetInferer((4, 4, 4), **change)


def test_deep_supervision_is_refused():
    with pytest.raises(TypeError, match="tensor"):
        NNUNetInferer((4, 4, 4))(volume(4, 4, 4), lambda window: [window, window])

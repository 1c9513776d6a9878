"""Two halves of a batch in two passes."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from vafa_monai.inferers import TwoPassInferer


class DeepSupervision(nn.Module):
    """Two outputs, the second coarser, as in training with deep supervision."""

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind
        self.fine, self.coarse = nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 2, stride=2)

    def forward(self, inputs: Tensor) -> list[Tensor] | tuple[Tensor, ...]:
        return self.kind([self.fine(inputs), self.coarse(inputs)])


@pytest.fixture
def batch(volume: Tensor) -> Tensor:
    """Four volumes, whose second half is darker."""
    return torch.cat([volume, 0.3 * volume])


def running_statistics(network: nn.Module) -> list[Tensor]:
    return [network[1].running_mean, network[1].running_var, network[1].num_batches_tracked]


def test_running_statistics_are_those_of_two_explicit_passes(batch, normalized_network):
    normalized_network.train()[3].eval()  # no dropout
    explicit = copy.deepcopy(normalized_network)
    prediction = TwoPassInferer()(batch, normalized_network)
    expected = torch.cat([explicit(batch[:2]), explicit(batch[2:])])
    assert torch.equal(prediction, expected)
    torch.testing.assert_close(running_statistics(normalized_network), running_statistics(explicit), rtol=0, atol=0)


def test_running_statistics_and_prediction_differ_from_one_pass(batch, normalized_network):
    normalized_network.train()[3].eval()
    together = copy.deepcopy(normalized_network)
    prediction = TwoPassInferer()(batch, normalized_network)
    assert (prediction - together(batch)).abs().max() > 0.1
    assert normalized_network[1].num_batches_tracked == together[1].num_batches_tracked + 1
    assert not torch.allclose(normalized_network[1].running_mean, together[1].running_mean)


def test_prediction_in_eval_mode_equals_one_pass(batch, normalized_network):
    torch.testing.assert_close(TwoPassInferer()(batch, normalized_network), normalized_network(batch))


def test_all_go_at_once_in_eval_mode(batch, normalized_network):
    sizes = []
    TwoPassInferer(lambda part, network: sizes.append(len(part)) or network(part))(batch, normalized_network.eval())
    assert sizes == [len(batch)]


@pytest.mark.parametrize("size", [1, 3, 5])
def test_odd_batch_keeps_its_order(size, tiny_network):
    inputs = torch.rand(size, 1, 4, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(TwoPassInferer()(inputs, tiny_network), tiny_network(inputs))


@pytest.mark.parametrize(("first", "sizes"), [(None, [2, 2]), (1, [1, 3]), (0, [4]), (4, [4]), (9, [4])])
def test_parts_may_differ_in_size(first, sizes, batch, tiny_network):
    seen = []
    inferer = TwoPassInferer(lambda part, network: seen.append(len(part)) or network(part), first=first)
    torch.testing.assert_close(inferer(batch, tiny_network.train()), tiny_network(batch))
    assert seen == sizes


@pytest.mark.parametrize("kind", [list, tuple], ids=["list", "tuple"])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_outputs_of_deep_supervision_are_joined_one_by_one(kind, size):
    network = DeepSupervision(kind)
    inputs = torch.rand(size, 1, 4, 6, 2, generator=torch.Generator().manual_seed(0))
    outputs = TwoPassInferer()(inputs, network)
    assert [tuple(one.shape) for one in outputs] == [(size, 2, 4, 6, 2), (size, 2, 2, 3, 1)]
    torch.testing.assert_close(list(outputs), list(network(inputs)))


def test_every_half_goes_through_the_inner_inferer(batch, tiny_network):
    inner = SlidingWindowInferer((4, 3, 5), overlap=0.5)
    assert torch.equal(TwoPassInferer(inner)(batch, tiny_network), inner(batch, tiny_network))
    sizes = []
    TwoPassInferer(lambda half, network: sizes.append(len(half)) or network(half))(batch, tiny_network.train())
    assert sizes == [2, 2]


def test_further_arguments_reach_the_network(batch):
    doubled = TwoPassInferer()(batch, lambda inputs, factor, shift: factor * inputs + shift, 2, shift=1)
    torch.testing.assert_close(doubled, 2 * batch + 1)


def test_inferer_can_be_built_from_json(batch, tiny_network):
    inner = {"_target_": "SlidingWindowInferer", "roi_size": [4, 3, 5], "overlap": 0.5}
    config = {"_target_": "vafa_monai.inferers.TwoPassInferer", "inferer": inner}
    built = ConfigParser({"inferer": config}).get_parsed_content("inferer")
    expected = SlidingWindowInferer((4, 3, 5), overlap=0.5)(batch, tiny_network)
    assert torch.equal(built(batch, tiny_network), expected)

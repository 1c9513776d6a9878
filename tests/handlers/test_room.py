"""What is done where memory runs out."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from torch import nn

from vafa_monai.attacks import FGSM, PGD
from vafa_monai.handlers.batch import MemoryPlan, attack_within_memory
from vafa_monai.inferers import InferredNetwork, SlidingWindowNetwork

SHAPE, WINDOW = (4, 1, 6, 5, 4), (3, 5, 4)


class Crowded(nn.Module):
    """A network that has no memory for more than ``most`` windows with a graph, or for none without checkpointing."""

    def __init__(self, most, error=torch.OutOfMemoryError):
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.most, self.error = nn.Conv3d(1, 3, 3, padding=1), most, error
        self.asked = []

    def forward(self, windows):
        is_checkpointed = "forward" in self.inside.__dict__
        if windows.requires_grad:
            self.asked.append((len(windows), is_checkpointed))
            if len(windows) > max(self.most, 1) or (self.most < 1 and not is_checkpointed):
                raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return self.inside(windows)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SHAPE, generator=generator), torch.randint(0, 3, SHAPE, generator=generator)


def pipeline(network, sw_batch_size=8):
    return SlidingWindowNetwork.from_inferer(network, SlidingWindowInferer(WINDOW, sw_batch_size, overlap=0.5))


def test_steps_down_are_fewer_volumes_then_fewer_windows_then_checkpointing():
    rooms = [MemoryPlan(3, 5)]
    while (smaller := rooms[-1].smaller()) is not None:
        rooms.append(smaller)
    assert rooms[1:] == [MemoryPlan(1, 5), MemoryPlan(1, 2), MemoryPlan(1, 1), MemoryPlan(1, 1, checkpointing=True)]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError], ids=["gpu", "cpu"])
@pytest.mark.parametrize(
    ("most", "room"),
    [(99, MemoryPlan(4, 8)), (3, MemoryPlan(1, 2)), (1, MemoryPlan(1, 1)), (0, MemoryPlan(1, 1, checkpointing=True))],
    ids=["enough", "few windows", "one window", "checkpointing"],
)
def test_attack_in_little_memory_is_the_same(batch, most, room, error):
    expected, _, _ = attack_within_memory(FGSM(), *batch, pipeline(Crowded(99)))
    adv, details, found = attack_within_memory(FGSM(), *batch, pipeline(Crowded(most, error)))
    torch.testing.assert_close(adv, expected)
    assert found == room
    assert details == [{}] * 4


def test_batch_is_split_without_a_sliding_window(batch):
    network = Crowded(2)
    adv, _, room = attack_within_memory(FGSM(), *batch, InferredNetwork(network))
    torch.testing.assert_close(adv, FGSM()(*batch, Crowded(99)))
    assert room == MemoryPlan(2, 1)
    assert [windows for windows, _ in network.asked] == [4, 2, 2]


def test_room_of_the_last_batch_is_where_the_next_begins(batch):
    network = Crowded(2)
    attack_within_memory(FGSM(), *batch, InferredNetwork(network), MemoryPlan(1, 1))
    assert [windows for windows, _ in network.asked] == [1, 1, 1, 1]


def test_too_little_memory_for_one_window_is_said(batch):
    network = Crowded(1)
    network.most = -1
    network.inside = nn.Identity()  # nothing to run again: a network without parts that could be checkpointed
    whole = InferredNetwork(nn.Sequential(network))
    with pytest.raises(
        RuntimeError, match=r"roi_size must be small enough for memory, got an attack on \(1, 6, 5, 4\)"
    ):
        attack_within_memory(PGD(steps=1), *batch, whole)


def test_other_errors_are_raised(batch):
    def fail(*_):
        raise RuntimeError("no kernel")

    with pytest.raises(RuntimeError, match="no kernel"):
        attack_within_memory(fail, *batch, InferredNetwork(Crowded(99)))

"""Three tiny cases with metadata, a network that segments them by intensity, and MONAI's own engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.transforms import AsDiscreted
from torch import Tensor, nn

SPACING = (1.5, 0.8, 2.5)


@pytest.fixture
def affine() -> Tensor:
    """Voxels of 1.5 x 0.8 x 2.5 mm, somewhere in space, mirrored along x."""
    affine = torch.diag(torch.tensor([-SPACING[0], SPACING[1], SPACING[2], 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([30.0, -20.0, 10.0])
    return affine


@pytest.fixture
def cases(volume: Tensor, affine: Tensor) -> list[dict[str, MetaTensor]]:
    """Dark, gray and bright tissue; the last case has no bright one."""
    images = [volume[0], volume[1], volume[0].flip(2) * 0.54]
    return [
        {
            "image": MetaTensor(image, affine=affine, meta={"filename_or_obj": f"folder/case_{index}.nii.gz"}),
            "label": MetaTensor((image > 0.4).float() + (image > 0.6).float(), affine=affine),
        }
        for index, image in enumerate(images)
    ]


@pytest.fixture
def loader(cases: list[dict[str, MetaTensor]]) -> DataLoader:
    """The cases in their order, two in a batch: the second batch has one."""
    return DataLoader(Dataset(cases), batch_size=2)


@pytest.fixture
def threshold_network() -> nn.Module:
    """Logits whose largest is that of the true class: the thresholds are 0.4 and 0.6."""
    network = nn.Conv3d(1, 3, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([0.0, 20.0, 40.0]).view(3, 1, 1, 1, 1)
        network.bias[:] = torch.tensor([0.0, -8.0, -20.0])
    return network.eval()


@pytest.fixture
def evaluator(loader: DataLoader) -> Callable[..., SupervisedEvaluator]:
    """Stock evaluator of a network and handlers; predictions and labels become one-hot."""

    def build(network: nn.Module, handlers: Sequence[Any], **settings: Any) -> SupervisedEvaluator:
        one_hot = AsDiscreted(["pred", "label"], argmax=[True, False], to_onehot=3)
        stock = {"val_data_loader": loader, "postprocessing": one_hot} | settings
        return SupervisedEvaluator(torch.device("cpu"), network=network, val_handlers=handlers, **stock)

    return build


@pytest.fixture
def trainer(loader: DataLoader) -> Callable[..., SupervisedTrainer]:
    """Stock trainer of one epoch, by plain gradient descent."""

    def build(network: nn.Module, handlers: Sequence[Any], loss: Callable, **settings: Any) -> SupervisedTrainer:
        stock = {"optimizer": torch.optim.SGD(network.parameters(), lr=0.1), "max_epochs": 1} | settings
        return SupervisedTrainer(
            "cpu", train_data_loader=loader, network=network, loss_function=loss, train_handlers=handlers, **stock
        )

    return build


class Probe:
    """Handler that keeps what a function finds in the engine at an event."""

    def __init__(self, event: Any, look: Callable[[Any], Any]) -> None:
        self.event, self.look, self.found = event, look, []

    def attach(self, engine: Any) -> None:
        engine.add_event_handler(self.event, lambda one: self.found.append(self.look(one)))


@pytest.fixture
def probe() -> type[Probe]:
    return Probe

"""Adversarial weight perturbation: where the gradient is taken, and what is left afterwards."""

from __future__ import annotations

import copy

import pytest
import torch
from ignite.engine import Events
from monai.data import list_data_collate
from monai.engines import IterationEvents
from torch import nn

from vafa_monai.attacks import FGSM
from vafa_monai.handlers import AdversarialTrainingHandler, WeightPerturbation
from vafa_monai.losses import AdversarialConsistencyLoss, dice_ce


def gradients(network, batch, loss):
    with torch.enable_grad():
        found = loss(network(batch["image"].as_tensor()), batch["label"].as_tensor())
        return torch.autograd.grad(found, list(network.parameters()))


def test_one_epoch_equals_the_algorithm_written_out(cases, trainer, normalized_network):
    """Wu et al., Eq. 7 to 9: move each layer by gamma of its length, take the gradient there, step from the start."""
    reference = copy.deepcopy(normalized_network)
    normalized_network[3].p = reference[3].p = 0.0  # no dropout
    trainer(normalized_network, [WeightPerturbation(gamma=0.05)], dice_ce()).run()
    for part in (cases[:2], cases[2:]):
        batch, moved = list_data_collate(part), copy.deepcopy(reference.train())
        with torch.no_grad():
            pairs = zip(moved.parameters(), gradients(copy.deepcopy(moved), batch, dice_ce()), strict=True)
            for weight, gradient in [pair for pair in pairs if pair[0].ndim > 1]:
                weight += 0.05 * weight.norm() * gradient / gradient.norm()
        with torch.no_grad():
            for weight, gradient in zip(reference.parameters(), gradients(moved, batch, dice_ce()), strict=True):
                weight -= 0.1 * gradient
        reference[1].load_state_dict(moved[1].state_dict() | dict(reference[1].named_parameters()))
    torch.testing.assert_close(normalized_network.state_dict(), reference.state_dict())


def test_loss_is_larger_at_the_perturbed_weights_and_the_weights_come_back(trainer, probe, normalized_network):
    normalized_network[3].p = 0.0
    start = {name: value.clone() for name, value in normalized_network.named_parameters()}
    losses = probe(IterationEvents.LOSS_COMPLETED, lambda engine: engine.state.output["loss"].item())
    after = probe(
        IterationEvents.BACKWARD_COMPLETED,
        lambda engine: {name: value.detach().clone() for name, value in engine.network.named_parameters()},
    )
    found = []
    for gamma in (0.0, 0.05):
        network = copy.deepcopy(normalized_network)
        trainer(network, [WeightPerturbation(gamma=gamma), losses, after], dice_ce(), epoch_length=1).run()
        found.append(losses.found.pop())
    assert found[1] > found[0] + 1e-3
    torch.testing.assert_close(after.found[-1], start, rtol=0, atol=0)


def test_it_sees_the_attacked_batch_and_begins_when_it_is_told(trainer, probe, normalized_network):
    sizes = []
    network = nn.Sequential(normalized_network)
    network.register_forward_pre_hook(lambda module, inputs: sizes.append((module.training, len(inputs[0]))))
    handlers = [AdversarialTrainingHandler(FGSM()), WeightPerturbation(gamma=0.01, start=1)]
    trainer(network, handlers, AdversarialConsistencyLoss()).run()
    assert [size for training, size in sizes if training] == [4, 2, 2]  # the second batch has one case, doubled


def test_frozen_weights_biases_and_running_statistics_are_not_moved(trainer, probe, normalized_network):
    normalized_network[0].weight.requires_grad_(False)
    handler = WeightPerturbation(gamma=0.5)
    before = {name: value.clone() for name, value in normalized_network.state_dict().items()}
    seen = probe(
        Events.ITERATION_STARTED, lambda engine: {k: v.clone() for k, v in engine.network.state_dict().items()}
    )
    trainer(normalized_network, [handler, seen], dice_ce(), epoch_length=1).run()
    moved = {name for name, value in seen.found[0].items() if not torch.equal(value, before[name])}
    assert moved == {"4.weight"}


def test_nothing_is_done_without_gamma(trainer, tiny_network):
    engine = trainer(tiny_network, [WeightPerturbation(gamma=0)], dice_ce())
    assert not engine.has_event_handler(WeightPerturbation.restore)
    with pytest.raises(ValueError, match="gamma must be at least 0 and finite, got -1"):
        WeightPerturbation(gamma=-1)
    with pytest.raises(ValueError, match="start must be at least 0, got -1"):
        WeightPerturbation(start=-1)

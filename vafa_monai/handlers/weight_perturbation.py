"""Adversarial weight perturbation: every step is made at the worst weights near those that there are."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Events
from monai.engines import IterationEvents
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from vafa_monai.attacks.validation import require_at_least, require_count
from vafa_monai.handlers.batch import engine_precision, prepared_batch

__all__ = ["WeightPerturbation"]


class WeightPerturbation:
    """Take the gradient of every step at perturbed weights, and the step from the weights themselves.

    The weights of each layer move along the gradient of the loss by ``gamma`` times their own length (AWP, Wu et al.,
    NeurIPS 2020, https://arxiv.org/abs/2004.05884, Eq. 7 and 8 with one step). It flattens the loss around the weights,
    which narrows the gap between training and unseen cases under attack, at one forward and one backward pass more. In
    a trainer's handlers it stands behind :class:`vafa_monai.handlers.AdversarialTrainingHandler`. Running statistics
    are those of the second pass alone; processes add up their gradients, so that all move alike.

    Args:
        gamma: length of the perturbation of a layer, relative to its weights; 0 perturbs nothing and costs nothing.
        start: number of batches before the first perturbation.

    Raises:
        ValueError: if a setting is negative.

    Example:
        >>> handler = WeightPerturbation(gamma=0.005, start=100)
    """

    def __init__(self, gamma: float = 0.005, start: int = 0) -> None:
        self.gamma, self.start = require_at_least("gamma", gamma, 0), require_count("start", start)
        self._kept: list[tuple[Tensor, Tensor]] = []

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        if self.gamma:
            engine.add_event_handler(Events.ITERATION_STARTED, self)
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self.restore)

    def __call__(self, engine: Any) -> None:
        """Move the weights to where the loss of the batch is larger."""
        if engine.state.iteration <= self.start:
            return
        wrapped = isinstance(engine.network, (DataParallel, DistributedDataParallel))
        network: nn.Module = engine.network.module if wrapped else engine.network
        weights = [one for one in network.parameters() if one.requires_grad and one.ndim > 1]
        gradients = _gradients(engine, network, weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                length = gradient.norm()
                if length > 0 and length.isfinite():  # NaN fails both
                    self._kept.append((weight, weight.clone()))
                    weight.add_(gradient, alpha=(self.gamma * weight.norm() / length).item())

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back, to the bit, before the optimizer moves them."""
        for weight, value in self._kept:
            weight.copy_(value)
        self._kept = []


def _gradients(engine: Any, network: nn.Module, weights: list[nn.Parameter]) -> list[Tensor]:
    """Return the gradient of the loss of the batch to every weight, of all processes together."""
    inputs, targets = prepared_batch(engine)
    buffers = {name: value.clone() for name, value in network.named_buffers()}
    network.train()
    with engine_precision(engine):
        loss = engine.loss_function(engine.inferer(inputs, network), targets).mean()
    loss = engine.scaler.scale(loss) if engine.amp and engine.scaler is not None else loss
    found = torch.autograd.grad(loss, weights, allow_unused=True)
    with torch.no_grad():
        for name, value in network.named_buffers():
            value.copy_(buffers[name])
    gradients = [torch.zeros_like(one) if way is None else way for one, way in zip(weights, found, strict=True)]
    if dist.is_available() and dist.is_initialized():
        for gradient in gradients:
            dist.all_reduce(gradient)
    return gradients

"""The moving average of a network's weights, which is validated and kept in its place."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import IterationEvents
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from vafa_monai.attacks.validation import require_at_least

__all__ = ["WeightAverage", "averaged_network"]


def averaged_network(network: nn.Module, decay: float) -> nn.Module:
    """Return what is to hold the average: a copy in evaluation mode, or the network itself if nothing is averaged.

    Args:
        network: the network, or the wrapper of several processes around it.
        decay: what is left of the average after a batch.
    """
    return deepcopy(_bare(network)).eval().requires_grad_(False) if decay else network


def _bare(network: nn.Module) -> nn.Module:
    """Return the network in the wrapper of several processes."""
    return network.module if isinstance(network, (DataParallel, DistributedDataParallel)) else network


class WeightAverage:
    """Average the weights of a network over its training, and validate the average.

    Averaged weights are flatter (Izmailov et al., UAI 2018), and hold better under attack (Rebuffi et al., NeurIPS
    2021, https://arxiv.org/abs/2103.01946).

    After every batch ``average = d * average + (1 - d) * weights``, where d is the smaller of ``decay`` and
    ``(1 + n) / (10 + n)`` after n batches, so that the first weights are soon forgotten. Running statistics are
    averaged like weights, counters copied. Give :attr:`network_average` to the evaluator: what it validates is what
    :class:`vafa_monai.handlers.ResumableTraining` keeps, and goes on from.

    It differs from ignite's ``EMAHandler`` in three points that an exact continuation needs: d is a function of the
    number of the batch, the average begins with the weights that the training begins with, not with those before a
    checkpoint was loaded, and buffers are copies.

    Args:
        network: the network, or the wrapper of several processes around it.
        decay: what is left of the average after a batch, in [0, 1); 0 averages nothing and takes no memory.
        network_average: what :func:`averaged_network` made of both, where a config names it; ``None`` makes it.

    Raises:
        ValueError: if ``decay`` is no such number.

    Example:
        >>> network = nn.Conv3d(1, 2, 1)
        >>> WeightAverage(network, decay=0).network_average is network
        True
    """

    def __init__(self, network: nn.Module, decay: float = 0.995, network_average: nn.Module | None = None) -> None:
        require_at_least("decay", decay, 0)
        if decay >= 1:
            raise ValueError(f"decay must be below 1, got {decay!r}.")
        self.decay = decay
        self.network = _bare(network)
        self.network_average = averaged_network(network, decay) if network_average is None else network_average

    def attach(self, engine: Any) -> None:
        """Attach to a trainer."""
        if self.decay:
            engine.add_event_handler(Events.STARTED, self.begin)
            engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def begin(self) -> None:
        """Begin with the weights that there are."""
        self.network_average.load_state_dict(self.network.state_dict())

    def __call__(self, engine: Any) -> None:
        """Average once more."""
        number = engine.state.iteration
        self.update(min(self.decay, (1 + number) / (10 + number)))

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move the average towards the weights."""
        now = self.network.state_dict()
        for name, value in self.network_average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(now[name].to(value.dtype), 1 - decay)
            else:
                value.copy_(now[name])

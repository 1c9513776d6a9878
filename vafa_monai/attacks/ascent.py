"""The one loop of all attacks: what is raised, on a network that may spoil nothing, step by step, from some starts."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from monai.utils import StrEnum
from torch import Tensor, nn

from vafa_monai.attacks.cpu import fast_convolutions
from vafa_monai.attacks.norm import Move, SteepestMove
from vafa_monai.attacks.validation import require_count
from vafa_monai.losses.output import Output, refuse_unfit_loss

__all__ = [
    "Ascent",
    "GuardedNetwork",
    "Iterate",
    "LossObjective",
    "PenalizedObjective",
    "ascend",
    "best_run",
    "climb",
    "isolated",
    "require_numbers",
    "require_restarts",
    "require_tensor",
    "returned",
]

MOST_PARTS = 4
CPU_ALLOCATOR = "DefaultCPUAllocator"  # what torch says in its RuntimeError where the CPU has no memory left


class NetworkError(RuntimeError):
    """A network that cannot be attacked, in one sentence."""


class GuardedNetwork:
    """A network that is called with a copy, into which it may write, and whose output is checked.

    Args:
        network: maps volumes ``(B, C, H, W, D)`` to logits ``(B, classes, H, W, D)``.

    Example:
        >>> volume = torch.zeros(1, 1, 2, 2, 2)
        >>> GuardedNetwork(lambda given: given.add_(1)).__call__(volume).sum().item(), volume.sum().item()
        (8.0, 0.0)
    """

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self.network: Callable[[Tensor], Tensor] = network.network if isinstance(network, GuardedNetwork) else network

    def __call__(self, volume: Tensor) -> Tensor:
        """Return the logits of a volume.

        Raises:
            TypeError: if they are no tensor of floating-point numbers.
            ValueError: if they do not have the batch and spatial size of the volume.
            NetworkError: if the network fails, or gives no gradient where one is asked for.
        """
        try:
            logits = require_tensor(self.network(volume.clone()))
        except RuntimeError as error:
            raise ours(error, f"network must take volumes of {volume.dtype} and shape {tuple(volume.shape)}") from error
        if logits.ndim != volume.ndim or (logits.shape[0], *logits.shape[2:]) != (volume.shape[0], *volume.shape[2:]):
            shapes = f"{tuple(logits.shape)} for inputs of shape {tuple(volume.shape)}"
            raise ValueError(f"network must return logits of the batch and spatial size of its inputs, got {shapes}.")
        if volume.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise NetworkError(
                "network must give a gradient to its inputs, got logits without one; does it detach them, or run under "
                "no_grad or inference_mode?"
            )
        return logits


def returned(output: Any) -> str:
    """Say in a few words what a network returned: its type, and what is in it.

    Example:
        >>> returned([torch.zeros(1, 2), None])
        'list of tensor (1, 2), NoneType'
        >>> returned({"out": torch.zeros(3)})
        "dict of 'out': tensor (3,)"
    """
    if isinstance(output, Tensor):
        return f"tensor {tuple(output.shape)}"
    kind = type(output).__name__
    if isinstance(output, Mapping):
        parts = [f"{key!r}: {returned(part)}" for key, part in output.items()]
    else:
        parts = [returned(part) for part in output] if isinstance(output, (list, tuple)) else []
    shown = [*parts[:MOST_PARTS], f"{len(parts) - MOST_PARTS} more"] if len(parts) > MOST_PARTS else parts
    return f"{kind} of {', '.join(shown)}" if shown else kind


def require_tensor(logits: Any) -> Tensor:
    """Refuse an output of a network that is no tensor of floating-point numbers."""
    if not isinstance(logits, Tensor):
        several = isinstance(logits, (list, tuple, Mapping))
        remedy = "; vafa_monai.inferers.OutputAdapter takes the one of an entry" if several else ""
        raise TypeError(f"network must return one tensor of logits, got {returned(logits)}{remedy}.")
    if not logits.is_floating_point():
        raise TypeError(f"network must return logits of floating-point numbers, got {logits.dtype}.")
    return logits


def require_numbers(logits: Tensor) -> Tensor:
    """Refuse logits that no class can be read from; one of minus infinity is a class that is ruled out."""
    if not (logits < float("inf")).all():  # NaN fails
        raise NetworkError("network must return finite logits, got NaN or infinity.")
    return logits


def ours(error: RuntimeError, rule: str) -> RuntimeError:
    """Return an error of torch as a sentence that begins with ``rule``; others, and those of memory, as they are."""
    if type(error) not in (RuntimeError, NotImplementedError) or CPU_ALLOCATOR in str(error):
        return error
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return NetworkError(f"{rule}, got: {reason.rstrip('.')}.")


@contextmanager
def isolated(network: Callable[[Tensor], Tensor], device: torch.device, seed: int = 0) -> Iterator[None]:
    """Freeze the weights of ``network``, seed what it draws, and put everything back afterwards.

    Inside, no weight asks for a gradient and dropout draws the same numbers at every call. Afterwards
    ``requires_grad``, the buffers (the running statistics of batch norm move in train mode) and the state of the random
    generators are what they were. A network that is no module has its random numbers seeded, nothing else.

    Args:
        network: the attacked network, a module or any callable.
        device: where it runs, a device whose random generator is seeded beside the CPU's.
        seed: seed of the random numbers drawn inside.

    Raises:
        NetworkError: if the network has changed its weights meanwhile.
    """
    module = network if isinstance(network, nn.Module) else nn.Module()
    weights = {name: weight for name, weight in module.named_parameters() if not weight.is_inference()}
    asked = {name: (weight.requires_grad, weight._version) for name, weight in weights.items()}
    moving = [(buffer, buffer.clone()) for buffer in module.buffers() if not buffer.is_inference()]
    with _seeded(device, seed), fast_convolutions(device):
        try:
            for weight in weights.values():
                weight.requires_grad_(False)
            yield
        finally:
            for name, weight in weights.items():
                weight.requires_grad_(asked[name][0])
            with torch.no_grad():
                for buffer, value in moving:
                    if not torch.equal(buffer, value):
                        buffer.copy_(value)
    changed = [name for name, weight in weights.items() if weight._version != asked[name][1]]
    if changed:
        raise NetworkError(
            f"network must leave its weights as they are, got a forward pass that changes {changed[0]!r}."
        )


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators of torch, Python and NumPy, and put their states back."""
    generators = [] if device.type == "cpu" else [device]
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - what a network may draw from
    with torch.random.fork_rng(generators, device_type=device.type if generators else "cuda"):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002


class Judgment(NamedTuple):
    """One number a sample each: what is climbed, and what iterates are compared by."""

    value: Tensor
    score: Tensor


def judge(objective: Callable[[Tensor], Tensor], adv: Tensor, step: int) -> Judgment:
    """Ask an objective that knows the step, or one that is a plain function of the volume."""
    asked = getattr(objective, "judge", None)
    if asked is not None:
        return asked(adv, step)
    value = objective(adv)
    return Judgment(value, value)


@dataclass(frozen=True)
class LossObjective:
    """The loss of ``network`` against ``targets``, sample by sample.

    Most losses are climbed and compared by alike. A loss whose value falls where an attack has won (masked or weighted
    cross entropy) has a method ``harm(logits, targets)`` of one number a sample, and iterates are compared by that. A
    loss that changes in the course of an attack has a method ``at(progress)``.

    Args:
        loss_function: loss of ``(logits, targets)``, called for one sample at a time.
        targets: labels; or whatever a loss with a true ``of_predictions`` compares logits with.
        network: maps volumes to logits.
        sign: 1 to raise the loss, -1 to lower it.
        steps: number of steps of the attack.
        output: what the channels of logits and labels mean.
    """

    loss_function: Callable[[Tensor, Tensor], Tensor]
    targets: Tensor
    network: Callable[[Tensor], Tensor]
    sign: float = 1.0
    steps: int = 1
    output: Output = Output()  # noqa: RUF009 - it is immutable

    @cached_property
    def highest_label(self) -> float:
        """The highest class index that counts."""
        return self.output.without_ignored(self.targets).max().item()

    def __call__(self, adv: Tensor) -> Tensor:
        """Return what is climbed at the first step, ``(B,)``."""
        return self.judge(adv, 0).value

    def predict(self, adv: Tensor, step: int) -> Tensor:
        """Return the logits of an attacked volume."""
        return self.network(adv)

    def judge(self, adv: Tensor, step: int) -> Judgment:
        """Return what is climbed at ``step``, and what iterates are compared by."""
        logits = require_tensor(self.predict(adv, step))
        self._require_fit(logits.shape[1])
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        loss_function, harm = self.loss_function, getattr(self.loss_function, "harm", None)
        if hasattr(loss_function, "at"):
            loss_function = loss_function.at(min(step / max(self.steps, 1), 1.0))
        value = self._of_samples(loss_function, logits)
        if harm is None:
            return Judgment(value, value)
        with torch.no_grad():
            return Judgment(value, self._of_samples(harm, logits))

    def _require_fit(self, channels: int) -> None:
        """Refuse logits, targets and a loss that do not agree on what the channels are."""
        refuse_unfit_loss(self.loss_function, channels, self.output)
        if getattr(self.loss_function, "of_predictions", False):
            return
        if self.output.is_sigmoid and self.targets.shape[1] != channels:
            rule = f'have the {channels} channels of the network under output="sigmoid"'
            raise ValueError(f"targets must {rule}, got {self.targets.shape[1]}.")
        classes = max(channels, 2)  # a loss of one's own may know what one channel is
        if not self.output.is_sigmoid and self.highest_label >= classes:
            raise ValueError(f"targets must hold class indices from 0 to {classes - 1}, got {self.highest_label:g}.")

    def _of_samples(self, loss_function: Callable[[Tensor, Tensor], Tensor], logits: Tensor) -> Tensor:
        """Return the signed loss of every sample, ``(B,)``."""
        targets = self.targets
        if logits.shape[1] == targets.shape[1]:  # a loss of every channel by itself takes no integers
            targets = targets.to(logits.dtype)
        one = len(logits) == 1
        samples = [(logits, targets)] if one else zip(logits.split(1), targets.split(1), strict=True)
        loss = torch.stack([loss_function(*self.output.counted(*sample)).squeeze() for sample in samples])
        if not torch.isfinite(loss).all():  # the sign of NaN is 0: the attack would stand still, and look harmless
            raise RuntimeError(f"loss_function must give finite losses, got {loss.tolist()}; check the network.")
        return self.sign * loss


@dataclass(frozen=True)
class PenalizedObjective:
    """An objective minus a penalty of the volume, one number a sample."""

    objective: Callable[[Tensor], Tensor]
    penalty: Callable[[Tensor], Tensor]

    def __call__(self, adv: Tensor) -> Tensor:
        """Return what is climbed at the first step, ``(B,)``."""
        return self.judge(adv, 0).value

    def judge(self, adv: Tensor, step: int) -> Judgment:
        """Return what is climbed at ``step``, and what iterates are compared by."""
        judgment = judge(self.objective, adv, step)
        penalty = self.penalty(adv)
        return Judgment(*(part - penalty for part in judgment))


class Iterate(StrEnum):
    """Which image of the ascent is returned."""

    LAST = "last"
    LAST_EVALUATED = "last_evaluated"
    BEST = "best"


class Perturbation(Protocol):
    """What an attack may change: a variable, the image that it makes, and the set that it must stay in."""

    def start(self) -> Tensor:
        """Return the first value of the variable; its first axis is the batch."""

    def apply(self, variable: Tensor, step: int) -> Tensor:
        """Return the attacked volume ``(B, C, H, W, D)`` of ``variable``, inside the allowed intensities."""

    def project(self, variable: Tensor) -> Tensor:
        """Return the nearest value that is allowed."""


@dataclass(frozen=True)
class Ascent:
    """What an attack found: volumes ``(B, C, H, W, D)``, the variable that made them, its objective ``(B,)``.

    The objective is the number that iterates are compared by.
    """

    adv: Tensor
    variable: Tensor | None = None
    objective: Tensor | None = None

    def details(self) -> list[dict[str, Any]]:
        """Return what more there is to say of each sample, as JSON; nothing of a single attack."""
        return [{} for _ in self.adv]


def ascend(
    perturbation: Perturbation,
    objective: Callable[[Tensor], Tensor],
    *,
    steps: int,
    step_size: float,
    iterate: Iterate | str = Iterate.LAST,
) -> Ascent:
    """Raise ``objective`` by ``steps`` signed gradient steps on the variable of ``perturbation``.

    Args:
        perturbation: what may change.
        objective: maps an attacked volume ``(B, C, H, W, D)`` to one number a sample, ``(B,)``, to be raised.
        steps: number of gradient steps, >= 0; 0 returns the starting image.
        step_size: length of a step along every coordinate, in the unit of the variable.
        iterate: ``"last"`` is the image after the last step; ``"last_evaluated"`` the one that the last gradient was
            taken at (Algorithm 1 of the paper returns it); ``"best"`` the best of all, sample by sample, which costs
            one forward pass more.

    Returns:
        The chosen iterate, detached.
    """
    return climb(perturbation, objective, SteepestMove(perturbation, step_size), steps=steps, iterate=iterate)


def climb(
    perturbation: Perturbation,
    objective: Callable[[Tensor], Tensor],
    move: Move,
    *,
    steps: int,
    iterate: Iterate | str = Iterate.BEST,
    with_gradient: bool = True,
) -> Ascent:
    """Raise ``objective`` by ``steps`` moves: the loop of :func:`ascend` for any rule.

    Args:
        perturbation: what may change.
        objective: maps an attacked volume to one number a sample; or an object with
            ``judge(adv, step) -> Judgment``, which knows the step and may compare iterates by another number.
        move: how to step, a rule made for this ascent.
        steps: number of moves, >= 0.
        iterate: which image is returned.
        with_gradient: whether ``move`` wants the gradient; without, the network is asked for its output only.

    Returns:
        The chosen iterate, detached.
    """
    variable = perturbation.start()
    found: Ascent | None = None
    for step in range(steps):
        variable = variable.detach().requires_grad_(with_gradient)
        with torch.set_grad_enabled(with_gradient):
            adv = perturbation.apply(variable, step)
            value, score = judge(objective, adv, step)
        gradient = _gradient(value, variable) if with_gradient else variable.new_empty(0)
        variable, score = variable.detach(), score.detach()
        current = Ascent(adv.detach(), variable, score)
        found = better(found, current) if iterate == Iterate.BEST else current
        variable = move(variable, gradient, score)
    if found is not None and iterate == Iterate.LAST_EVALUATED:
        return found
    with torch.no_grad():
        adv = perturbation.apply(variable, steps)
        last = Ascent(adv, variable, judge(objective, adv, steps).score if iterate == Iterate.BEST else None)
    return better(found, last) if iterate == Iterate.BEST else last


def better(found: Ascent | None, current: Ascent) -> Ascent:
    """Choose, sample by sample, the iterate of the higher objective; the earlier one where they are equal."""
    if found is None:
        return current
    new, old = (
        [part for part in (ascent.adv, ascent.variable, ascent.objective) if part is not None]
        for ascent in (current, found)
    )
    wins = new[-1] > old[-1]  # (B,)
    return Ascent(*(torch.where(wins.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in zip(new, old, strict=True)))


def _gradient(value: Tensor, variable: Tensor) -> Tensor:
    """Return the gradient of every sample's own value; refuse one that is not finite."""
    try:
        (gradient,) = torch.autograd.grad(value.sum(), variable, allow_unused=True)
    except RuntimeError as error:
        raise ours(error, "network and loss must be differentiable") from error
    if gradient is None:
        raise NetworkError("network must give a gradient to its inputs, got logits that do not depend on them.")
    if not torch.stack(gradient.aminmax()).isfinite().all():  # the sign of NaN is 0: the attack would stand still
        raise RuntimeError("network must have finite gradients, got NaN or infinite ones; check the network.")
    return gradient


def best_run(run: Callable[[int], Ascent], restarts: int) -> Ascent:
    """Return the best of the runs 0 to ``restarts - 1``, sample by sample; the earlier one where they are equal."""
    found = run(0)
    for number in range(1, restarts):
        found = better(found, run(number))
    return found


def require_restarts(restarts: int) -> None:
    """Refuse what is no whole number from 1 on."""
    require_count("restarts", restarts)
    if restarts == 0:
        raise ValueError(f"restarts must be at least 1, got {restarts!r}.")

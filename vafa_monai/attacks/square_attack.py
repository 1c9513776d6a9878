"""Square Attack in 3D: a black-box attack by random search."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent, Iterate, climb
from vafa_monai.attacks.attack import LossAttack, Network
from vafa_monai.attacks.norm import VoxelBall
from vafa_monai.attacks.validation import require_at_least, require_count, require_strength, warn

__all__ = ["SquareAttack"]

HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries


def box_share(query: int, queries: int, first: float) -> float:
    """Return the share of the voxels that a box covers at ``query``, 0 being the first box.

    It is ``first``, halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 of 10,000 queries; the moments scale
    with ``queries`` (Andriushchenko et al., ECCV 2020, Section 4; the authors' code).

    Example:
        >>> [box_share(query, 1000, 0.8) for query in (0, 1, 2, 6, 999)]
        [0.8, 0.8, 0.4, 0.2, 0.0015625]
    """
    return first / 2 ** bisect_left(HALVED_AFTER, query * 10_000 // queries)


def stripes(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw -1 or 1 for every line along the first spatial axis of ``(C, H, W, D)``: vertical stripes in every slice."""
    channels, _, width, depth = shape
    return _signs((channels, 1, width, depth), generator).expand(*shape)


def _signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw -1 or 1."""
    return 2.0 * torch.randint(0, 2, tuple(shape), generator=generator) - 1


class SquareMove:
    """Change one random box of the best volume so far to the edge of the ball, and forget it where the score fell.

    A box covers the same share of every axis, so it has the proportions of the volume. Its place and sign are the same
    for every sample; a sample whose box would change nothing gets the other sign.

    Args:
        ball: what may change.
        queries: number of boxes that will be tried.
        first: share of the voxels that the first box covers.
        generator: source of the random numbers.
    """

    def __init__(self, ball: VoxelBall, queries: int, first: float, generator: torch.Generator) -> None:
        self.clean = ball.clean
        self.edges = [ball.project(ball.clean + sign * ball.radius) for sign in (1, -1)]
        self.queries = queries
        self.first = first
        self.generator = generator
        self.query = 0
        self.best, self.best_score = ball.clean, torch.full((len(ball.clean),), float("-inf"), device=ball.clean.device)

    def __call__(self, variable: Tensor, gradient: Tensor, score: Tensor) -> Tensor:
        """Return the next candidate."""
        self._keep_the_better(variable, score)
        box = self._box()
        sign = _signs((self.clean.shape[1], 1, 1, 1), self.generator).to(self.clean.device)
        bright, dark = (edge[box] for edge in self.edges)
        candidate, other = torch.where(sign > 0, bright, dark), torch.where(sign > 0, dark, bright)
        vain = (candidate == self.best[box]).flatten(1).all(1).view(-1, 1, 1, 1, 1)
        moved = self.best.clone()
        moved[box] = torch.where(vain, other, candidate)
        self.query += 1
        return moved

    def _keep_the_better(self, variable: Tensor, score: Tensor) -> None:
        """Accept the candidate where its score is higher than any before."""
        wins = score > self.best_score
        self.best = torch.where(wins.view(-1, 1, 1, 1, 1), variable, self.best)
        self.best_score = torch.where(wins, score, self.best_score)

    def _box(self) -> tuple[slice, ...]:
        """Draw where the next box lies."""
        share = box_share(self.query, self.queries, self.first) ** (1 / 3)
        places = []
        for size in self.clean.shape[2:]:
            edge = max(round(share * size), 1)
            start = int(torch.randint(0, size - edge + 1, (), generator=self.generator))
            places.append(slice(start, start + edge))
        return (slice(None), slice(None), *places)


@dataclass(frozen=True, kw_only=True)
class SquareAttack(LossAttack):
    """Try random boxes of voxels at the edge of the L-inf ball and keep those that raise the loss; no gradient is used.

    Square Attack (Andriushchenko et al., ECCV 2020, https://arxiv.org/abs/1912.00049) with boxes instead of squares,
    accepted sample by sample. It starts at stripes of ``eps`` and ``-eps`` along the first spatial axis. An attack that
    knows the gradient and does less harm points at a network that hides it.

    Args:
        eps: radius, as a fraction of the width of ``value_range``, or as text in gray levels, such as ``"4 gray"``.
        queries: how often the network is asked.
        first_share: share of the voxels that the first box changes, in (0, 1]; it halves nine times on the way.
        seed: seed of the boxes; the same for every sample.
        loss_function: loss of ``(logits, targets)``; the default is soft Dice plus cross entropy.
        targeted: descend towards ``targets``.
        value_range: lowest and highest intensity that the network's input can have.

    Raises:
        ValueError: if ``eps`` or ``queries`` is negative, or ``first_share`` is outside (0, 1].

    Example:
        >>> volume, label = torch.full((1, 1, 4, 5, 6), 0.5), torch.zeros(1, 1, 4, 5, 6)
        >>> adv = SquareAttack(eps=0.1, queries=5)(volume, label, torch.nn.Conv3d(1, 2, 1))
        >>> round((adv - volume).abs().min().item(), 4)  # every voxel is at the edge
        0.1
    """

    eps: float = 4 / 255
    queries: int = 1000
    first_share: float = 0.8
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        object.__setattr__(self, "eps", require_strength("eps", self.eps))
        require_count("queries", self.queries)
        require_at_least("first_share", self.first_share, 0)
        if not 0 < self.first_share <= 1:
            raise ValueError(f"first_share must be positive and at most 1, got {self.first_share!r}.")
        if self.eps == 0:
            warn("eps is 0, so SquareAttack changes nothing.")

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return by how much each sample is beyond the budget, ``(B,)``."""
        return VoxelBall(clean, self.eps * self.width, self.one_range).excess(adv)

    @property
    def _steps(self) -> int:
        return self.queries

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        if self.queries == 0:
            return Ascent(self.clip(inputs))
        generator = torch.Generator().manual_seed(self.seed)
        start = stripes(inputs.shape[1:], generator).to(inputs)
        ball = VoxelBall(inputs, self.eps * self.width, self.one_range, start)
        boxes = self.queries - 1  # the start is a query, too
        return climb(
            ball,
            self.objective(targets, network),
            SquareMove(ball, boxes, self.first_share, generator),
            steps=boxes,
            iterate=Iterate.BEST,
            with_gradient=False,
        )

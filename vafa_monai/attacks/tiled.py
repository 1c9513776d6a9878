"""An attack tile by tile, as the published evaluations make it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from vafa_monai.attacks.ascent import Ascent
from vafa_monai.attacks.attack import Attack, AttackWrapper, Network
from vafa_monai.attacks.range_adapter import RangeAdapter
from vafa_monai.attacks.validation import require_block_size

__all__ = ["TiledAttack"]


@dataclass(frozen=True, kw_only=True)
class TiledAttack(AttackWrapper):
    """Attack every tile of a volume by itself, and put the tiles together.

    So did the experiments of the VAFA paper: tiles of the network's window without overlap, those at the far border
    shifted inwards, where the later one overwrites. Every tile meets ``network(tile)``, not the blend of overlapping
    windows that segments the volume afterwards, so the result underestimates what an adversary can do; use it to
    reproduce, and the plain attack to measure. Axes shorter than a tile are padded by their last voxels, and cropped.

    Args:
        attack: what attacks a tile.
        roi_size: edges of a tile in voxels.
        value_range: that of ``attack``, which is taken where none is given.

    Raises:
        TypeError: if ``attack`` is no attack.
        ValueError: if ``roi_size`` is impossible, ``value_range`` is not that of ``attack``, or ``attack`` has a
            :class:`RangeAdapter` in it, which would measure the intensities of each tile instead of the volume.

    Example:
        >>> import torch
        >>> from vafa_monai.attacks import GaussianNoise
        >>> volume = torch.full((1, 1, 6, 5, 4), 0.5)
        >>> tiled = TiledAttack(attack=GaussianNoise(std=0.1), roi_size=(4, 4, 4))
        >>> tiled(volume, volume.round(), torch.nn.Identity()).shape
        torch.Size([1, 1, 6, 5, 4])
    """

    roi_size: Sequence[int]

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        inside: Attack = self.attack
        while isinstance(inside, AttackWrapper):
            if isinstance(inside, RangeAdapter):
                raise ValueError(
                    "attack must not take the intensities of each tile for those of the volume, got a RangeAdapter; "
                    "put the RangeAdapter around the TiledAttack."
                )
            inside = inside.attack
        object.__setattr__(self, "roi_size", require_block_size(self.roi_size, name="roi_size"))

    def search(self, inputs: Tensor, targets: Tensor, network: Network) -> Ascent:
        """Find the attacked volumes."""
        height, width, depth = inputs.shape[2:]
        volume, labels = self._padded(inputs), self._padded(targets.float()).to(targets.dtype)
        adv = volume.clone()
        for tile in self._tiles(volume):
            adv[tile] = self.attack(volume[tile], labels[tile], network)
        return Ascent(adv[:, :, :height, :width, :depth].contiguous())

    def excess(self, clean: Tensor, adv: Tensor) -> Tensor:
        """Return the excess of every tile over the budget of its attack, in the voxels that no later one overwrote."""
        volume = self._padded(clean)
        change = F.pad(adv - clean, [part for pair in self._lacks(clean)[::-1] for part in (0, pair)])
        tiles = list(self._tiles(volume))
        owner = torch.zeros(volume.shape[2:], dtype=torch.int, device=clean.device)
        for number, tile in enumerate(tiles):
            owner[tile[2:]] = number
        return torch.stack(
            [
                self.attack.beyond(volume[tile], volume[tile] + change[tile] * (owner[tile[2:]] == number))
                for number, tile in enumerate(tiles)
            ]
        ).amax(0)

    def _lacks(self, volume: Tensor) -> list[int]:
        """Return how much shorter than a tile each axis is."""
        return [max(edge - size, 0) for edge, size in zip(self.roi_size, volume.shape[2:], strict=True)]

    def _padded(self, volume: Tensor) -> Tensor:
        """Return a volume no shorter than a tile."""
        padding = [part for lack in self._lacks(volume)[::-1] for part in (0, lack)]
        return F.pad(volume, padding, mode="replicate")

    def _tiles(self, volume: Tensor) -> Iterator[tuple[slice, ...]]:
        """Yield the tiles, the first axis slowest."""
        starts = [
            [min(start, size - edge) for start in range(0, size, edge)]
            for size, edge in zip(volume.shape[2:], self.roi_size, strict=True)
        ]
        for corner in product(*starts):
            edges = zip(corner, self.roi_size, strict=True)
            yield (slice(None), slice(None), *(slice(start, start + edge) for start, edge in edges))

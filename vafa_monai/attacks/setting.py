"""Checks of the settings of an attack."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["require_at_least", "require_block_size", "require_count"]


def require_at_least(name: str, value: float, lowest: float) -> None:
    """Refuse a number below ``lowest``, or none at all."""
    if isinstance(value, (bool, str)) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}.")
    if not lowest <= value < float("inf"):  # NaN fails
        raise ValueError(f"{name} must be at least {lowest:g} and finite, got {value!r}.")


def require_count(name: str, value: int) -> None:
    """Refuse what is no whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}.")
    if value < 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}.")


def require_block_size(value: Sequence[int]) -> tuple[int, int, int]:
    """Return the block edges as a tuple; refuse what is not three whole numbers from 1 on."""
    edges = tuple(value) if isinstance(value, Sequence) else (value,)
    if len(edges) != 3 or not all(isinstance(edge, int) and edge >= 1 for edge in edges):
        raise ValueError(f"block_size must be three edges (h, w, d) of at least 1 voxel, got {value!r}.")
    return edges

"""Several runs of an attack, of which the best counts."""

from __future__ import annotations

from collections.abc import Callable

from vafa_monai.attacks.ascent import Ascent, better
from vafa_monai.attacks.setting import require_count

__all__ = ["best_run", "require_restarts"]


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

"""The basic iterative method."""

from __future__ import annotations

from dataclasses import dataclass

from vafa_monai.attacks.pgd import PGD

__all__ = ["BIM"]


@dataclass(frozen=True, kw_only=True)
class BIM(PGD):
    """:class:`PGD` from the clean volume in steps of ``2 * eps / steps`` (Kurakin et al., 2016).

    https://arxiv.org/abs/1607.02533. With the ``step_size=0.01`` of the VAFA paper it equals that paper's PGD.

    Example:
        >>> BIM(eps=0.1, steps=10).random_start
        False
    """

    def __post_init__(self) -> None:
        """Refuse a random start, which is PGD."""
        super().__post_init__()
        if self.random_start:
            raise ValueError("random_start must be False for BIM, got True; use PGD.")
        if self.step_size is None:
            object.__setattr__(self, "step_size", 2 * self.eps / max(self.steps, 1))

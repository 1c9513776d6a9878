"""The fast gradient sign method."""

from __future__ import annotations

from dataclasses import dataclass

from vafa_monai.attacks.pgd import PGD

__all__ = ["FGSM"]


@dataclass(frozen=True, kw_only=True)
class FGSM(PGD):
    """:class:`PGD` with one step of length ``eps`` (Goodfellow et al., ICLR 2015, https://arxiv.org/abs/1412.6572).

    Example:
        >>> attack = FGSM(eps=0.1)
        >>> attack.steps, attack.step_size
        (1, 0.1)
    """

    steps: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no single step."""
        super().__post_init__()
        if self.steps != 1 or self.step_size not in (None, self.eps):
            raise ValueError(f"steps must be 1 and step_size eps for FGSM, got {self.steps!r} and {self.step_size!r}.")
        object.__setattr__(self, "step_size", self.eps)

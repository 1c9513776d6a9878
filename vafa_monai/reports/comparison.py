"""Results of several models and attacks, side by side: what belongs to whom, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vafa_monai.reports.attack_name import CLEAN, attack_order
from vafa_monai.reports.result import Result

__all__ = ["Comparison"]

REFERENCE = "standard"


@dataclass(frozen=True)
class Comparison:
    """Results by model and attack.

    The reference model, which the others are compared with, is the one called ``standard``, else the first.

    Args:
        results: what :func:`load_results` gave back.
    """

    results: Sequence[Result]
    by_name: dict[tuple[str, str], Result] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Index the results; refuse none at all."""
        if not self.results:
            raise ValueError(f"results must have at least one entry, got {self.results!r}.")
        object.__setattr__(self, "by_name", {(result.model, result.attack): result for result in self.results})

    @property
    def models(self) -> list[str]:
        """The models, the reference first, the others in the order of the results."""
        names = list(dict.fromkeys(result.model for result in self.results))
        return sorted(names, key=lambda name: name != REFERENCE)

    @property
    def reference(self) -> str:
        """The model that the others are compared with."""
        return self.models[0]

    @property
    def others(self) -> list[str]:
        """The models that are compared with the reference."""
        return self.models[1:]

    def attacks(self, role: str | None = None) -> list[str]:
        """Return the attacks of a role, the clean run left out; without a role, all and the clean run first."""
        chosen = (r for r in self.results if role is None or (r.role == role and r.attack != CLEAN))
        return attack_order(result.attack for result in chosen)

    def get(self, model: str, attack: str) -> Result | None:
        """Return the result of an attack on a model, or ``None`` if it was not run."""
        return self.by_name.get((model, attack))

    def clean_dice(self, model: str) -> float | None:
        """Return the foreground DSC of a model without attack."""
        clean = self.get(model, CLEAN)
        return None if clean is None else clean.summary["dice"]

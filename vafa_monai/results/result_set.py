"""Results of several models and attacks, side by side: what belongs to whom, in the order of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vafa_monai.results.attack_name import CLEAN, attack_order
from vafa_monai.results.case import mean_known
from vafa_monai.results.result import Result, condition_conflict, settings_without_seed

__all__ = ["Comparison", "incomparable", "is_headline", "share_is_fair"]

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

    def clean_dice(self, model: str, attack: str = CLEAN) -> float | None:
        """Return the foreground DSC of a model without attack, on the cases that an attack was measured on.

        ``None`` if one of them was not measured without attack: a drop is one of the same cases, or none at all.
        """
        clean, attacked = self.get(model, CLEAN), self.get(model, attack)
        if clean is None or attacked is None:
            return None if clean is None else clean.summary["dice"]
        dice = {case.case: case.foreground_dice for case in clean.cases}
        names = [case.case for case in attacked.cases]
        if dice.keys() == set(names):
            return clean.summary["dice"]
        return mean_known(dice[name] for name in names) if dice.keys() >= set(names) else None

    def same_cases(self, model: str, first: str, second: str) -> bool:
        """Tell whether two attacks on a model were measured on the same cases."""
        one, other = self.get(model, first), self.get(model, second)
        return None not in (one, other) and _names(one) == _names(other)  # type: ignore[arg-type]


def _names(result: Result) -> set[str]:
    return {case.case for case in result.cases}


def incomparable(first: Result, second: Result) -> str | None:
    """Say why one attack on two models is no comparison of the models, or return ``None``.

    Controls may differ in their settings: noise is made as large as an attack, which is not as large on every model.
    """
    other = condition_conflict(first, second)
    if other is not None:
        return f"other {other}"
    same = settings_without_seed(first.settings) == settings_without_seed(second.settings)
    windows = [one.document.get("windows_per_gradient") for one in (first, second)]
    if first.role == second.role == "attack" and not (same and windows[0] == windows[1]):
        return "other settings"
    return None if first.role == second.role else "another role"


def share_is_fair(first: Result, second: Result) -> bool:
    """Tell whether the mean of one result may be divided by that of the other: the same cases, and comparable."""
    return _names(first) == _names(second) and incomparable(first, second) is None


def is_headline(result: Result) -> bool:
    """Tell whether a result is of the attack ensemble itself."""
    return str(result.settings.get("_target_", "")).endswith(".AttackEnsemble")

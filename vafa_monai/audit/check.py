"""What a check is, and what it finds; the checks themselves are elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from monai.utils import StrEnum

from vafa_monai.audit.subject import AuditSubject

__all__ = ["Check", "Finding", "Status"]


class Status(StrEnum):
    """How a check ended; ``SKIP`` says that its question could not be asked, and is no pass."""

    PASS = "PASS"
    WARN = "WARN"
    FAIL = "FAIL"
    SKIP = "SKIP"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found in one model.

    Args:
        status: how it ended.
        sentence: one sentence for a reader, with the figure that decided, and the case where it was found.
        value: that figure; ``None`` where there is none.
        limit: what the figure was held against.
        unit: unit of both, such as ``"DSC"``.
        details: more figures, as JSON.
    """

    status: Status
    sentence: str
    value: float | None = None
    limit: float | None = None
    unit: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Check:
    """One question that an audit asks of a model under attack.

    Args:
        id: number in the list of checks, ``"S0"`` to ``"S22"``.
        name: one word for it, in lower case with underscores.
        title: the rule, in a few words.
        meaning: one sentence: what it means if the check does not pass.
        run: answers the question.
    """

    id: str
    name: str
    title: str
    meaning: str
    run: Callable[[AuditSubject], Finding] = field(repr=False, compare=False)

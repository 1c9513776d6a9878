"""Whether the numbers of a model can be believed: the verdict of its audit, in words that stand above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from vafa_monai.reports.audit_document import Audit, Check
from vafa_monai.reports.result import Result

__all__ = ["NOT_AUDITED", "Verdict", "judge"]

NOT_AUDITED = "NOT AUDITED"
SHOWN = 12  # digits of a hash


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A status (``PASS``, ``WARN``, ``FAIL`` or ``NOT AUDITED``), and what it means for the numbers of a model."""

    model: str
    status: str
    text: str


def judge(model: str, results: Sequence[Result], audit: Audit | None) -> Verdict:
    """Return the verdict on the numbers of a model; an audit of other weights says nothing about them.

    Args:
        model: label of the model.
        results: its results.
        audit: its audit, or ``None``.
    """
    if audit is None:
        text = "Nothing has checked that the attacks work on this model, so its numbers under attack may be too good."
        return Verdict(model=model, status=NOT_AUDITED, text=text)
    hashes = sorted({str(result.checkpoint.get("sha256")) for result in results})
    if hashes != [str(audit.sha256)]:
        text = f"The audit is of other weights ({str(audit.sha256)[:SHOWN]}) than the numbers"
        shown = ", ".join(one[:SHOWN] for one in hashes)
        return Verdict(model=model, status=NOT_AUDITED, text=f"{text} ({shown}), so it says nothing about them.")
    return Verdict(model=model, status=audit.verdict, text=_words(audit))


def _words(audit: Audit) -> str:
    """Say what the checks found and what follows."""
    failed, warned, skipped = (audit.of_status(status) for status in ("FAIL", "WARN", "SKIP"))
    ran = len(audit.checks) - len(skipped)
    left = f" {_count(skipped, 'was', 'were')} skipped." if skipped else ""
    if audit.verdict == "FAIL":
        text = f"Do not use the numbers under attack as evidence of robustness. Failed: {_titles(failed)}."
        return text + (f" Warnings: {_titles(warned)}." if warned else "") + left
    if audit.verdict == "WARN":
        text = f"The attacks may be weaker than they could be. Warnings: {_titles(warned)}"
        return f"{text}; the other {ran - len(warned)} of {ran} checks passed.{left}"
    return f"All {ran} checks passed: the attacks do what they must, and the numbers hold for these attacks.{left}"


def _titles(checks: Sequence[Check]) -> str:
    return "; ".join(f"{check.title} ({check.id})" for check in checks) or "none by itself"


def _count(checks: Sequence[Check], one: str, many: str) -> str:
    return f"{len(checks)} {one if len(checks) == 1 else many}"

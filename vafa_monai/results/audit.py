"""The audit of a model, as its JSON file has it: verdict, checks and curves; nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vafa_monai.results.document import (
    Amount,
    As,
    Checkpoint,
    Cost,
    Document,
    Look,
    Name,
    Number,
    Share,
    Stored,
    Text,
    Whole,
    fault,
    parse,
    read_document,
    require,
)

__all__ = ["AUDIT_SCHEMA", "Audit", "AuditCheck", "Curve", "load_audits", "parse_audit"]

AUDIT_SCHEMA = "vafa_monai.audit/1"
AUDIT_FILE = "audit.json"


class AuditSettings(Document):
    """What an audit asked with, as far as a report speaks of it."""

    eps: Number | None = None
    q_max: Number | None = None
    block_size: tuple[Number, ...] | None = None
    value_range: tuple[Number, ...] | tuple[tuple[Number, ...], ...] | None = None


class Details(Document):
    """What a check tells beside its figure, as far as a report quotes it: a mean DSC and the ends of its interval."""

    mean: Number | None = None
    low: Number | None = None
    high: Number | None = None


class AuditCheck(Document):
    """One check: what was found, where the limit is, and what it means if the check does not pass."""

    id: Text
    name: Text
    title: Text
    status: Literal["PASS", "WARN", "FAIL", "SKIP"]
    value: Number | None
    limit: Number | None
    unit: Text
    sentence: Text
    meaning: Text
    details: Annotated[dict[str, Any], As(Details)] = Field(default_factory=dict)

    @property
    def severity(self) -> int:
        """The place of the status in a list that begins with what matters most."""
        return ("FAIL", "WARN", "PASS", "SKIP").index(self.status)


class Curve(Document):
    """Foreground DSC over a budget or a number of steps; ``None`` where it is undefined."""

    name: Text
    x_label: Text
    x_unit: Text
    x: Annotated[tuple[Number, ...], Field(min_length=1)]
    dice: Annotated[tuple[Share | None, ...], Field(min_length=1)]
    dice_per_class: tuple[tuple[Share | None, ...], ...]

    @model_validator(mode="after")
    def _check_lengths(self) -> Curve:
        if len(self.x) != len(self.dice):
            raise fault("x", f"have a number for each of the {len(self.dice)} DSC", self.x)
        return self


class Audit(Stored):
    """What an audit found about one checkpoint."""

    schema_: Literal["vafa_monai.audit/1"] = Field(alias="schema")
    verdict: Literal["PASS", "WARN", "FAIL"]
    model: Name
    checkpoint: Checkpoint | None
    seed: Whole
    settings: Annotated[dict[str, Any], As(AuditSettings)]
    classes: tuple[Text, ...]
    cases: tuple[Text, ...]
    grid: Literal["files", "network"] | None = None
    inputs: dict[str, Look] | None = None
    command: Text | None
    versions: dict[str, Text]
    device: Text
    seconds: Amount
    checks: tuple[AuditCheck, ...]
    curves: tuple[Curve, ...]
    cost: Cost
    made_of: Text | None = None

    @model_validator(mode="after")
    def _check_verdict(self) -> Audit:
        found = {check.status for check in self.checks}
        worst = next((status for status in ("FAIL", "WARN") if status in found), "PASS")
        if self.verdict != worst:
            raise fault("verdict", f"be that of its checks, {worst}", self.verdict)
        return self

    @property
    def sha256(self) -> str | None:
        """The hash of the weights that were audited, or ``None`` if the audit does not say."""
        return None if self.checkpoint is None else self.checkpoint.sha256

    @property
    def forward(self) -> int | None:
        """Windows that passed the network forward."""
        return self.cost.forward

    @property
    def backward(self) -> int | None:
        """Windows that passed it backward."""
        return self.cost.backward

    def of_status(self, status: str) -> list[AuditCheck]:
        """Return the checks that ended so."""
        return [check for check in self.checks if check.status == status]


def load_audits(results_dir: str | Path) -> dict[str, Audit]:
    """Read every ``<model>/audit.json`` of a folder of results, by model.

    Raises:
        ValueError: if one is not as the schema ``vafa_monai.audit/1`` says, or two are of the same model.
    """
    root = Path(results_dir).resolve()
    audits: dict[str, Audit] = {}
    for path in sorted(root.glob(f"*/{AUDIT_FILE}")):
        audit = parse_audit(read_document(path, root), path.relative_to(root).as_posix())
        require(audit.model not in audits, "results_dir", "hold one audit for each model", audit.model)
        audits[audit.model] = audit
    return audits


def parse_audit(document: Mapping[str, Any], name: str) -> Audit:
    """Turn a JSON document into an audit; ``name`` is said in errors.

    Raises:
        ValueError: in one sentence, if the document is not as the schema ``vafa_monai.audit/1`` says.
    """
    return parse(Audit, document, name)

"""The audit of a model, read from its JSON file: verdict, checks and curves; nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vafa_monai.results.json_file import numbers, read_document, require, require_kinds, require_texts

__all__ = ["AUDIT_SCHEMA", "Audit", "AuditCheck", "Curve", "load_audits", "parse_audit"]

AUDIT_SCHEMA = "vafa_monai.audit/1"
AUDIT_FILE = "audit.json"
VERDICTS = ("PASS", "WARN", "FAIL")
STATUSES = (*VERDICTS, "SKIP")
KINDS: Mapping[str, tuple[type, ...]] = {
    "verdict": (str,),
    "model": (str,),
    "checkpoint": (dict, type(None)),
    "seed": (int,),
    "settings": (dict,),
    "classes": (list,),
    "cases": (list,),
    "command": (str, type(None)),
    "versions": (dict,),
    "device": (str,),
    "seconds": (int, float),
    "checks": (list,),
    "curves": (list,),
    "cost": (dict,),
}
CHECK_TEXTS = ("id", "name", "title", "status", "unit", "sentence", "meaning")
CURVE_KINDS: Mapping[str, tuple[type, ...]] = {
    "name": (str,),
    "x_label": (str,),
    "x_unit": (str,),
    "x": (list,),
    "dice": (list,),
    "dice_per_class": (list,),
}


@dataclass(frozen=True, kw_only=True)
class AuditCheck:
    """One check: what was found, where the limit is, and what it means if the check does not pass."""

    id: str
    name: str
    title: str
    status: str
    value: float | None
    limit: float | None
    unit: str
    sentence: str
    meaning: str

    @property
    def severity(self) -> int:
        """The place of the status in a list that begins with what matters most."""
        return ("FAIL", "WARN", "PASS", "SKIP").index(self.status)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Foreground DSC over a budget or a number of steps; ``None`` where it is undefined."""

    name: str
    x_label: str
    x_unit: str
    x: tuple[float, ...]
    dice: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What an audit found about one checkpoint.

    Args:
        sha256: hash of the weights that were audited, or ``None`` if the audit does not say.
        document: the JSON document as it was read.
    """

    model: str
    verdict: str
    sha256: str | None
    command: str | None
    checks: tuple[AuditCheck, ...]
    curves: tuple[Curve, ...]
    forward: int | None
    backward: int | None
    document: Mapping[str, Any] = field(repr=False, compare=False)

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
    """Turn a JSON document into an audit; ``name`` is said in errors."""
    require(document.get("schema") == AUDIT_SCHEMA, f"schema of {name}", f"be {AUDIT_SCHEMA!r}", document.get("schema"))
    require_kinds(document, KINDS, name)
    require(document["verdict"] in VERDICTS, f"verdict of {name}", f"be one of {VERDICTS}", document["verdict"])
    require_texts({"sha256": (document["checkpoint"] or {}).get("sha256")}, f"checkpoint of {name}", undefined=True)
    require_texts(document["versions"], f"versions of {name}")
    for key in ("classes", "cases"):
        require_texts({str(n): one for n, one in enumerate(document[key])}, f"{key} of {name}")
    numbers(document, ("seconds",), name)
    cost = numbers(document["cost"], ("forward", "backward"), f"cost of {name}")
    checks = tuple(_parse_check(check, name) for check in document["checks"])
    found = {check.status for check in checks}
    worst = next((status for status in ("FAIL", "WARN") if status in found), "PASS")
    require(document["verdict"] == worst, f"verdict of {name}", f"be that of its checks, {worst}", document["verdict"])
    return Audit(
        **{key: document[key] for key in ("model", "verdict", "command")},
        sha256=(document["checkpoint"] or {}).get("sha256"),
        checks=checks,
        curves=tuple(_parse_curve(curve, name) for curve in document["curves"]),
        **cost,
        document=document,
    )


def _parse_check(check: Any, name: str) -> AuditCheck:
    """Turn one entry of ``checks`` into a check."""
    require(isinstance(check, dict), f"checks of {name}", "be objects", check)
    where = f"check {check.get('id')!r} of {name}"
    require_kinds(check, dict.fromkeys(CHECK_TEXTS, (str,)), where)
    require(check["status"] in STATUSES, f"status of {where}", f"be one of {STATUSES}", check["status"])
    return AuditCheck(**{key: check[key] for key in CHECK_TEXTS}, **numbers(check, ("value", "limit"), where))


def _parse_curve(curve: Any, name: str) -> Curve:
    """Turn one entry of ``curves`` into a curve."""
    require(isinstance(curve, dict), f"curves of {name}", "be objects", curve)
    where = f"curve {curve.get('name')!r} of {name}"
    require_kinds(curve, CURVE_KINDS, where)
    columns = [numbers(dict(enumerate(curve[key])), range(len(curve[key])), where, key) for key in ("x", "dice")]
    x, dice = (tuple(column.values()) for column in columns)
    require(None not in x and len(x) == len(dice) > 0, f"x of {where}", "have a number for each DSC", x)
    return Curve(**{key: curve[key] for key in ("name", "x_label", "x_unit")}, x=x, dice=dice)

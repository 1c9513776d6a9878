"""The measured result of one attack on one model, read from its JSON file; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vafa_monai.handlers.robustness_report import RESULT_SCHEMA
from vafa_monai.reports.attack_setting import setting_text
from vafa_monai.reports.audit_document import AUDIT_SCHEMA
from vafa_monai.reports.case import COUNTS, IMAGE_QUALITY, SEGMENTATION, Case, parse_case
from vafa_monai.reports.document_file import numbers, read_document, require, require_kinds

__all__ = [
    "REPORT_SCHEMA",
    "RESULT_SCHEMA",
    "Result",
    "load_results",
    "parse_result",
    "require_comparable",
]

REPORT_SCHEMA = "vafa_monai.report/2"
NOT_RESULTS = ("vafa_monai.report/", AUDIT_SCHEMA)  # what may lie among results
COST = ("forward", "backward")
ROLES = ("attack", "control")
SUMMARY = ("dice_with_background", *SEGMENTATION, *IMAGE_QUALITY, *COUNTS)
KINDS: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "checkpoint": (dict,),
    "attack": (dict,),
    "classes": (list,),
    "seed": (int, type(None)),
    "versions": (dict,),
    "device": (str,),
    "seconds": (int, float, type(None)),
    "cases": (list,),
    "summary": (dict,),
    "notes": (list,),
    "slices": (str, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one attack did to one model.

    Args:
        model: label of the model.
        attack: name of the attack; ``"identity"`` is the clean run.
        role: ``"attack"`` or ``"control"``.
        settings: how the attack was built.
        classes: names of the classes, the background first.
        cases: measurements, one entry a case.
        summary: means over the cases (foreground classes; ``None`` if undefined); lost and invented are counts.
        forward: windows that passed the network forward, ``None`` if they were not counted.
        backward: windows that passed it backward.
        slices: the file with slice and volume of the first case, or ``None``.
        document: the JSON document as it was read.
    """

    model: str
    attack: str
    role: str
    settings: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    classes: tuple[str, ...]
    seed: int | None
    versions: Mapping[str, str]
    device: str
    seconds: float | None
    cases: tuple[Case, ...]
    summary: Mapping[str, float | None]
    notes: tuple[str, ...]
    forward: int | None
    backward: int | None
    slices: Path | None
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def setting_text(self) -> str:
        """The settings of the attack in words."""
        windows = self.document.get("windows_per_gradient")
        cheap = f"gradients of {windows} windows" if windows else ""
        words = setting_text(self.settings, self.document["attack"].get("strength"))
        return ", ".join(filter(None, (words, cheap, "compiled" if self.document.get("compiled") else "")))


def load_results(results_dir: str | Path) -> list[Result]:
    """Read every ``<model>/<attack>.json`` of a folder, checked, in the order of their paths.

    Audits, and a report of an earlier run that lies among them, are passed over.

    Args:
        results_dir: the folder; nothing outside it is read.

    Raises:
        ValueError: if the folder or a file in it is not as the schema ``vafa_monai.result/1`` says, if two results
            are of the same model and attack, or if their classes differ.
    """
    root = Path(results_dir).resolve()
    require(root.is_dir(), "results_dir", "be an existing folder", str(results_dir))
    documents = {path: read_document(path, root) for path in sorted(root.glob("*/*.json"))}
    results = []
    for path, document in documents.items():
        if not str(document.get("schema")).startswith(NOT_RESULTS):
            result = parse_result(document, path.relative_to(root).as_posix())
            results.append(replace(result, slices=_slices_path(document["slices"], path, root)))
    require(bool(results), "results_dir", "hold results named <model>/<attack>.json", str(results_dir))
    require_comparable(results, "results_dir")
    return results


def require_comparable(results: Sequence[Result], argument: str) -> None:
    """Refuse two results of one model and attack, and results of different classes."""
    seen: set[tuple[str, str]] = set()
    for result in results:
        pair = (result.model, result.attack)
        require(pair not in seen, argument, "hold one result for each model and attack", pair)
        require(result.classes == results[0].classes, "classes", f"be {results[0].classes} everywhere", result.classes)
        seen.add(pair)


def parse_result(document: dict[str, Any], name: str) -> Result:
    """Turn one document into a result without slices; ``name`` is said in errors.

    Raises:
        ValueError: if the document is not as the schema ``vafa_monai.result/1`` says.
    """
    _check(document, name)
    n_classes = len(document["classes"])
    cost = document.get("cost") or {}
    require(isinstance(cost, dict), f"cost of {name}", "be an object", cost)
    return Result(
        **{key: document[key] for key in ("model", "checkpoint", "seed", "versions", "device", "seconds")},
        attack=document["attack"]["name"],
        role=document["attack"]["role"],
        settings=document["attack"].get("settings") or {},
        classes=tuple(document["classes"]),
        cases=tuple(parse_case(case, n_classes, f"case {case['case']!r} of {name}") for case in document["cases"]),
        summary=numbers(document["summary"], SUMMARY, f"summary of {name}"),
        notes=tuple(document["notes"]),
        **numbers(dict.fromkeys(COST) | cost, COST, f"cost of {name}"),
        slices=None,
        document=document,
    )


def _check(document: dict[str, Any], name: str) -> None:
    """Refuse a document that is not as the schema says; ``name`` is its file."""
    schema = document.get("schema")
    require(schema == RESULT_SCHEMA, f"schema of {name}", f"be {RESULT_SCHEMA!r}", schema)
    require_kinds(document, KINDS, name)
    attack, classes, cases, notes = (document[key] for key in ("attack", "classes", "cases", "notes"))
    texts = [attack.get("name"), *classes, *notes]
    named = all(isinstance(text, str) for text in texts)
    require(named, f"attack name, classes and notes of {name}", "be texts", texts)
    require(attack.get("role") in ROLES, f"attack role of {name}", f"be one of {ROLES}", attack.get("role"))
    different = len(set(classes)) == len(classes) > 1
    require(different, f"classes of {name}", "name the background and at least one more, all different", classes)
    names = [case.get("case") if isinstance(case, dict) else None for case in cases]
    unique = names and all(isinstance(one, str) for one in names) and len(set(names)) == len(names)
    require(bool(unique), f"cases of {name}", "be at least one, each with a name of its own", names)


def _slices_path(slices: str | None, path: Path, root: Path) -> Path | None:
    """Return the path of the file with slice and volume, which must lie inside ``root``."""
    if slices is None:
        return None
    target = (path.parent / slices).resolve()
    argument = f"slices of {path.relative_to(root).as_posix()}"
    require(target.is_relative_to(root), argument, "lie inside results_dir", slices)
    require(target.is_file(), argument, "be an existing file", slices)
    return target

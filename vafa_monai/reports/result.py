"""The measured result of one attack on one model, read from its JSON file; nothing is measured here."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vafa_monai.handlers.robustness_report import RESULT_SCHEMA
from vafa_monai.metrics import QUALITY_NAMES as IMAGE_QUALITY

__all__ = ["IMAGE_QUALITY", "REPORT_SCHEMA", "RESULT_SCHEMA", "Case", "Result", "load_results", "mean_known"]

REPORT_SCHEMA = "vafa_monai.report/1"
SEGMENTATION = ("dice", "hd95_mm", "nsd")
COUNTS = ("lost", "invented")
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
    "seconds": (int, float),
    "cases": (list,),
    "summary": (dict,),
    "notes": (list,),
    "slices": (str, type(None)),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """The measurements of one case; ``dice``, ``hd95_mm`` and ``nsd`` have one value a class, ``None`` if undefined."""

    case: str
    dice: tuple[float | None, ...]
    hd95_mm: tuple[float | None, ...]
    nsd: tuple[float | None, ...]
    ssim: float | None
    psnr_db: float | None
    rms_grey: float | None
    linf_grey: float | None
    lpips: float | None
    lost: int
    invented: int

    @property
    def foreground_dice(self) -> float | None:
        """The mean DSC of the classes after the first, which is the background."""
        return mean_known(self.dice[1:])


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
        slices: the file with one axial slice, or ``None``.
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
    seconds: float
    cases: tuple[Case, ...]
    summary: Mapping[str, float | None]
    notes: tuple[str, ...]
    slices: Path | None
    document: Mapping[str, Any] = field(repr=False, compare=False)


def mean_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not ``None``, or ``None`` if there are none.

    Example:
        >>> mean_known([1.0, None, 2.0]), mean_known([None])
        (1.5, None)
    """
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def load_results(results_dir: str | Path) -> list[Result]:
    """Read every ``<model>/<attack>.json`` of a folder, checked, in the order of their paths.

    A report of an earlier run that lies among them is passed over.

    Args:
        results_dir: the folder; nothing outside it is read.

    Raises:
        ValueError: if the folder or a file in it is not as the schema ``vafa_monai.result/1`` says, if two results
            are of the same model and attack, or if their classes differ.
    """
    root = Path(results_dir).resolve()
    _require(root.is_dir(), "results_dir", "be an existing folder", str(results_dir))
    documents = {path: _read(path, root) for path in sorted(root.glob("*/*.json"))}
    results = [
        _parse(document, path, root) for path, document in documents.items() if document.get("schema") != REPORT_SCHEMA
    ]
    _require(bool(results), "results_dir", "hold results named <model>/<attack>.json", str(results_dir))
    seen: set[tuple[str, str]] = set()
    for result in results:
        pair = (result.model, result.attack)
        _require(pair not in seen, "results_dir", "hold one result for each model and attack", pair)
        _require(result.classes == results[0].classes, "classes", f"be {results[0].classes} everywhere", result.classes)
        seen.add(pair)
    return results


def _read(path: Path, root: Path) -> dict[str, Any]:
    """Return the JSON object of a file inside ``root``."""
    name = path.relative_to(root).as_posix()
    _require(path.resolve().is_relative_to(root), name, "lie inside results_dir", str(path.resolve()))
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} must be a readable JSON file, got {str(error)!r}.") from error
    _require(isinstance(document, dict), name, "be a JSON object", type(document).__name__)
    return document


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number; write null")


def _check(document: dict[str, Any], name: str) -> None:
    """Refuse a document that is not as the schema says; ``name`` is its file."""
    schema = document.get("schema")
    _require(schema == RESULT_SCHEMA, f"schema of {name}", f"be {RESULT_SCHEMA!r}", schema)
    for key, kinds in KINDS.items():
        rule = f"be of kind {' or '.join(kind.__name__ for kind in kinds)}"
        _require(key in document and isinstance(document[key], kinds), f"{key} of {name}", rule, document.get(key))
    attack, classes, cases, notes = (document[key] for key in ("attack", "classes", "cases", "notes"))
    texts = [attack.get("name"), *classes, *notes]
    _require(
        all(isinstance(text, str) for text in texts), f"attack name, classes and notes of {name}", "be texts", texts
    )
    _require(attack.get("role") in ROLES, f"attack role of {name}", f"be one of {ROLES}", attack.get("role"))
    different = len(set(classes)) == len(classes) > 1
    _require(different, f"classes of {name}", "name the background and at least one more, all different", classes)
    names = [case.get("case") if isinstance(case, dict) else None for case in cases]
    named = names and all(isinstance(one, str) for one in names) and len(set(names)) == len(names)
    _require(bool(named), f"cases of {name}", "be at least one, each with a name of its own", names)


def _parse(document: dict[str, Any], path: Path, root: Path) -> Result:
    """Turn one document into a result."""
    name = path.relative_to(root).as_posix()
    _check(document, name)
    n_classes = len(document["classes"])
    return Result(
        **{key: document[key] for key in ("model", "checkpoint", "seed", "versions", "device", "seconds")},
        attack=document["attack"]["name"],
        role=document["attack"]["role"],
        settings=document["attack"].get("settings") or {},
        classes=tuple(document["classes"]),
        cases=tuple(_parse_case(case, n_classes, f"case {case['case']!r} of {name}") for case in document["cases"]),
        summary=_numbers(document["summary"], SUMMARY, f"summary of {name}"),
        notes=tuple(document["notes"]),
        slices=_slices_path(document["slices"], path, root),
        document=document,
    )


def _parse_case(case: Mapping[str, Any], n_classes: int, where: str) -> Case:
    """Turn one entry of ``cases`` into a case."""
    per_class: dict[str, Any] = {}
    for key in SEGMENTATION:
        values = case.get(key)
        right = isinstance(values, list) and len(values) == n_classes
        _require(right, f"{key} in {where}", f"have {n_classes} values", values)
        per_class[key] = tuple(_numbers(dict(enumerate(values or ())), range(n_classes), f"{key} in {where}").values())
    return Case(case=case["case"], **per_class, **_numbers(case, (*IMAGE_QUALITY, *COUNTS), where))


def _numbers(values: Mapping[Any, Any], keys: Iterable[Any], where: str) -> dict[Any, Any]:
    """Return the named values; each must be there and be a finite number or ``None``."""
    for key in keys:
        _require(key in values, where, f"have the value {key!r}", sorted(map(str, values)))
        value = values[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        _require(value is None or number, f"{key} in {where}", "be a finite number or null", value)
    return {key: values[key] for key in keys}


def _slices_path(slices: str | None, path: Path, root: Path) -> Path | None:
    """Return the path of the file with the slice, which must lie inside ``root``."""
    if slices is None:
        return None
    target = (path.parent / slices).resolve()
    argument = f"slices of {path.relative_to(root).as_posix()}"
    _require(target.is_relative_to(root), argument, "lie inside results_dir", slices)
    _require(target.is_file(), argument, "be an existing file", slices)
    return target


def _require(condition: bool, argument: str, rule: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{argument} must {rule}, got {value!r}.")

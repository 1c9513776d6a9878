"""The measured result of one attack on one model, read from its JSON file; nothing is measured here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from vafa_monai.results.attack_name import setting_text
from vafa_monai.results.audit import AUDIT_SCHEMA
from vafa_monai.results.case import COUNTS, IMAGE_QUALITY, SEGMENTATION, Case, parse_case
from vafa_monai.results.json_file import numbers, read_document, require, require_kinds, require_texts

__all__ = [
    "REPORT_SCHEMA",
    "RESULT_SCHEMA",
    "Result",
    "condition_conflict",
    "conflict",
    "load_results",
    "parse_result",
    "require_comparable",
    "settings_without_seed",
]

RESULT_SCHEMA = "vafa_monai.result/1"
REPORT_SCHEMA = "vafa_monai.report/2"
NOT_RESULTS = ("vafa_monai.report/", AUDIT_SCHEMA)  # what may lie among results
COST = ("forward", "backward")
ROLES = ("attack", "control")
PROGRAMS = ("vafa_monai", "monai", "torch", "numpy")  # whose versions can change a figure
SHOWN = 12  # digits of a hash
SAME_INTENSITY = 1e-3  # of the deviation: how far two machines may be apart on one image
NEEDED = ("eps", "std", "q", "q_min", "q_max")
NUMBERS = (*NEEDED, "steps", "step_size", "seed")
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
        failed: the cases that could not be measured, and the sentence of each.
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
    failed: Mapping[str, str]
    forward: int | None
    backward: int | None
    slices: Path | None
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @property
    def sha256(self) -> str | None:
        """The hash of the weights, if the result says it."""
        found: str | None = self.checkpoint.get("sha256")
        return found

    @property
    def says_its_origin(self) -> bool:
        """Whether weights, data and evaluation are all told; results of earlier versions do not."""
        data = all(case.input and None not in case.files.values() and case.files for case in self.cases)
        return data and self.sha256 is not None and bool(self.document.get("evaluation"))

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
    documents = {path: read_document(path, root) for path in sorted(root.glob("*/[!.]*.json"))}  # not the unfinished
    results = [
        _with_slices(parse_result(document, path.relative_to(root).as_posix()), path, root)
        for path, document in documents.items()
        if not str(document.get("schema")).startswith(NOT_RESULTS)
    ]
    require(bool(results), "results_dir", "hold results named <model>/<attack>.json", str(results_dir))
    require_comparable(results, "results_dir")
    return results


def load_result(path: str | Path, results_dir: str | Path) -> Result:
    """Read one result of a folder, checked.

    Raises:
        ValueError: if it is not as the schema ``vafa_monai.result/1`` says.
    """
    root = Path(results_dir).resolve()
    file = root / Path(path).resolve().relative_to(root)
    return _with_slices(parse_result(read_document(file, root), file.relative_to(root).as_posix()), file, root)


def _with_slices(result: Result, path: Path, root: Path) -> Result:
    return replace(result, slices=_slices_path(result.document["slices"], path, root))


def require_comparable(results: Sequence[Result], argument: str) -> None:
    """Refuse two results of one model and attack, other classes, and one name for other weights, data or versions."""
    seen: set[tuple[str, str]] = set()
    for result in results:
        pair = (result.model, result.attack)
        require(pair not in seen, argument, "hold one result for each model and attack", pair)
        require(result.classes == results[0].classes, "classes", f"be {results[0].classes} everywhere", result.classes)
        seen.add(pair)
    for first, second in combinations(results, 2):
        found = conflict(first, second) if first.model == second.model else None
        if found is not None:
            raise ValueError(
                f"results of {first.model} must be of the same weights, data, evaluation and versions, got other "
                f"{found} for {second.attack} than for {first.attack}; measure again what is old, or move it away."
            )


def conflict(first: Result, second: Result) -> str | None:
    """Say what of weights, data, evaluation and versions differs between two results, or return ``None``.

    What one of the two does not say is no difference: :attr:`Result.says_its_origin` tells that.
    """
    if first.sha256 != second.sha256:
        return f"weights ({str(second.sha256)[:SHOWN]} and {str(first.sha256)[:SHOWN]})"
    return condition_conflict(first, second)


def condition_conflict(first: Result, second: Result) -> str | None:
    """Say what of data, evaluation and versions differs between two results, whatever their weights."""
    cases = data_conflict(first, second)
    if cases:
        return f"data (files or preparation of {', '.join(cases)})"
    for name in ("intensity", "evaluation"):
        one, other = first.document.get(name), second.document.get(name)
        if one is not None and other is not None and one != other:
            keys = sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
            return f"{name} ({', '.join(keys)})"
    return version_conflict(first, second)


def version_conflict(first: Result, second: Result) -> str | None:
    """Say which program two results were measured with different versions of."""
    shared = [name for name in PROGRAMS if name in first.versions and name in second.versions]
    other = [name for name in shared if first.versions[name] != second.versions[name]]
    shown = ", ".join(f"{name} {second.versions[name]} and {first.versions[name]}" for name in other)
    return f"versions ({shown})" if other else None


def data_conflict(first: Result, second: Result) -> list[str]:
    """Return the cases of one name in two results whose files differ, or whose image was prepared otherwise."""
    mine = {case.case: case for case in first.cases}
    return [case.case for case in second.cases if case.case in mine and _differ(mine[case.case], case)]


def _differ(first: Case, second: Case) -> bool:
    """Tell whether two cases of one name are not the same, as far as they say."""
    files = [(first.files.get(name), second.files.get(name)) for name in ("image", "label")]
    if any(one != other for one, other in files if one and other):
        return True
    if not first.input or not second.input:
        return False
    scale = SAME_INTENSITY * max(abs(first.input["std"]), abs(second.input["std"]), 1e-12)
    near = all(abs(first.input[name] - second.input[name]) <= scale for name in ("mean", "std"))
    return first.input["shape"] != second.input["shape"] or not near


def settings_without_seed(settings: Any) -> Any:
    """Return the settings of an attack without its seeds and those of attacks in it: two seeds are no two attacks."""
    if isinstance(settings, dict):
        return {name: settings_without_seed(value) for name, value in settings.items() if name != "seed"}
    return [settings_without_seed(item) for item in settings] if isinstance(settings, list) else settings


def parse_result(document: dict[str, Any], name: str) -> Result:
    """Turn one document into a result without slices; ``name`` is said in errors.

    Raises:
        ValueError: if the document is not as the schema ``vafa_monai.result/1`` says.
    """
    _check(document, name)
    cost = document.get("cost") or {}
    require(isinstance(cost, dict), f"cost of {name}", "be an object", cost)
    return Result(
        **{key: document[key] for key in ("model", "checkpoint", "seed", "versions", "device", "seconds")},
        attack=document["attack"]["name"],
        role=document["attack"]["role"],
        settings=document["attack"].get("settings") or {},
        classes=tuple(document["classes"]),
        cases=tuple(
            parse_case(one, document["classes"], f"case {one['case']!r} of {name}") for one in document["cases"]
        ),
        summary=numbers(document["summary"], SUMMARY, f"summary of {name}"),
        notes=tuple(document["notes"]),
        failed={case["case"]: case["error"] for case in document.get("failed") or []},
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
    named = all(isinstance(text, str) and text.strip() for text in (*texts, document["model"]))
    require(named, f"attack name, classes and notes of {name}", "be texts", texts)
    require(attack.get("role") in ROLES, f"attack role of {name}", f"be one of {ROLES}", attack.get("role"))
    different = len(set(classes)) == len(classes) > 1
    require(different, f"classes of {name}", "name the background and at least one more, all different", classes)
    names = [case.get("case") if isinstance(case, dict) else None for case in cases]
    unique = names and all(isinstance(one, str) for one in names) and len(set(names)) == len(names)
    require(bool(unique), f"cases of {name}", "be at least one, each with a name of its own", names)
    _check_origin(document, name)
    _check_settings(attack.get("settings"), f"attack settings of {name}")


def _check_origin(document: dict[str, Any], name: str) -> None:
    """Refuse what is no origin of a result, or no list of what failed."""
    texts = {key: document["checkpoint"].get(key) for key in ("path", "sha256")}
    require_texts(texts, f"checkpoint of {name}", undefined=True)
    require_texts(document["versions"], f"versions of {name}")
    numbers({"seconds": document["seconds"]}, ("seconds",), name)
    for key in ("intensity", "evaluation"):
        value = document.get(key)
        require(value is None or isinstance(value, dict), f"{key} of {name}", "be an object", value)
    windows = document.get("windows_per_gradient")
    require(windows is None or type(windows) is int, f"windows_per_gradient of {name}", "be a whole number", windows)
    failed = document.get("failed") or []
    require(isinstance(failed, list), f"failed of {name}", "be a list", failed)
    measured = {case["case"] for case in document["cases"]}
    for one in failed:
        require(isinstance(one, dict), f"failed of {name}", "hold objects", one)
        require_texts({key: one.get(key) for key in ("case", "error")}, f"failed of {name}")
        require(one["case"] not in measured, f"failed of {name}", "name no case that has figures", one["case"])


def _check_settings(settings: Any, where: str) -> None:
    """Refuse settings of an attack that no attack has, as far as a report puts them into words."""
    require(settings is None or isinstance(settings, dict), where, "be an object", settings)
    for key in NUMBERS if settings else ():
        value = settings.get(key)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        require(number or value is None, f"{key} in {where}", "be a number", value)
        require(number or key not in NEEDED or key not in settings, f"{key} in {where}", "be a number", value)
    blocks = (settings or {}).get("block_size", [])
    require(isinstance(blocks, list), f"block_size in {where}", "be a list", blocks)
    inner = (settings or {}).get("attack")
    if isinstance(inner, dict):
        _check_settings(inner, where)


def _slices_path(slices: str | None, path: Path, root: Path) -> Path | None:
    """Return the path of the file with slice and volume, which must lie inside ``root``."""
    if slices is None:
        return None
    target = (path.parent / slices).resolve()
    argument = f"slices of {path.relative_to(root).as_posix()}"
    require(target.is_relative_to(root), argument, "lie inside results_dir", slices)
    require(target.is_file(), argument, "be an existing file", slices)
    return target

"""The measured result of one attack on one model, read from its JSON file; nothing is measured here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr, Strict, WrapValidator, model_validator

from vafa_monai.results.attack_name import setting_text
from vafa_monai.results.audit import AUDIT_SCHEMA
from vafa_monai.results.case import Case, Similarity
from vafa_monai.results.document import (
    Amount,
    As,
    Checkpoint,
    Cost,
    Count,
    Document,
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

__all__ = [
    "REPORT_SCHEMA",
    "RESULT_SCHEMA",
    "SUMMARY",
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
PROGRAMS = ("vafa_monai", "monai", "torch", "numpy")  # whose versions can change a figure
SHOWN = 12  # digits of a hash
SAME_INTENSITY = 1e-3  # of the deviation: how far two machines may be apart on one image


def _objects_alone(value: Any, check: Callable[[Any], Any]) -> Any:
    """Check what is an object; an attack of another package may have anything else under the same name."""
    return check(value) if isinstance(value, dict) else value


ABSENT: Any = None  # the key may be missing, and may not be null


class AttackSettings(Document):
    """How an attack was built, as far as a report puts it into words; an attack inside another has settings, too."""

    eps: Number = ABSENT
    std: Number = ABSENT
    q: Number = ABSENT
    q_min: Number = ABSENT
    q_max: Number = ABSENT
    block_size: tuple[Number, ...] = ()
    steps: Number | None = None
    step_size: Number | None = None
    seed: Number | None = None
    attack: Annotated[AttackSettings | None, WrapValidator(_objects_alone)] = None


class AttackSetup(Document):
    """An attack: its name, how it was built, and each of its strengths in every unit that is known."""

    name: Name
    settings: Annotated[dict[str, Any], As(AttackSettings | None)] = Field(default_factory=dict)
    strength: dict[str, dict[str, Number]] | None = None


class AttackRecord(AttackSetup):
    """An attack, and what it is in a report: an attack, or a control of one."""

    role: Literal["attack", "control"]


class Intensity(Document):
    """The intensities that the network sees, and what they mean."""

    value_range: tuple[Number, ...] | tuple[tuple[Number, ...], ...] | None = None
    physical_range: tuple[Number, ...] | None = None
    physical_unit: Text | None = None


class Summary(Document):
    """Means over the cases (foreground classes; ``None`` if undefined); lost and invented are counts."""

    dice_with_background: Share | None
    dice: Share | None
    hd95_mm: Amount | None
    nsd: Share | None
    ssim: Similarity | None
    psnr_db: Number | None
    rms_grey: Amount | None
    linf_grey: Amount | None
    lpips: Amount | None
    lost: Count
    invented: Count


SUMMARY = tuple(Summary.model_fields)


class Failure(Document):
    """A case that could not be measured, and the sentence that says why."""

    case: Text
    error: Text


class Result(Stored):
    """What one attack did to one model.

    Args:
        model: label of the model.
        classes: names of the classes, the background first.
        cases: measurements, one entry a case.
        summary: means over the cases (foreground classes; ``None`` if undefined); lost and invented are counts.
    """

    schema_: Literal["vafa_monai.result/1"] = Field(alias="schema")
    model: Name
    checkpoint: Annotated[dict[str, Any], As(Checkpoint)]
    attack_: AttackRecord = Field(alias="attack")
    classes: Annotated[tuple[Name, ...], Field(min_length=2, json_schema_extra={"uniqueItems": True})]
    seed: Whole | None
    versions: dict[str, Text]
    device: Text
    seconds: Amount | None
    cases: Annotated[tuple[Case, ...], Field(min_length=1)]
    summary: Annotated[dict[str, Any], As(Summary)]
    notes: tuple[Name, ...]
    slices_: Text | None = Field(alias="slices")
    intensity: Intensity | None = None
    evaluation: dict[str, Any] | None = None
    windows_per_gradient: Whole | None = None
    compiled: Annotated[bool, Strict()] | None = None
    cost: Cost | None = None
    made_of: Text | None = None
    failed_: tuple[Failure, ...] | None = Field(default=None, alias="failed")
    _slices: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check_names(self) -> Result:
        names = [case.case for case in self.cases]
        for place, values in (("classes", self.classes), ("cases", names)):
            twice = [value for value, count in Counter(values).items() if count > 1]
            if twice:
                raise fault(place, "have a name of its own each", twice[0])
        again = [name for name in self.failed if name in names]
        if again:
            raise fault("failed", "name no case that has figures", again[0])
        return self

    @model_validator(mode="after")
    def _check_lengths(self) -> Result:
        for number, case in enumerate(self.cases):
            for place, values in case.per_class.items():
                if len(values) != len(self.classes):
                    raise fault(f"cases[{number}].{place}", f"have {len(self.classes)} values", list(values))
        return self

    @property
    def attack(self) -> str:
        """Name of the attack; ``"identity"`` is the clean run."""
        return self.attack_.name

    @property
    def role(self) -> str:
        """``"attack"`` or ``"control"``."""
        return self.attack_.role

    @property
    def settings(self) -> Mapping[str, Any]:
        """How the attack was built."""
        return self.attack_.settings

    @property
    def failed(self) -> Mapping[str, str]:
        """The cases that could not be measured, and the sentence of each."""
        return {one.case: one.error for one in self.failed_ or ()}

    @property
    def forward(self) -> int | None:
        """Windows that passed the network forward, ``None`` if they were not counted."""
        return None if self.cost is None else self.cost.forward

    @property
    def backward(self) -> int | None:
        """Windows that passed it backward."""
        return None if self.cost is None else self.cost.backward

    @property
    def slices(self) -> Path | None:
        """The file with slice and volume of the first case, or ``None``."""
        return self._slices

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
        windows = self.windows_per_gradient
        cheap = f"gradients of {windows} windows" if windows else ""
        words = setting_text(self.settings, self.attack_.strength)
        return ", ".join(filter(None, (words, cheap, "compiled" if self.compiled else "")))


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
    result._slices = _slices_path(result.slices_, path, root)
    return result


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


def parse_result(document: Mapping[str, Any], name: str) -> Result:
    """Turn one document into a result without slices; ``name`` is said in errors.

    Raises:
        ValueError: in one sentence, if the document is not as the schema ``vafa_monai.result/1`` says.
    """
    return parse(Result, document, name)


def _slices_path(slices: str | None, path: Path, root: Path) -> Path | None:
    """Return the path of the file with slice and volume, which must lie inside ``root``."""
    if slices is None:
        return None
    argument = f"slices of {path.relative_to(root).as_posix()}"
    try:
        target = (path.parent / slices).resolve()
        there = target.is_file()
    except (OSError, ValueError):  # too long a name, a byte 0
        target, there = path, False
    require(target.is_relative_to(root), argument, "lie inside results_dir", slices)
    require(there, argument, "be an existing file", slices)
    return target

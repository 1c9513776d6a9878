"""The audit of the checkpoints of a bundle, one document each, where the report finds it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from vafa_monai.attacks.validation import strength
from vafa_monai.audit.audited_model import AuditedModel, Check, CheckResult, Measured, Status
from vafa_monai.audit.engine import CHECKS, as_json, audit_document, run_audit
from vafa_monai.audit.setting import AuditSettings
from vafa_monai.data.files import read_json, require_writable, sha256, write_json
from vafa_monai.reports.verdict import measured_of
from vafa_monai.results.attack_name import CLEAN
from vafa_monai.results.audit import AUDIT_SCHEMA, parse_audit
from vafa_monai.results.document import read_document
from vafa_monai.results.provenance import versions
from vafa_monai.results.result import RESULT_SCHEMA, parse_result
from vafa_monai.runs.bundle_model import CHECKED, BundleModel
from vafa_monai.runs.bundle_run import PLACES, digest, run_facts
from vafa_monai.runs.override import refuse_taken
from vafa_monai.runs.work import TimeLeft, whole_or_aside

__all__ = ["AuditProgress", "BundleAudit"]

FROM_BUNDLE = ("eps", "q_max", "block_size", "seed")
AUDITED: tuple[str, ...] = (*FROM_BUNDLE, *CHECKED.values(), "network_def", "device", "datalist", "classes")  # is read
AUDITED += ("physical_range", "physical_unit", "value_range", "val_batch_size")
AUDITED += ("validate#preprocessing", "validate#postprocessing", "validate#data", "validate#inferer")
MODEL = "model.pt"  # whose metrics the metadata of a bundle state
STATED = ("mean_dice", "val_mean_dice", "dice", "val_dice")


def audit_settings(model: BundleModel, changes: Mapping[str, Any]) -> AuditSettings:
    """Return the settings of an audit, with the budgets of the bundle where nothing else is asked for."""
    asked = {name: value for name, value in changes.items() if value is not None}
    unknown = asked.keys() - {one.name for one in fields(AuditSettings)}
    if unknown:
        raise ValueError(f"settings must be those of an audit, got {sorted(unknown)}.")
    found = {name: model.get(name) for name in FROM_BUNDLE} | {"stated_dice": stated_dice(model)} | asked
    found["eps"] = strength(found["eps"], model.get("physical_range"), model.get("physical_unit"), name="eps")
    return AuditSettings(**found)


def stated_dice(model: BundleModel) -> float | None:
    """Return the DSC without attack that the metadata state of these weights, or of the model of the bundle."""
    path = model.bundle / "configs" / "metadata.json"
    metadata = read_json(path, "metadata.json") if path.is_file() else {}
    metrics = metadata.get("eval_metrics") if model.checkpoint.name == MODEL else {}
    stated = [_share(metrics, name) for name in STATED]
    packaged = metadata.get("robustness")
    for one in packaged.values() if isinstance(packaged, dict) else ():
        if isinstance(one, dict) and one.get("sha256") == sha256(model.checkpoint):
            stated.insert(0, _share(one, "dice_clean"))
    return next((dice for dice in stated if dice is not None), None)


def _share(figures: Any, name: str) -> float | None:
    """Return a figure that is a fraction; hand-written metadata may hold anything."""
    found = figures.get(name) if isinstance(figures, dict) else None
    return float(found) if isinstance(found, (int, float)) and 0 <= found <= 1 and found is not True else None


CURVES = "curves"
GRADIENT = 3.0  # passes forward that a step takes: one there, and one back that is worth two
OTHER_INPUTS, TRIED_ON = 15.0, 3  # of the clean check
DOUBLE = 2.0  # float64
FILES = 3.0  # a volume that is written and read again, in passes forward


class AuditProgress:
    """Tell every finding with the time that is left.

    Args:
        subject: what is audited; settings, cases and second model decide how long each check takes.
        say: told, line by line.
    """

    def __init__(self, subject: AuditedModel, say: Callable[[str], None]) -> None:
        self.costs = _costs(subject)
        self.left = TimeLeft({"check": list(self.costs.values())})
        self.say, self.since = say, time.perf_counter()

    def __call__(self, check: Check, finding: CheckResult) -> None:
        """Tell one finding."""
        now = time.perf_counter()
        self.left.done("check", self.costs[check.id], now - self.since)
        self.since = now
        self.say(f"  {finding.status.value:4} {check.id:3} {check.title}: {finding.sentence} ({self.left})")


def _costs(subject: AuditedModel) -> dict[str, float]:
    """Return about how many passes forward a case takes in every check, those left out that an earlier one made."""
    settings, cases = subject.settings, len(subject.cases)
    steps, first = _attack(settings.steps), 1 / cases
    radii = [eps for eps in settings.eps_curve if eps not in (0, settings.eps)]
    lengths = [number for number in settings.steps_curve if number != settings.steps]
    ensemble = 6 * steps + settings.queries
    costs = {
        "S0": 4 * _attack(2),
        "S1": (1 + 2 / cases) * (2 * steps + 2 * _attack(2)),  # on two flat volumes, too
        "S2": len(radii) * steps,
        "S3": 2 * _attack(3 * settings.steps),
        "S4": sum(map(_attack, lengths)),
        "S5": _attack(1),
        "S6": settings.restarts * steps,
        "S7": ensemble + 3 * _attack(0),
        "S9": steps if subject.surrogate is not None else 0.0,
        "S10": DOUBLE * (8 + GRADIENT) * min(2, cases) / cases,
        "S11": 3 * first,
        "S12": first,
        "S14": DOUBLE * 2 * GRADIENT * first,
        "S15": 3 * steps,
        "S16": OTHER_INPUTS * min(TRIED_ON, cases) / cases + 1,
        "S18": 3 * (1 + FILES),
        "S21": _attack(2) * first,
        CURVES: 2 * steps,
    }
    return {check.id: 0.0 for check in CHECKS} | costs


def _attack(steps: int) -> float:
    """Return what an attack on a case costs, with a look at its best volume and a judgment of it."""
    return GRADIENT * steps + 2


def write_audit(
    subject: AuditedModel,
    path: Path,
    *,
    say: Callable[[str], None],
    command: str | None = None,
    made_of: str | None = None,
) -> Status:
    """Audit a model that knows its checkpoint, tell every finding, write the document, and return the verdict.

    It is refused if the file of the weights became another one meanwhile.
    """
    run = run_audit(subject, told=AuditProgress(subject, say))
    if subject.checkpoint is not None and sha256(subject.checkpoint["path"]) != subject.checkpoint["sha256"]:
        file = subject.checkpoint["path"]
        raise ValueError(f"checkpoint changed while it was audited: {file} is another file now.")
    document = audit_document(subject, run, versions=versions(), command=command)
    write_json(path, document if made_of is None else {**document, "made_of": made_of})
    say(f"{subject.name}: {run.verdict.value} in {run.seconds:.0f} s, {path}")
    return run.verdict


FILE = "audit.json"
OWN: tuple[str, ...] = (*PLACES, "applied_attack", "attack", "attack_name", "attack_role", "attack_steps")
OWN += ("compile_attack", "output_dir", "save_predictions", "tiled_attack")


@dataclass(frozen=True, kw_only=True)
class BundleAudit:
    """Audit checkpoints of a bundle through its own configs; what was audited just so is not audited again.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        checkpoints: files of the weights, relative to the bundle; each is the other's model to transfer from.
        labels: labels of the models, by checkpoint; by default the names of the files.
        surrogate: another checkpoint to transfer from, for all.
        output: folder of the documents, ``<output>/<model>/audit.json``; by default ``eval/results`` of the bundle.
        settings: settings of :class:`vafa_monai.audit.AuditSettings` other than those of the bundle.
        overrides: config ids and values, such as ``num_cases``.
        command: the command line, for the document.
        say: told of every step, line by line.

    Raises:
        ValueError: if there is no checkpoint, one is missing, or a document of something else is in the way.
    """

    bundle: Path
    dataset_dir: Path
    checkpoints: Sequence[str] = ("models/model.pt",)
    labels: Mapping[str, str] = field(default_factory=dict)
    surrogate: str | None = None
    output: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is not there."""
        refuse_taken(self.overrides, OWN)
        if not self.checkpoints:
            raise ValueError(f"checkpoint must be at least one file, got {self.checkpoints!r}.")
        for name in (*self.checkpoints, *([self.surrogate] if self.surrogate else [])):
            if not self._file(name).is_file():
                raise ValueError(f"checkpoint must be an existing file, got {str(self._file(name))!r}.")
        labels = [self._label(name) for name in self.checkpoints]
        own = [label for label in labels if Path(label).name == label and label not in (".", "..")]
        if len({label.casefold() for label in own}) < len(labels):
            raise ValueError(f"labels must be names of folders that differ, got {labels!r}.")
        for name in self.checkpoints:
            require_writable(self._path(name))

    def run(self) -> dict[str, Path]:
        """Audit every checkpoint.

        Returns:
            The documents by the name of the model.
        """
        return {self._label(name): self._audit(name) for name in self.checkpoints}

    def verdict(self, paths: Mapping[str, Path]) -> Status:
        """Return the worst verdict of the documents."""
        found = {parse_audit(read_document(path, path.parent), path.name).verdict for path in paths.values()}
        return next(status for status in (Status.FAIL, Status.WARN, Status.PASS) if status in found)

    def _audit(self, name: str) -> Path:
        """Audit one checkpoint, unless that was done."""
        path, other, model = self._path(name), self._other(name), self._model(name)
        label, measured = path.parent.name, self._measured(path, model.checkpoint)
        settings, made_of = audit_settings(model, self.settings), self._made_of(model, other, measured)
        if self._is_done(path, settings, made_of):
            self.say(f"{label}: audited already, {path}")
            return path
        self.say(f"{label}: {model.checkpoint}" + (f", transfer from {other}" if other else ""))
        second = None if other is None else self._model(other)
        subject = model.audited(settings, name=label, surrogate=second, splits=self._splits, measured=measured)
        write_audit(subject, path, say=self.say, command=self.command, made_of=made_of)
        return path

    @cached_property
    def _splits(self) -> dict[str, list[str]]:
        """The hashes of all images, which are the same for every checkpoint."""
        return self._model(self.checkpoints[0]).splits()

    def _measured(self, path: Path, weights: Path) -> list[Measured]:
        """Return the results of the same weights that lie beside the document."""
        results, hashed = [], sha256(weights)
        for file in sorted(set(path.parent.glob("[!.]*.json")) - {path}):
            try:
                document = read_document(file, path.parent)
                results += [parse_result(document, file.name)] if document.get("schema") == RESULT_SCHEMA else []
            except ValueError as error:
                self.say(f"{path.parent.name}: {file.name} is left out: {error}")
        same = [one for one in results if one.checkpoint.get("sha256") == hashed]
        return [measured_of(one) for one in same if one.role == "attack" or one.attack == CLEAN]

    def _made_of(self, model: BundleModel, other: str | None, measured: Sequence[Measured]) -> str:
        """Return a hash of what decides an audit beside its settings: weights, images, configs, results beside it."""
        content = {
            "checkpoint": sha256(model.checkpoint),
            "surrogate": None if other is None else sha256(self._file(other)),
            "images": self._splits,
            "grid": "files",
            "labels": ["".join(map(sha256, ensure_tuple(case["label"]))) for case in model.get("validate#data")],
            "run": run_facts(model.run, Path(model.get("datalist"))),
            "results": [[one.name, str(one.threat), one.dice] for one in measured],
            "versions": versions(),
        }
        return digest(content)

    def _is_done(self, path: Path, settings: AuditSettings, made_of: str) -> bool:
        """Tell whether the document of this audit is there; an older one of the same model is replaced by the new."""
        found = whole_or_aside(path, _read, self.say)
        if found is None:
            return False
        if found.get("schema") != AUDIT_SCHEMA:
            raise ValueError(f"output must hold no other {FILE}, got {str(path)!r}.")
        same = all(found["settings"].get(key) == as_json(value) for key, value in vars(settings).items())
        return same and found.get("made_of") == made_of

    def _other(self, name: str) -> str | None:
        """Return the checkpoint to transfer from: the one asked for, or the first other one."""
        return self.surrogate or next((other for other in self.checkpoints if other != name), None)

    def _model(self, name: str) -> BundleModel:
        overrides = {**self.overrides, "dataset_dir": str(self.dataset_dir)}
        return BundleModel(bundle=Path(self.bundle), checkpoint=self._file(name), overrides=overrides)

    def _file(self, name: str) -> Path:
        return Path(self.bundle).resolve() / name

    def _path(self, name: str) -> Path:
        folder = Path(self.bundle) / "eval" / "results" if self.output is None else Path(self.output)
        return folder / self._label(name) / FILE

    def _label(self, name: str) -> str:
        return self.labels.get(name, self._file(name).stem)


def _read(path: Path) -> Mapping[str, Any]:
    """Return an audit, whole, or a document of another kind."""
    document = read_document(path, path.parent)
    other = document.get("schema") not in (None, AUDIT_SCHEMA)
    return document if other else parse_audit(document, FILE).document

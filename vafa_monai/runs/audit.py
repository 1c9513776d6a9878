"""The audit of the checkpoints of a bundle, one document each, where the report finds it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate, load_decathlon_datalist
from monai.data.utils import affine_to_spacing
from torch import nn

from vafa_monai.attacks.validation import strength
from vafa_monai.audit.audited_model import AuditCase, AuditedModel, Check, CheckResult, Measured, Status
from vafa_monai.audit.engine import CHECKS, as_json, audit_document, run_audit
from vafa_monai.audit.setting import AuditSettings
from vafa_monai.data.check import check_cases
from vafa_monai.data.files import read_json, require_writable, set_aside, sha256, write_json
from vafa_monai.data.weights import read_weights
from vafa_monai.reports.verdict import measured_of
from vafa_monai.results.attack_name import CLEAN
from vafa_monai.results.audit import AUDIT_SCHEMA, parse_audit
from vafa_monai.results.document import read_document
from vafa_monai.results.provenance import case_name, versions
from vafa_monai.results.result import RESULT_SCHEMA, parse_result
from vafa_monai.runs.bundle_run import BundleRun, digest, run_facts
from vafa_monai.runs.override import refuse_taken
from vafa_monai.runs.work import TimeLeft

__all__ = ["AuditProgress", "BundleAudit"]

PARTS = ("training", "validation", "test")
FROM_BUNDLE = ("eps", "q_max", "block_size", "seed")
CHECKED = {  # what decides whether cases can be attacked, by the arguments of check_cases
    "num_classes": "num_classes",
    "value_range": "image_range",
    "roi_size": "least_size",
    "in_channels": "image_channels",
}
AUDITED: tuple[str, ...] = (*FROM_BUNDLE, *CHECKED.values(), "network_def", "device", "datalist", "classes")  # is read
AUDITED += ("physical_range", "physical_unit", "value_range", "val_batch_size")
AUDITED += ("validate#preprocessing", "validate#data", "validate#inferer")
MODEL = "model.pt"  # whose metrics the metadata of a bundle state
STATED = ("mean_dice", "val_mean_dice", "dice", "val_dice")


class BundleModel:
    """The parsed configs of a bundle, for one checkpoint.

    Args:
        bundle: folder of the bundle.
        checkpoint: file of the weights.
        overrides: config ids and values, ``dataset_dir`` among them.

    Raises:
        ValueError: if the folder is no bundle.
    """

    def __init__(self, bundle: Path, checkpoint: Path, overrides: Mapping[str, Any]) -> None:
        self.checkpoint = checkpoint
        overrides = {**overrides, "ckpt_path": str(checkpoint)}
        self.run = BundleRun(bundle=bundle, overlays=["evaluate"], overrides=overrides)
        self.parser: ConfigParser = self.run.workflow().parser

    def get(self, name: str) -> Any:
        """Return what a config id stands for."""
        return self.parser.get_parsed_content(name)

    def network(self) -> nn.Module:
        """Return the network with its weights, in eval mode.

        Raises:
            ValueError: if the checkpoint is missing or of another network.
        """
        network: nn.Module = self.parser.get_parsed_content("network_def", instantiate=True)
        network.load_state_dict(read_weights(self.checkpoint, network))
        return network.to(self.get("device")).eval()

    def cases(self) -> list[AuditCase]:
        """Return the cases as the network sees them.

        Raises:
            ValueError: if a case cannot be attacked.
        """
        preprocessing, data = self.get("validate#preprocessing"), self.get("validate#data")
        known = {argument: self.get(name) for argument, name in CHECKED.items() if name in self.parser}
        check_cases(data, preprocessing=preprocessing, unique_names=True, **known)
        return [self._case(preprocessing(dict(case))) for case in data]

    def settings(self, **changes: Any) -> AuditSettings:
        """Return the settings of an audit, with the budgets of the bundle where nothing else is asked for."""
        asked = {name: value for name, value in changes.items() if value is not None}
        unknown = asked.keys() - {one.name for one in fields(AuditSettings)}
        if unknown:
            raise ValueError(f"settings must be those of an audit, got {sorted(unknown)}.")
        found = {name: self.get(name) for name in FROM_BUNDLE} | {"stated_dice": self.stated_dice()} | asked
        found["eps"] = strength(found["eps"], self.get("physical_range"), self.get("physical_unit"), name="eps")
        return AuditSettings(**found)

    def stated_dice(self) -> float | None:
        """Return the DSC without attack that the metadata state of these weights, or of the model of the bundle."""
        path = Path(self.run.bundle) / "configs" / "metadata.json"
        metadata = read_json(path, "metadata.json") if path.is_file() else {}
        metrics = metadata.get("eval_metrics") if self.checkpoint.name == MODEL else {}
        stated = [_share(metrics, name) for name in STATED]
        packaged = metadata.get("robustness")
        for one in packaged.values() if isinstance(packaged, dict) else ():
            if isinstance(one, dict) and one.get("sha256") == sha256(self.checkpoint):
                stated.insert(0, _share(one, "dice_clean"))
        return next((dice for dice in stated if dice is not None), None)

    def splits(self) -> dict[str, list[str]]:
        """Return the hashes of the images of every part of the data."""
        datalist, found = self.get("datalist"), {}
        for part in PARTS:
            try:
                listed = load_decathlon_datalist(datalist, True, part)
            except ValueError:  # the list has no such part
                logging.getLogger(__name__).info("%s has no part %r", datalist, part)
                continue
            found[part] = [sha256(case["image"]) for case in listed]
        return found

    def _case(self, loaded: Mapping[str, Any]) -> AuditCase:
        """Return one case as a batch of one."""
        image, device = loaded["image"], self.get("device")
        spacing = affine_to_spacing(image.affine).tolist() if isinstance(image, MetaTensor) else [1.0] * 3
        batch = list_data_collate([{key: loaded[key] for key in ("image", "label")}])
        plain = {key: torch.as_tensor(batch[key].as_tensor(), device=device) for key in ("image", "label")}
        return AuditCase(name=case_name(image), spacing=tuple(spacing), **plain)


def _share(figures: Any, name: str) -> float | None:
    """Return a figure that is a fraction; hand-written metadata may hold anything."""
    found = figures.get(name) if isinstance(figures, dict) else None
    return float(found) if isinstance(found, (int, float)) and 0 <= found <= 1 and found is not True else None


def load_subject(
    model: BundleModel,
    settings: AuditSettings,
    surrogate: BundleModel | None = None,
    splits: Mapping[str, Sequence[str]] | None = None,
    measured: Sequence[Measured] = (),
) -> AuditedModel:
    """Return the subject of an audit.

    Args:
        model: what is audited.
        settings: how hard the audit tries.
        surrogate: another model of the same bundle, for transfer.
        splits: hashes of the images of each part of the data, as :meth:`BundleModel.splits` has them.
        measured: results of the same weights.
    """
    return AuditedModel(
        model.network(),
        model.cases(),
        model.get("classes"),
        inferer=model.get("validate#inferer"),
        settings=settings,
        value_range=model.get("value_range"),
        surrogate=None if surrogate is None else surrogate.network(),
        splits=splits,
        measured=measured,
        batch_size=model.get("val_batch_size"),
    )


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


FILE = "audit.json"
OWN: tuple[str, ...] = ("applied_attack", "attack", "attack_name", "attack_role", "attack_steps", "compile_attack")
OWN += ("ckpt_dir", "ckpt_path", "model_file", "model_name", "results_dir", "save_predictions", "tiled_attack")


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
        path, other = self._path(name), self._other(name)
        model = self._model(name)
        measured = self._measured(path, self._file(name))
        settings, made_of = model.settings(**self.settings), self._made_of(model, other, measured)
        if self._is_done(path, settings, made_of):
            self.say(f"{path.parent.name}: audited already, {path}")
            return path
        weights = sha256(self._file(name))
        self.say(f"{path.parent.name}: {self._file(name)}" + (f", transfer from {other}" if other else ""))
        subject = load_subject(model, settings, None if other is None else self._model(other), self._splits, measured)
        run = run_audit(subject, told=AuditProgress(subject, self.say))
        if sha256(self._file(name)) != weights:
            raise ValueError(f"checkpoint must stay the same while it is audited, got another {self._file(name)} now.")
        about = {"path": str(self._file(name)), "sha256": weights}
        document = audit_document(
            subject, run, model=path.parent.name, versions=versions(), checkpoint=about, command=self.command
        )
        write_json(path, {**document, "made_of": made_of})
        self.say(f"{path.parent.name}: {run.verdict.value} in {run.seconds:.0f} s, {path}")
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
            "labels": [sha256(case["label"]) for case in model.get("validate#data")],
            "run": run_facts(model.run, Path(model.get("datalist"))),
            "results": [[one.name, str(one.threat), one.dice] for one in measured],
            "versions": versions(),
        }
        return digest(content)

    def _is_done(self, path: Path, settings: AuditSettings, made_of: str) -> bool:
        """Tell whether the document of this audit is there; an older one of the same model is replaced by the new."""
        if not path.is_file():
            return False
        try:
            document = read_document(path, path.parent)
            foreign = document.get("schema") not in (None, AUDIT_SCHEMA)
            known = {} if foreign else parse_audit(document, FILE).document["settings"]
        except ValueError as error:
            self.say(f"set aside: {set_aside(path)}, to be made again ({error})")
            return False
        if foreign:
            raise ValueError(f"output must hold no other {FILE}, got {str(path)!r}.")
        same = all(known.get(key) == as_json(value) for key, value in vars(settings).items())
        return same and document.get("made_of") == made_of

    def _other(self, name: str) -> str | None:
        """Return the checkpoint to transfer from: the one asked for, or the first other one."""
        return self.surrogate or next((other for other in self.checkpoints if other != name), None)

    def _model(self, name: str) -> BundleModel:
        return BundleModel(
            Path(self.bundle), self._file(name), {**self.overrides, "dataset_dir": str(self.dataset_dir)}
        )

    def _file(self, name: str) -> Path:
        return Path(self.bundle).resolve() / name

    def _path(self, name: str) -> Path:
        folder = Path(self.bundle) / "eval" / "results" if self.output is None else Path(self.output)
        return folder / self._label(name) / FILE

    def _label(self, name: str) -> str:
        return self.labels.get(name, self._file(name).stem)

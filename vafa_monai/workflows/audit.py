"""The audit of the checkpoints of a bundle, one document each, where the report finds it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from vafa_monai.audit import AuditSettings, Measured, Status, run_audit
from vafa_monai.audit.document import AUDIT_SCHEMA, as_json, audit_document
from vafa_monai.data import sha256, write_json
from vafa_monai.data.files import require_writable, set_aside
from vafa_monai.handlers.provenance import versions
from vafa_monai.reports.attack_name import CLEAN
from vafa_monai.reports.audit_document import parse_audit
from vafa_monai.reports.document_file import read_document
from vafa_monai.reports.result import RESULT_SCHEMA, parse_result
from vafa_monai.reports.verdict import measured_of
from vafa_monai.workflows.audit_subject import BundleModel, load_subject
from vafa_monai.workflows.audit_teller import AuditTeller
from vafa_monai.workflows.fingerprint import digest, run_facts
from vafa_monai.workflows.override import refuse_taken

__all__ = ["BundleAudit"]

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
        run = run_audit(subject, told=AuditTeller(subject, self.say))
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

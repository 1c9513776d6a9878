"""The models of a table: given, trained once, or trained for a moment in a smoke run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from monai.utils import StrEnum

from vafa_monai.data.files import read_json, sha256, write_json
from vafa_monai.paper.setting import Hardening, Measurement, PaperSetting, bundle_name_of, paper_setting
from vafa_monai.results.attack_name import CLEAN
from vafa_monai.results.document import parse
from vafa_monai.results.record import MODEL_SCHEMA, PaperModel
from vafa_monai.runs.bundle_run import BundleRun, digest, run_facts
from vafa_monai.runs.override import is_known, require_known
from vafa_monai.runs.reach import require_read
from vafa_monai.runs.run_log import RunLog
from vafa_monai.runs.work import Item, whole_or_aside

__all__ = ["Model", "ModelOrigin", "PaperRuns", "PaperTraining", "ReproductionSettings"]

OWN: tuple[str, ...] = ("bundle_root", "ckpt_dir", "pretrained_file", "model_file", "resume_dir", "results_dir")
OWN += ("model_name", "attack_name", "attack_role", "seed")
PATHS = ("ckpt_path", "ckpt_dir", "pretrained_file", "resume_dir")
QUICK_EVALUATION: Mapping[str, Any] = {"num_cases": 1, "attack_steps": 2, "num_workers": 0}
QUICK_TRAINING: Mapping[str, Any] = {
    "epochs": 1,
    "windows_per_epoch": 2,
    "windows_per_volume": 1,
    "batch_size": 1,
    "val_interval": 1,
    "attack_steps": 2,
    "num_workers": 0,
    "cache_rate": 0.0,
}


@dataclass(frozen=True, kw_only=True)
class ReproductionSettings:
    """What is to be reproduced, with what.

    Args:
        table: ``"table1"`` to ``"table6"``, or ``"figure2"``.
        bundle: folder of the bundle.
        dataset_dir: folder of the prepared dataset.
        output: folder of the table; by default ``eval/reproduce/<table>`` in the bundle.
        quick: a smoke run: one case, two steps, models that have hardly trained.
        seed: seed of trainings and attacks.
        whole_volume: attack through the sliding window of the bundle instead of window by window, as published.
        bundle_name: dataset and network, such as ``"synapse_unetr"``; by default the name of the folder tells.
        overrides: config ids and their values, for every run that has them. ``ckpt_path`` is the standard model.
    """

    table: str
    bundle: str | Path
    dataset_dir: str | Path
    output: str | Path | None = None
    quick: bool = False
    seed: int = 0
    whole_volume: bool = False
    bundle_name: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A checkpoint that is attacked: the standard one, or a hardened one.

    Args:
        name: name of its results.
        title: what a reader is shown.
        file: the checkpoint.
        hardening: how it is trained, if it is a hardened one.
    """

    name: str
    title: str
    file: Path
    hardening: Hardening | None = None


class PaperRuns:
    """Make the runs of a reproduction; nothing is run here.

    Args:
        settings: what is to be reproduced.

    Raises:
        ValueError: if the bundle, the table or an override is none that can be.
    """

    def __init__(self, settings: ReproductionSettings) -> None:
        self.settings = settings
        self.bundle = BundleRun(bundle=Path(settings.bundle)).bundle.resolve()
        self.setting: PaperSetting = paper_setting(settings.table, bundle_name_of(self.bundle, settings.bundle_name))
        self.overrides = {name: value for name, value in settings.overrides.items() if name != "ckpt_path"}
        self._refuse(self.overrides)
        default = self.bundle / "eval" / "reproduce" / settings.table
        self.output = (default if settings.output is None else Path(settings.output)).resolve()
        self.standard = self._standard()

    def models(self) -> list[Model]:
        """Return the models in the order in which they are measured: the standard one first."""
        folder = self.output / "models" if self.settings.quick else self.bundle / "models"
        hardened = [
            Model(name=f"robust_{one.key}", title=one.title, file=folder / f"paper_{one.key}.pt", hardening=one)
            for one in self.setting.hardenings
        ]
        return [self.standard, *hardened]

    def evaluation(self, model: Model, measurement: Measurement, results_dir: Path) -> BundleRun:
        """Return the run that attacks a model."""
        tiles = [] if measurement.name == CLEAN else self._tiles()
        overlays = ["evaluate", f"attacks/{measurement.overlay}", *tiles]
        places = {
            "ckpt_path": self.shown(model.file),
            "model_name": model.name,
            "attack_name": measurement.name,
            "results_dir": str(results_dir),
        }
        return self._run(overlays, {**measurement.overrides, **self._shared(), **places})

    def training(self, model: Model) -> BundleRun:
        """Return the run that trains a model, without the folder to resume from."""
        hardening = model.hardening
        wanted = {} if hardening is None else hardening.overrides
        start = {} if hardening is None else {"pretrained_file": self.shown(self.standard.file)}
        places = {"ckpt_dir": self.shown(model.file.parent), "model_file": model.file.name, **start}
        overlays = [] if hardening is None else list(hardening.overlays)
        return self._run(overlays, {**wanted, **self.quick_training(), **self.overrides, **places})

    def common(self) -> BundleRun:
        """Return what all attacks of the table have in common."""
        return self._run(["evaluate", *self._tiles()], self._shared())

    def is_trained_here(self, model: Model) -> bool:
        """Tell whether a model is trained by the reproduction itself: hardened ones, and all of a smoke run's own."""
        return model.hardening is not None or model.file.is_relative_to(self.output)

    def resume_dir(self, model: Model, facts: str) -> str:
        """Return the folder that a training with these settings goes on from, and no other."""
        root = self.output if self.settings.quick else self.bundle / "eval" / "reproduce"
        return self.shown(root / "resume" / f"{model.file.stem}_{facts}")

    def quick_training(self) -> dict[str, Any]:
        """Return what shortens a training, one validation case among it; nothing if it is not to be."""
        if not self.settings.quick:
            return {}
        one_case = "$monai.data.load_decathlon_datalist(@datalist, True, 'validation')[:1]"
        return {**QUICK_TRAINING, "validate#data": one_case}

    def shown(self, path: Path) -> str:
        """Return a path relative to the bundle, if it lies there."""
        return path.relative_to(self.bundle).as_posix() if path.is_relative_to(self.bundle) else str(path)

    def absolute(self, run: BundleRun) -> BundleRun:
        """Return the same run with its paths made absolute, so that it can start anywhere."""
        paths = {name: str(self.bundle / run.overrides[name]) for name in PATHS if name in run.overrides}
        return replace(run, overrides={**run.overrides, **paths})

    def training_command(self) -> str:
        """Return how the standard model is trained."""
        return f"vafa-monai train --bundle {self.settings.bundle} --dataset_dir {self.settings.dataset_dir}"

    def _standard(self) -> Model:
        """Return the standard model; a smoke run trains one of its own if there is none."""
        given = self.settings.overrides.get("ckpt_path")
        file = self.bundle / ("models/model.pt" if given is None else str(given))
        if given is not None and not file.is_file() and Path(given).is_file():
            file = Path(given).resolve()
        elif given is None and self.settings.quick and not file.is_file():
            file = self.output / "models" / "model.pt"
        return Model(name="standard", title="Standard", file=file)

    def _tiles(self) -> list[str]:
        return [] if self.settings.whole_volume else ["tiles"]

    def _shared(self) -> dict[str, Any]:
        """Return what is changed in every evaluation."""
        return {**(QUICK_EVALUATION if self.settings.quick else {}), **self.overrides}

    def _run(self, overlays: list[str], overrides: Mapping[str, Any]) -> BundleRun:
        where = {"dataset_dir": str(Path(self.settings.dataset_dir).resolve()), "seed": self.settings.seed}
        config = BundleRun(bundle=self.bundle, overlays=overlays).config
        general = {*self.overrides, *QUICK_EVALUATION, *QUICK_TRAINING}  # for every run that has them
        known = {name: value for name, value in overrides.items() if name not in general or is_known(config, name)}
        return BundleRun(bundle=self.bundle, overlays=overlays, overrides={**where, **known})

    def _refuse(self, overrides: Mapping[str, Any]) -> None:
        """Refuse to override what the command sets itself, what the table is about, and what no run has."""
        for names, owner in ((OWN, "the command"), (self.setting.varied, self.setting.table)):
            taken = sorted(set(names) & overrides.keys())
            if taken:
                raise ValueError(f"overrides must leave {', '.join(names)} to {owner}, got {', '.join(taken)}.")
        chains = [["evaluate", f"attacks/{one.overlay}", *self._tiles()] for one in self.setting.measurements]
        chains += [list(one.overlays) for one in self.setting.hardenings] + [[]] * self.settings.quick
        runs = [BundleRun(bundle=self.bundle, overlays=chain) for chain in chains]
        for name in overrides:
            if not any(is_known(run.config, name) for run in runs):
                require_known(runs[0].config, [name])
        require_read(runs, overrides)


class ModelState(StrEnum):
    """What is to be done about a model."""

    READY = "ready"  # trained with these settings
    OPEN = "open"  # not there, or its training was stopped
    FOREIGN = "foreign"  # there without a record, or replaced since
    OTHER = "other"  # trained with other settings


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """A model file and the settings that it is wanted with; the record is ``<file>.json`` beside it.

    Args:
        file: the checkpoint.
        settings: what makes the training what it is.
    """

    file: Path
    settings: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """The file of the record."""
        return self.file.with_suffix(".json")

    def read(self) -> Mapping[str, Any]:
        """Return the record, empty if there is none.

        Raises:
            ValueError: if it is damaged.
        """
        if not self.path.is_file():
            return {}
        return parse(PaperModel, read_json(self.path, "record of the model"), str(self.path)).document

    def state(self) -> ModelState:
        """Compare the record with the file and the settings."""
        found = self.read()
        if not self.file.is_file():
            return ModelState.OPEN
        if not found or (found["finished"] and found["sha256"] != sha256(self.file)):
            return ModelState.FOREIGN
        if self.differing():
            return ModelState.OTHER
        return ModelState.READY if found["finished"] else ModelState.OPEN

    def differing(self) -> list[str]:
        """Return the names of the settings that are recorded otherwise."""
        found = self.read().get("settings", {})
        return sorted(
            name for name in found.keys() | self.settings.keys() if found.get(name) != self.settings.get(name)
        )

    def begin(self) -> None:
        """Record that a training has started; its file is not a model until it has finished."""
        write_json(self.path, {"schema": MODEL_SCHEMA, "finished": False, "settings": dict(self.settings)})

    def finish(self, seconds: float) -> None:
        """Record that the training has finished.

        Raises:
            FileNotFoundError: if it left no file.
        """
        facts = {"finished": True, "sha256": sha256(self.file), "seconds": round(seconds, 2)}
        write_json(self.path, {"schema": MODEL_SCHEMA, **facts, "settings": dict(self.settings)})


@dataclass(frozen=True, kw_only=True)
class ModelOrigin:
    """Where a model is from, in words, and how long its training took, in time and iterations, if that is known."""

    words: str
    seconds: float | None = None
    iterations: int | None = None


@dataclass(frozen=True, kw_only=True)
class PaperTraining:
    """Provide the models of a table.

    Args:
        runs: the runs of the table.
        datalist: the list of the cases.
        log: what is told.
    """

    runs: PaperRuns
    datalist: Path
    log: RunLog

    def item(self, model: Model) -> Item[ModelOrigin]:
        """Return the work that trains a model or finds it; one of other settings is refused, and not written over."""
        return Item(
            key=model.name,
            kind="training",
            find=partial(self._find, model),
            make=partial(self._make, model),
            told=lambda origin, left: f"  {origin.iterations} iterations, {origin.seconds:.0f} s: {model.file}; {left}",
            before=lambda origin, _: (
                "  taken as it is: it has no record of its training" if origin.seconds is None else "  done before"
            ),
        )

    def require(self, model: Model) -> None:
        """Refuse a given model that is not there, with the command that trains it."""
        if not model.file.is_file():
            command = self.runs.training_command()
            raise ValueError(f"checkpoint must be a file, got {str(model.file)!r}; train it first: {command}")

    def _planned(self, model: Model) -> tuple[BundleRun, ModelRecord]:
        """Return the training of a model and its record."""
        run = self.runs.training(model)
        facts = run_facts(run, self.datalist)
        if model.hardening is not None:
            if not self.runs.standard.file.is_file():
                raise ValueError(f"pretrained_file must be a file, got {str(self.runs.standard.file)!r}, not trained.")
            facts["pretrained"] = sha256(self.runs.standard.file)
        run = replace(run, overrides={**run.overrides, "resume_dir": self.runs.resume_dir(model, digest(facts))})
        return run, ModelRecord(file=model.file, settings=facts)

    def _find(self, model: Model) -> ModelOrigin | None:
        """Find a model that was trained, or that has no record; one of a smoke run is its own, and made again."""
        run, record = self._planned(model)
        self.log.announce(run)
        whole_or_aside(record.path, lambda _: record.read(), self.log.detail)
        state = record.state()
        if state == ModelState.OTHER and not self.runs.settings.quick:
            raise ValueError(
                f"model must be one with the settings of this call, or be moved away, got {str(record.file)!r}, "
                f"recorded with other {', '.join(record.differing())}."
            )
        if state == ModelState.FOREIGN and not self.runs.settings.quick:
            return ModelOrigin(words="found, with no record of its training")
        return self._origin(record) if state == ModelState.READY else None

    def _make(self, model: Model) -> ModelOrigin:
        """Train, with a record from the start to the end."""
        run, record = self._planned(model)
        if record.state() in (ModelState.OTHER, ModelState.FOREIGN):
            record.file.unlink()
        record.begin()
        start, run = time.monotonic(), self.runs.absolute(run)
        run.check()
        state = self.log.run(run, "train#trainer")
        record.finish(time.monotonic() - start)
        return replace(self._origin(record), iterations=state.iteration)

    def _origin(self, record: ModelRecord) -> ModelOrigin:
        """Return where a model with a record is from."""
        smoke = self.runs.settings.quick
        words = "trained for a moment, for a smoke run" if smoke else "trained by this command"
        return ModelOrigin(words=words, seconds=record.read()["seconds"])

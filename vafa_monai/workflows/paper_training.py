"""The models of a table: given, trained once, or trained for a moment in a smoke run."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from vafa_monai.data import sha256
from vafa_monai.workflows.bundle_run import BundleRun
from vafa_monai.workflows.fingerprint import digest, run_facts
from vafa_monai.workflows.model_record import ModelRecord, ModelState
from vafa_monai.workflows.paper_run import Model, PaperRuns
from vafa_monai.workflows.run_log import RunLog
from vafa_monai.workflows.time_left import TimeLeft

__all__ = ["ModelOrigin", "PaperTraining"]

TRAINING = "training"


@dataclass(frozen=True, kw_only=True)
class ModelOrigin:
    """Where a model is from, in words, and how long its training took if that is known."""

    words: str
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class PaperTraining:
    """Provide the models of a table.

    Args:
        runs: the runs of the table.
        datalist: the list of the cases.
        log: what is told.
        left: counts the trainings, of the kind ``"training"``.
    """

    runs: PaperRuns
    datalist: Path
    log: RunLog
    left: TimeLeft

    def provide(self, model: Model) -> ModelOrigin:
        """Train a model, go on with its training, or find that it is there.

        Raises:
            ValueError: if a given model is missing, or one was trained with other settings: it is not written over.
        """
        if not self.runs.is_trained_here(model):
            self.require(model)
            return ModelOrigin(words="given")
        run = self.runs.training(model)
        facts = run_facts(run, self.datalist)
        if model.hardening is not None:
            if not self.runs.standard.file.is_file():
                raise ValueError(f"pretrained_file must be a file, got {str(self.runs.standard.file)!r}, not trained.")
            facts["pretrained"] = sha256(self.runs.standard.file)
        run = replace(run, overrides={**run.overrides, "resume_dir": self.runs.resume_dir(model, digest(facts))})
        self.log.announce(run)
        return self._train_once(self.runs.absolute(run), ModelRecord(file=model.file, settings=facts))

    def require(self, model: Model) -> None:
        """Refuse a given model that is not there, with the command that trains it."""
        if not model.file.is_file():
            command = self.runs.training_command()
            raise ValueError(f"checkpoint must be a file, got {str(model.file)!r}; train it first: {command}")

    def _train_once(self, run: BundleRun, record: ModelRecord) -> ModelOrigin:
        """Train unless the record says that it was done."""
        if (damage := record.sweep()) is not None:
            self.log.say(f"  {damage}")
        state = record.state()
        smoke = self.runs.settings.quick  # its models are its own: nothing is lost if they are written over
        if state == ModelState.OTHER and not smoke:
            raise ValueError(
                f"model must be one with the settings of this call, or be moved away, got {str(record.file)!r}, "
                f"recorded with other {', '.join(record.differing())}."
            )
        if state == ModelState.FOREIGN and not smoke:
            self.log.say("  taken as it is: it has no record of its training")
            self.left.skip(TRAINING, 1.0)
            return ModelOrigin(words="found, with no record of its training")
        if state == ModelState.READY:
            self.log.say("  done before")
            self.left.skip(TRAINING, 1.0)
        else:
            self._train(run, record)
        words = "trained for a moment, for a smoke run" if smoke else "trained by this command"
        return ModelOrigin(words=words, seconds=record.read()["seconds"])

    def _train(self, run: BundleRun, record: ModelRecord) -> None:
        """Train, with a record from the start to the end."""
        record.begin()
        start = time.monotonic()
        run.check()
        state = self.log.run(run, "train#trainer")
        seconds = time.monotonic() - start
        record.finish(seconds)
        self.left.done(TRAINING, 1.0, seconds)
        self.log.say(f"  {state.iteration} iterations, {seconds:.0f} s: {record.file}; {self.left}")

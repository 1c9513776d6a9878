"""The paper's tables measured again: every row that is missing is run, one by one, and the table is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vafa_monai.attacks.describe import describe
from vafa_monai.data.files import require_writable, sha256, write_json
from vafa_monai.paper.outcome import ReproductionOutcome, write_outcome
from vafa_monai.paper.row import METRICS, paper_row
from vafa_monai.paper.run import Model, ModelOrigin, PaperRuns, PaperTraining, ReproductionSettings
from vafa_monai.paper.setting import Measurement
from vafa_monai.results.provenance import listed_files, listed_name, versions
from vafa_monai.results.result import PROGRAMS, Result, load_result
from vafa_monai.runs.bundle_run import BundleRun, digest, run_facts
from vafa_monai.runs.run_log import RunLog
from vafa_monai.runs.work import Item, Work, whole_or_aside

__all__ = ["Reproduction"]

GRADIENT_COST = 3.0  # forward passes that a forward and backward pass is worth


class Reproduction:
    """Reproduce a table or the figure of the paper; what is done already is not done again.

    A row is a result of :class:`vafa_monai.handlers.RobustnessReport`, ``results/<hash>/<model>/<attack>.json`` in the
    output, the hash being that of configs, overrides and list of cases. It is done if checkpoint, attack, versions and
    the files of all cases are those of this call, too; a damaged one is set aside and made again. A row that fails does
    not affect the others.

    Args:
        settings: what is to be reproduced, with what.
        say: what is told of every step, line by line.

    Raises:
        ValueError: if the bundle, the table, the dataset or an override is none that can be.
    """

    def __init__(self, settings: ReproductionSettings, say: Callable[[str], None]) -> None:
        self.runs = PaperRuns(settings)
        self.models = self.runs.models()
        self.measurements = self.runs.setting.measurements
        self.datalist = _datalist(self.runs.common())
        self.facts = run_facts(self.runs.common(), self.datalist)
        self.results_dir = self.runs.output / "results" / digest(self.facts)
        self.log = RunLog(self.runs.output / "reproduce.log", say)
        self.training = PaperTraining(runs=self.runs, datalist=self.datalist, log=self.log)
        trained = [model for model in self.models if self.runs.is_trained_here(model)]
        self.trainings = {model.name: self.training.item(model) for model in trained}
        self.rows = {model.name: [self._row(model, one) for one in self.measurements] for model in self.models}
        self.work = Work([*self.trainings.values(), *(row for rows in self.rows.values() for row in rows)], self.log)
        self.outcome = ReproductionOutcome()
        self.hashes: dict[str, str | None] = {}
        require_writable(self.results_dir / "settings.json")

    def run(self) -> dict[str, Path]:
        """Do every row that is left and write the table.

        Returns:
            The paths of the table's files by name.

        Raises:
            ValueError: if there is no standard model, or if a row failed; the table has the others.
        """
        if not self.runs.is_trained_here(self.runs.standard):
            self.training.require(self.runs.standard)
        with self.log as log:
            log.say(f"{self.runs.setting.title} ({self.runs.setting.bundle}): {self.runs.output}")
            log.say(f"bundle: cd {self.runs.bundle}")
            write_json(self.results_dir / "settings.json", self.facts)
            for name in self.rows:
                self._measure(name)
            files = write_outcome(self.outcome, self.runs, log.commands, self.datalist)
        for name, path in files.items():
            log.say(f"{name}: {path}")
        self._require_all(files)
        return files

    def _require_all(self, files: dict[str, Path]) -> None:
        """Refuse to end well if a row is missing."""
        failures = self.outcome.failures
        if failures:
            total = len(self.models) * len(self.measurements)
            sentences = " / ".join(dict.fromkeys(failures.values()))
            failed = f"{len(failures)} failures of {total}, listed in {files['html']}"
            raise ValueError(f"rows must all be measured, got {failed}: {sentences}")

    def _measure(self, name: str) -> None:
        """Provide a model and run its rows; without it they have failed."""
        training = self.trainings.get(name)
        origin = ModelOrigin(words="given") if training is None else self.work.do(training)
        if origin is not None:
            self.outcome.origins[name] = origin
        for row in self.rows[name]:
            if origin is None:
                self.work.give_up(row, self.work.failures[name])
            elif (found := self.work.do(row)) is not None:
                self.outcome.results[row.key] = found
            if row.key in self.work.failures:
                self.outcome.failures[row.key] = self.work.failures[row.key]

    def _row(self, model: Model, measurement: Measurement) -> Item[Result]:
        """Return the work that measures a row."""
        run = self.runs.evaluation(model, measurement, self.results_dir)
        path, steps = self.results_dir / model.name / f"{measurement.name}.json", measurement.gradients

        def find() -> Result | None:
            self.log.announce(run)
            found = whole_or_aside(path, self._load, self.log.detail)
            return found if found is not None and self._is_done(found, run, model.file) else None

        def make() -> Result:
            self.log.run(self.runs.absolute(run), "validate#evaluator")
            return self._load(path)

        return Item(
            key=(model.name, measurement.name),
            kind="row",
            cost=1 + GRADIENT_COST * (int(run.overrides["attack_steps"]) if steps > 1 else steps),
            find=find,
            make=make,
            told=lambda found, left: (
                f"  {model.title}, {measurement.title}: {self._told(model, measurement, found)}; {left}"
            ),
        )

    def _load(self, path: Path) -> Result:
        return load_result(path, self.results_dir)

    def _is_done(self, found: Result, run: BundleRun, checkpoint: Path) -> bool:
        """Tell whether a result is of this checkpoint, attack, data and these versions."""
        parser, known = self.runs.absolute(run).workflow().parser, versions()
        wanted = json.loads(json.dumps(describe(parser.get_parsed_content("applied_attack"))))
        return (
            found.settings == wanted
            and found.sha256 == sha256(checkpoint)
            and {case.case: dict(case.files) for case in found.cases} == self._files(parser)
            and all(found.versions.get(name) == known[name] for name in PROGRAMS)
        )

    def _files(self, parser: Any) -> dict[str, dict[str, str | None]]:
        """Return the hashes of the files of every case that is measured, as a result has them; a file is read once."""
        found = {}
        for case in parser.get_parsed_content("validate#data"):
            files = listed_files(case, self.hashes)
            found[listed_name(case)] = {kind: hashes[0] for kind, hashes in files.items()}
        return found

    def _told(self, model: Model, measurement: Measurement, found: Result) -> str:
        """Return the DSC and the paper's, if it has one."""
        setting, dice = self.runs.setting, METRICS["dsc"].measure(found)
        row, column = (measurement.key, "dsc") if model.hardening is None else (model.hardening.key, measurement.key)
        paper = paper_row(setting.table, setting.bundle, row).get(column or "")
        beside = "" if paper is None else f" (paper {paper})"
        return f"DSC {'undefined' if dice is None else format(dice, '.2f')}{beside}, {found.seconds:.0f} s"


def _datalist(run: BundleRun) -> Path:
    """Return the list of the cases, which must be there."""
    path = Path(run.workflow().parser.get_parsed_content("datalist"))
    if not path.is_file():
        raise ValueError(
            f"dataset_dir must hold {path.name}, got none in {str(path.parent)!r}; prepare the data first."
        )
    return path

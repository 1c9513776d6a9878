"""The paper's tables measured again: every row that is missing is run, one by one, and the table is written."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from vafa_monai.attacks.describe import describe
from vafa_monai.data.files import file_name, require_writable, set_aside, sha256, write_json
from vafa_monai.paper.outcome import ReproductionOutcome, write_outcome
from vafa_monai.paper.row import METRICS, paper_row
from vafa_monai.paper.run import TRAINING, Model, PaperRuns, PaperTraining, ReproductionSettings
from vafa_monai.paper.setting import Measurement
from vafa_monai.results.provenance import versions
from vafa_monai.results.result import PROGRAMS, Result, load_result
from vafa_monai.runs.bundle_run import BundleRun, digest, run_facts
from vafa_monai.runs.run_log import RunLog, TimeLeft

__all__ = ["Reproduction"]

ROW = "row"
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
        trained = [1.0 for model in self.models if self.runs.is_trained_here(model)]
        costs = [self._cost(one) for one in self.measurements] * len(self.models)
        self.left = TimeLeft({ROW: costs, TRAINING: trained})
        self.training = PaperTraining(runs=self.runs, datalist=self.datalist, log=self.log, left=self.left)
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
            for model in self.models:
                self._measure_model(model)
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

    def _measure_model(self, model: Model) -> None:
        """Provide a model and run its rows."""
        try:
            self.outcome.origins[model.name] = self.training.provide(model)
        except (Exception, SystemExit) as error:
            self._fail(model, self.measurements, error)
            return
        for measurement in self.measurements:
            try:
                self.outcome.results[model.name, measurement.name] = self._measure(model, measurement)
            except (Exception, SystemExit) as error:
                self._fail(model, [measurement], error)

    def _fail(self, model: Model, measurements: Sequence[Measurement], error: BaseException) -> None:
        """Note that rows failed; the next may not."""
        sentence = self.log.fail(error)
        for one in measurements:
            self.outcome.failures[model.name, one.name] = sentence
            self.left.skip(ROW, self._cost(one))

    def _measure(self, model: Model, measurement: Measurement) -> Result:
        """Run one row, unless it is there."""
        run = self.runs.evaluation(model, measurement, self.results_dir)
        self.log.announce(run)
        run = self.runs.absolute(run)
        path = self.results_dir / model.name / f"{measurement.name}.json"
        if self._is_done(path, run, model.file):
            self.log.say("  done before")
            self.left.skip(ROW, self._cost(measurement))
            return load_result(path, self.results_dir)
        start = time.monotonic()
        self.log.run(run, "validate#evaluator")
        self.left.done(ROW, self._cost(measurement), time.monotonic() - start)
        found = load_result(path, self.results_dir)
        self.log.say(f"  {model.title}, {measurement.title}: {self._told(model, measurement, found)}; {self.left}")
        return found

    def _is_done(self, path: Path, run: BundleRun, checkpoint: Path) -> bool:
        """Tell whether a result is there that is whole and of this checkpoint, attack, data and these versions."""
        if not path.is_file():
            return False
        try:
            found = load_result(path, self.results_dir)
        except ValueError as error:
            self.log.say(f"  set aside: {set_aside(path)}, to be made again ({error})")
            return False
        parser, known = run.workflow().parser, versions()
        wanted = json.loads(json.dumps(describe(parser.get_parsed_content("applied_attack"))))
        return (
            found.settings == wanted
            and found.sha256 == sha256(checkpoint)
            and {case.case: dict(case.files) for case in found.cases} == self._files(parser)
            and all(found.versions.get(name) == known[name] for name in PROGRAMS)
        )

    def _files(self, parser: Any) -> dict[str, dict[str, str | None]]:
        """Return the hashes of the files of every case that is measured; a file is read once."""
        found = {}
        for case in parser.get_parsed_content("validate#data"):
            paths = {kind: str(ensure_tuple(case[kind])[0]) for kind in ("image", "label")}  # as a result has them
            for path in set(paths.values()) - self.hashes.keys():
                self.hashes[path] = sha256(path) if Path(path).is_file() else None
            found[file_name(paths["image"])] = {kind: self.hashes[path] for kind, path in paths.items()}
        return found

    def _cost(self, measurement: Measurement) -> float:
        """Return the cost of a row in forward passes."""
        run = self.runs.evaluation(self.runs.standard, measurement, self.results_dir)
        steps = measurement.gradients
        return 1 + GRADIENT_COST * (int(run.overrides["attack_steps"]) if steps > 1 else steps)

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

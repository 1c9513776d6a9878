"""A run over a whole dataset, several attacks and checkpoints: it can be killed, continued, and shared by processes."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from vafa_monai.data.check import first_cases
from vafa_monai.data.files import require_writable, set_aside, whole_file, write_json
from vafa_monai.data.weights import check_checkpoint
from vafa_monai.reports.build import build_report
from vafa_monai.results.attack_name import attack_title
from vafa_monai.results.provenance import merge_results
from vafa_monai.results.result import Result, conflict, load_result
from vafa_monai.runs.benchmark_plan import BenchmarkCase, BenchmarkRecords, expected_bytes, plan_items
from vafa_monai.runs.bundle_model import BundleModel
from vafa_monai.runs.bundle_run import PLACES
from vafa_monai.runs.override import refuse_taken
from vafa_monai.runs.run_log import RunLog
from vafa_monai.runs.work import Processes, Work, WorkOutcome

__all__ = ["Benchmark"]

OWN = (*PLACES, "attack_name", "val_batch_size", "cache_rate")


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Evaluate checkpoints of a bundle under attacks, case by case, each case once for its content.

    A record is named by a hash of image, label, weights, attack, configs and versions. What has one is not evaluated
    again, so a killed run continues, and a changed file is evaluated anew; a record that is damaged is set aside and
    made again. Under ``torchrun`` every process takes each n-th item; the results are those of one process. A case that
    fails is listed, and does not affect the others. Results of other weights, data or versions there are set aside.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        attacks: names of the attacks, of ``configs/attacks``.
        checkpoints: files of the weights, relative to the bundle.
        output: folder of records, results and report; by default ``eval/benchmark`` of the bundle.
        overrides: config ids and values, for every run.
        more: further runs whose records are made in the same way, and which are in no report.
        title: title of the report.
        report: ``False`` writes results alone.
        say: told of every step, line by line.

    Raises:
        ValueError: if a checkpoint, an attack or the bundle is not there, two checkpoints have one label, two images
            have one name, the output cannot be written, or the disk is too small.
    """

    bundle: Path
    dataset_dir: Path
    attacks: Sequence[str] = ("identity", "pgd")
    checkpoints: Sequence[str] = ("models/model.pt",)
    output: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    more: Sequence[BundleModel] = ()
    title: str = "Adversarial robustness"
    report: bool = True
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is not there, before anything runs."""
        for name, values in (("attacks", self.attacks), ("checkpoints", self.checkpoints)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be at least one, all different, got {list(values)!r}.")
        refuse_taken(self.overrides, OWN)
        first_cases([], self.overrides.get("num_cases"))
        labels = [setting.model.casefold() for setting in self.settings()[:: len(self.attacks)]]
        if len(set(labels)) < len(labels):
            raise ValueError(f"checkpoints must have file names that differ, got {list(self.checkpoints)!r}.")
        for setting in self.settings():
            if not setting.checkpoint.is_file():
                raise ValueError(f"checkpoints must be existing files, got {str(setting.checkpoint)!r}.")
            _ = setting.run  # an overlay that is not there

    @property
    def folder(self) -> Path:
        """The folder of records, results and report."""
        return (
            Path(self.bundle).resolve() / "eval" / "benchmark" if self.output is None else Path(self.output).resolve()
        )

    def settings(self) -> list[BundleModel]:
        """Return every checkpoint under every attack."""
        root = Path(self.bundle).resolve()
        overrides = {**self.overrides, "dataset_dir": str(Path(self.dataset_dir).resolve())}
        return [
            BundleModel(bundle=root, checkpoint=root / name, attack=attack, overrides=overrides)
            for name in self.checkpoints
            for attack in self.attacks
        ]

    def run(self, group: Processes | None = None) -> WorkOutcome:
        """Do what is left, then merge the records into results, and write the report.

        Args:
            group: the processes that share the work; by default those that ``torchrun`` started.

        Returns:
            The files of the report and what failed; in all processes but the first only that.
        """
        group = Processes.launched(self.say) if group is None else group
        for name in ("records/record.json", "results/model/attack.json", "failures.json"):
            require_writable(self.folder / name)
        settings = self.settings()
        for setting in settings[:: len(self.attacks)]:
            check_checkpoint(setting.checkpoint, setting.get("network_def"))
            setting.forget()
        items, records = plan_items([*settings, *self.more]), BenchmarkRecords(self.folder)
        if group.rank == 0:
            records.sweep(items, self.say)
        group.meet("begin", begins=True)
        self._announce(items, records, group)
        self._work(items[group.rank :: group.ranks], records, group)
        group.meet("end")
        if group.rank != 0:
            return WorkOutcome()
        records.sweep(items, self.say)
        self._work(records.missing(items), records, Processes())
        own = [item for item in items if not any(item.setting is one for one in self.more)]
        more = [self._merged([item for item in items if item.setting is one], records) for one in self.more]
        failures = records.failures(items)
        write_json(self.folder / "failures.json", failures)
        files = self._merge(own, records, records.failures(own))
        return WorkOutcome(files=files, failures=failures, more=more)

    def _announce(self, items: Sequence[BenchmarkCase], records: BenchmarkRecords, group: Processes) -> None:
        """Say what there is to do and how much disk it takes; refuse if there is too little."""
        left = [item for item in items if not records.is_done(item)]
        needed = expected_bytes(left)
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if group.rank == 0:
            shared = f" in {group.ranks} processes" if group.ranks > 1 else ""
            self.say(
                f"{len(items)} cases under attack, {len(items) - len(left)} done already, {len(left)} to do{shared}"
            )
            self.say(f"disk: about {needed / 1e6:.0f} MB of {free / 1e6:.0f} MB that are free, in {self.folder}")
        if needed > free:
            raise ValueError(f"output must have {needed} bytes of free disk, got {free} in {str(self.folder)!r}.")

    def _work(self, cases: Sequence[BenchmarkCase], records: BenchmarkRecords, group: Processes) -> None:
        """Make the records that are missing; what the engines print goes to a file."""
        left = [case for case in cases if not records.is_done(case)]
        prefix = f"process {group.rank}: " if group.ranks > 1 else ""
        with RunLog(self.folder / f"benchmark.{group.rank}.log", self.say) as log:
            places = [f"{prefix}[{number}/{len(left)}]" for number in range(1, len(left) + 1)]
            items = [records.item(case, log, place) for case, place in zip(left, places, strict=True)]
            work = Work(items, log)
            for number, item in enumerate(items):
                work.do(item)
                if number + 1 == len(left) or left[number + 1].setting is not left[number].setting:
                    left[number].setting.forget()  # one network in memory at a time

    def _merge(
        self, items: Sequence[BenchmarkCase], records: BenchmarkRecords, failures: Sequence[Mapping[str, Any]]
    ) -> dict[str, Path]:
        """Write the results of all settings and the report."""
        results, warnings, own = self.folder / "results", [], []
        for setting, group in groupby(items, key=lambda item: item.setting):
            done = [item for item in group if records.is_done(item)]
            failed = [one for one in failures if (one["model"], one["attack"]) == (setting.model, setting.attack)]
            path = results / setting.model / f"{setting.attack}.json"
            if done:
                _write_result(path, done, records, failed)
                own.append(path)
            else:  # what lies there is of other content
                path.unlink(missing_ok=True)
                about = f"{attack_title(setting.attack)} failed on {setting.model} on all {len(failed)} cases"
                warnings.append(f"{about}: {failed[0]['error']}")
        if own:
            self._set_aside_outdated(results, own)
        if not own or not self.report:
            return {}
        return dict(build_report(results, self.folder, title=self.title, warnings=warnings))

    @staticmethod
    def _merged(items: Sequence[BenchmarkCase], records: BenchmarkRecords) -> dict[str, Any] | None:
        """Return the result of one setting as a document without slices."""
        done = [records.read(item) for item in items if records.is_done(item)]
        return merge_results(done, None) if done else None

    def _set_aside_outdated(self, results: Path, own: Sequence[Path]) -> None:
        """Set aside the results of earlier calls that are damaged, or of other weights, data or versions than ours."""
        ours = [load_result(path, results) for path in own]
        for path in sorted(set(results.glob("*/[!.]*.json")) - set(own)):
            reason = _outdated(path, results, ours)
            if reason is not None:
                self.say(f"set aside: {set_aside(path, 'outdated')}, {reason}")


def _outdated(path: Path, root: Path, ours: Sequence[Result]) -> str | None:
    """Say why a result of an earlier call cannot stand beside those of this one, or return ``None``."""
    if path.name == "audit.json":
        return None
    try:
        found = load_result(path, root)
    except ValueError as error:
        return str(error)
    reasons = [reason for one in ours if one.model == found.model and (reason := conflict(one, found)) is not None]
    return f"of other {reasons[0]}" if reasons else None


def _write_result(
    path: Path, items: Sequence[BenchmarkCase], records: BenchmarkRecords, failed: Sequence[Mapping[str, Any]]
) -> None:
    """Write the result of one setting, with slice and volume of its first case, and what failed."""
    slices = path.with_suffix(".npz")
    path.unlink(missing_ok=True)  # an older one, so that a kill never leaves it beside the slices of this
    with whole_file(slices) as beside:
        shutil.copyfile(records.path(items[0]).with_suffix(".npz"), beside)
    merged = merge_results([records.read(item) for item in items], slices.name)
    told = [{name: one[name] for name in ("case", "error")} for one in failed]
    write_json(path, {**merged, **({"failed": told} if told else {})})

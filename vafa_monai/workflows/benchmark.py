"""A run over a whole dataset, several attacks and checkpoints: it can be killed, continued, and shared by processes."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from vafa_monai.data import check_checkpoint, whole_file, write_json
from vafa_monai.handlers.result_summary import merge_results
from vafa_monai.reports import build_report
from vafa_monai.workflows.benchmark_plan import Item, Setting, expected_bytes, plan_items
from vafa_monai.workflows.benchmark_record import Records
from vafa_monai.workflows.override import refuse_taken
from vafa_monai.workflows.time_left import TimeLeft

__all__ = ["Benchmark", "BenchmarkOutcome"]

OWN = (
    "attack_name",
    "ckpt_dir",
    "ckpt_path",
    "model_file",
    "model_name",
    "results_dir",
    "val_batch_size",
    "cache_rate",
)
PATIENCE = timedelta(days=30)  # the first process waits for the others as long as they take


@dataclass(frozen=True)
class BenchmarkOutcome:
    """What a run made.

    Args:
        files: files of the report by name; empty in all processes but the first, and without any result.
        failures: what failed, each with model, attack, case and error.
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    failures: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Evaluate checkpoints of a bundle under attacks, case by case, each case once for its content.

    A record is named by a hash of image, label, weights, attack, configs and versions. What has one is not evaluated
    again, so a killed run continues, and a changed file is evaluated anew. Under ``torchrun`` every process takes each
    n-th item; the results are those of one process. A case that fails is listed, and costs the others nothing.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        attacks: names of the attacks, of ``configs/attacks``.
        checkpoints: files of the weights, relative to the bundle.
        output: folder of records, results and report; by default ``eval/benchmark`` of the bundle.
        overrides: config ids and values, for every run.
        title: title of the report.
        say: told of every step, line by line.

    Raises:
        ValueError: if a checkpoint, an attack or the bundle is not there, or the disk is too small.
    """

    bundle: Path
    dataset_dir: Path
    attacks: Sequence[str] = ("identity", "pgd")
    checkpoints: Sequence[str] = ("models/model.pt",)
    output: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    title: str = "Adversarial robustness"
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse what is not there, before anything runs."""
        for name, values in (("attacks", self.attacks), ("checkpoints", self.checkpoints)):
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name} must be at least one, all different, got {list(values)!r}.")
        refuse_taken(self.overrides, OWN)
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

    def settings(self) -> list[Setting]:
        """Return every checkpoint under every attack."""
        root = Path(self.bundle).resolve()
        overrides = {**self.overrides, "dataset_dir": str(Path(self.dataset_dir).resolve())}
        return [
            Setting(bundle=root, checkpoint=root / name, attack=attack, overrides=overrides)
            for name in self.checkpoints
            for attack in self.attacks
        ]

    def run(self) -> BenchmarkOutcome:
        """Do what is left, then merge the records into results, and write the report.

        Returns:
            The files of the report and what failed; in all processes but the first only that.
        """
        rank, ranks = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        settings = self.settings()
        for setting in settings[:: len(self.attacks)]:
            check_checkpoint(setting.checkpoint, setting.get("network_def"))
            setting.forget()
        items, records = plan_items(settings), Records(self.folder)
        self._announce(items, records, rank, ranks)
        self._work(items[rank::ranks], records, rank, ranks)
        _wait_for_all(ranks)
        failures = records.failures(items)
        return BenchmarkOutcome(self._merge(items, records, failures), failures) if rank == 0 else BenchmarkOutcome()

    def _announce(self, items: Sequence[Item], records: Records, rank: int, ranks: int) -> None:
        """Say what there is to do and how much disk it takes; refuse if there is too little."""
        left = [item for item in items if not records.is_done(item)]
        needed = expected_bytes(left)
        self.folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.folder).free
        if rank == 0:
            shared = f" in {ranks} processes" if ranks > 1 else ""
            self.say(
                f"{len(items)} cases under attack, {len(items) - len(left)} done already, {len(left)} to do{shared}"
            )
            self.say(f"disk: about {needed / 1e6:.0f} MB of {free / 1e6:.0f} MB that are free, in {self.folder}")
        if needed > free:
            raise ValueError(f"output must have {needed} bytes of free disk, got {free} in {str(self.folder)!r}.")

    def _work(self, items: Sequence[Item], records: Records, rank: int, ranks: int) -> None:
        """Make the records that are missing; what the engines print goes to a file."""
        left = [item for item in items if not records.is_done(item)]
        time_left = TimeLeft({one.setting.attack: [1.0] * self._count(left, one) for one in left})
        with (self.folder / f"benchmark.{rank}.log").open("a", encoding="utf-8") as log:
            for number, item in enumerate(left, start=1):
                start = time.perf_counter()
                with redirect_stdout(log), redirect_stderr(log):
                    dice = records.make(item)
                if number == len(left) or left[number].setting is not item.setting:
                    item.setting.forget()  # one network in memory at a time
                time_left.done(item.setting.attack, 1.0, time.perf_counter() - start)
                told = "failed" if dice is None else f"DSC {dice:.4f}"
                about = f"{item.setting.model}, {item.setting.attack}, {item.name}: {told}"
                prefix = f"process {rank}: " if ranks > 1 else ""
                self.say(f"{prefix}[{number}/{len(left)}] {about} ({time_left})")

    @staticmethod
    def _count(items: Sequence[Item], like: Item) -> int:
        """Return the number of items of the same attack."""
        return sum(item.setting.attack == like.setting.attack for item in items)

    def _merge(self, items: Sequence[Item], records: Records, failures: Sequence[Mapping[str, Any]]) -> dict[str, Path]:
        """Write the results of all settings, the list of failures, and the report."""
        results = self.folder / "results"
        for setting, group in groupby(items, key=lambda item: item.setting):
            done = [item for item in group if records.is_done(item)]
            path = results / setting.model / f"{setting.attack}.json"
            if done:
                _write_result(path, done, records)
            else:  # what lies there is of other content
                path.unlink(missing_ok=True)
        write_json(self.folder / "failures.json", list(failures))
        return dict(build_report(results, self.folder, title=self.title)) if any(results.glob("*/*.json")) else {}


def _write_result(path: Path, items: Sequence[Item], records: Records) -> None:
    """Write the result of one setting, with slice and volume of its first case."""
    slices = path.with_suffix(".npz")
    with whole_file(slices) as beside:
        shutil.copyfile(records.path(items[0]).with_suffix(".npz"), beside)
    write_json(path, merge_results([records.read(item) for item in items], slices.name))


def _wait_for_all(ranks: int) -> None:
    """Wait until every process has done its items; they are no group before, so that no metric gathers across them."""
    if ranks > 1:
        torch.distributed.init_process_group("gloo", timeout=PATIENCE)
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()

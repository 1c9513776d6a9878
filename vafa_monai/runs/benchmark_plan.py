"""What a run over a whole dataset consists of: one item for each case, attack and checkpoint, known by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.utils import set_determinism

from vafa_monai.attacks.describe import describe
from vafa_monai.data.check import check_cases
from vafa_monai.data.files import file_name, read_json, sha256, write_json
from vafa_monai.handlers.robustness_report import RobustnessReport
from vafa_monai.results.document import parse
from vafa_monai.results.provenance import versions
from vafa_monai.results.record import BenchmarkFailure, BenchmarkRecord
from vafa_monai.runs.bundle_run import PLACES_AND_MEANS, BundleRun, digest
from vafa_monai.runs.run_log import RunLog
from vafa_monai.runs.work import Item, TimeLeft, whole_or_aside

__all__ = ["BenchmarkCase", "BenchmarkRecords", "BenchmarkRun", "expected_bytes", "plan_items"]

RECORD_BYTES = 4096  # a record beside its volume
SMALL_VOLUME = 96 * 96 * 48 * 4  # bytes of the volume that a result keeps, at most
SLICE = 512 * 512 * 10  # and of the slice, of a large image: two images and two masks


@dataclass(frozen=True, kw_only=True)
class BenchmarkRun:
    """One checkpoint under one attack; the configs are parsed once for all cases.

    Args:
        bundle: folder of the bundle.
        checkpoint: file of the weights.
        attack: name of the overlay.
        overrides: config ids and values, ``dataset_dir`` among them.
    """

    bundle: Path
    checkpoint: Path
    attack: str
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The label of the model."""
        return self.checkpoint.stem

    @cached_property
    def run(self) -> BundleRun:
        """The chain of configs.

        Raises:
            ValueError: if the bundle or the overlay is not there.
        """
        places = {"ckpt_path": str(self.checkpoint), "val_batch_size": 1, "cache_rate": 0.0}  # one case at a time
        overlays = ["evaluate", f"attacks/{self.attack}"]
        return BundleRun(bundle=self.bundle, overlays=overlays, overrides={**self.overrides, **places})

    @cached_property
    def parser(self) -> ConfigParser:
        """The parsed configs."""
        return self.run.workflow().parser

    def get(self, name: str) -> Any:
        """Return what a config id stands for."""
        return self.parser.get_parsed_content(name)

    def forget(self) -> None:
        """Let go of the parsed configs and the network in them; they are parsed again when they are asked for."""
        self.__dict__.pop("parser", None)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What decides the result of a case beside its files: weights, attack, configs, versions."""
        told = {name: str(self.overrides[name]) for name in sorted(set(self.overrides) - set(PLACES_AND_MEANS))}
        contents = {path: read_json(self.bundle / path, "config") for path in self.run.configs}
        return {
            "checkpoint": sha256(self.checkpoint),
            "model": self.model,
            "attack": describe(self.get("applied_attack")),
            "seed": self.get("seed"),
            "configs": {path: digest(content) for path, content in contents.items()},
            "overrides": told,
            "versions": versions(),
        }


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """One case under one setting.

    Args:
        setting: checkpoint and attack.
        case: paths of image and label.
        files: hashes of both.
    """

    setting: BenchmarkRun
    case: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the case."""
        return file_name(_paths(self.case["image"])[0])

    def about(self, error: str) -> dict[str, str]:
        """Return what is told of the item if it failed."""
        return {"model": self.setting.model, "attack": self.setting.attack, "case": self.name, "error": error}

    @cached_property
    def key(self) -> str:
        """The hash of all that decides the result."""
        content = {**self.setting.facts, "case": self.name, "files": dict(self.files)}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def plan_items(settings: Sequence[BenchmarkRun]) -> list[BenchmarkCase]:
    """Return all items, setting by setting, in the order of the list of cases; files are hashed once.

    Raises:
        ValueError: if two cases have images of one name, whose results could not be told apart.
    """
    hashes: dict[str, str] = {}
    items = []
    for setting in settings:
        for case in setting.get("validate#data"):
            files = {name: _hash(case[name], hashes) for name in ("image", "label")}
            items.append(BenchmarkCase(setting=setting, case=case, files=files))
        _require_different(items[-len(setting.get("validate#data")) :])
    return items


def _require_different(items: Sequence[BenchmarkCase]) -> None:
    """Refuse cases of one name."""
    names = [item.name.casefold() for item in items]
    twice = [item.name for item, name in zip(items, names, strict=True) if names.count(name) > 1]
    if twice:
        raise ValueError(f"images must have file names that differ, got {twice[0]!r} {len(twice)} times.")


def _paths(value: Any) -> list[str]:
    """Return the path or paths of a volume."""
    return [str(one) for one in value] if isinstance(value, (list, tuple)) else [str(value)]


def _hash(value: Any, known: dict[str, str]) -> str:
    """Return the hash of the file or files, or a word where one is missing; the case is then a failure of its own."""
    for path in _paths(value):
        if path not in known:
            known[path] = sha256(path) if Path(path).is_file() else "missing"
    return " ".join(known[path] for path in _paths(value))


def expected_bytes(items: Sequence[BenchmarkCase]) -> int:
    """Return how much disk the records of items and their merged results take, uncompressed."""
    return 2 * len(items) * (RECORD_BYTES + SMALL_VOLUME + SLICE)


class BenchmarkRecords:
    """The folder of records and failures, one file each, named by the content that decided it.

    Args:
        folder: the folder; files of other contents are left alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, item: BenchmarkCase) -> Path:
        """Return where the record of an item is."""
        return self.folder / "records" / f"{item.key}.json"

    def failure_path(self, item: BenchmarkCase) -> Path:
        """Return where it is said why an item failed."""
        return self.folder / "failures" / f"{item.key}.json"

    def is_done(self, item: BenchmarkCase) -> bool:
        """Tell whether an item has its record."""
        return self.path(item).is_file()

    def read(self, item: BenchmarkCase) -> dict[str, Any]:
        """Return the record of an item."""
        document: dict[str, Any] = read_json(self.path(item), "record")
        return document

    def sweep(self, items: Sequence[BenchmarkCase], say: Callable[[str], None]) -> None:
        """Set aside every record and failure that is damaged or of another item, and say so; it is made again."""
        for item in items:
            whole_or_aside(self.path(item), partial(self._check, item), say)
            whole_or_aside(self.failure_path(item), self._check_failure, say)

    def missing(self, items: Sequence[BenchmarkCase]) -> list[BenchmarkCase]:
        """Return the items of which nothing is known, neither a record nor a failure."""
        return [item for item in items if not self.is_done(item) and not self.failure_path(item).is_file()]

    def failures(self, items: Sequence[BenchmarkCase]) -> list[dict[str, Any]]:
        """Return what is known of the items that failed, in their order."""
        paths = [self.failure_path(item) for item in items if not self.is_done(item)]
        return [read_json(path, "failure") for path in paths if path.is_file()]

    def item(self, case: BenchmarkCase, log: RunLog, place: str) -> Item[dict[str, Any]]:
        """Return the work of a case, which is not done; its place among the others begins its line."""
        about = f"{place} {case.setting.model}, {case.setting.attack}, {case.name}"

        def failed(sentence: str, left: TimeLeft) -> str:
            case.setting.forget()  # an engine that broke off is not asked again
            write_json(self.failure_path(case), case.about(sentence))
            return f"{about}: failed ({left})"

        return Item(
            key=case.key,
            kind=case.setting.attack,
            make=log.taking()(partial(self.make, case)),
            told=lambda document, left: f"{about}: DSC {_shown(document['summary']['dice'])} ({left})",
            failed=failed,
        )

    def make(self, case: BenchmarkCase) -> dict[str, Any]:
        """Evaluate a case, write its record, and return it."""
        document = self._evaluate(case)
        self.failure_path(case).unlink(missing_ok=True)
        return document

    def _evaluate(self, item: BenchmarkCase) -> dict[str, Any]:
        """Run the evaluator of the bundle on one case; its report is the record."""
        setting = item.setting
        preprocessing = setting.get("validate#preprocessing")
        names = {"num_classes": "num_classes", "value_range": "image_range", "roi_size": "least_size"}
        names["in_channels"] = "image_channels"
        known = {argument: setting.get(name) for argument, name in names.items() if name in setting.parser}
        check_cases([item.case], preprocessing=preprocessing, **known)
        set_determinism(seed=setting.get("seed"))  # so that a case does not depend on those before it
        evaluator = setting.get("validate#evaluator")
        reports = [one for one in setting.get("validate#handlers") if isinstance(one, RobustnessReport)]
        if len(reports) != 1:
            raise ValueError(f"validate#handlers must have one RobustnessReport, got {len(reports)}.")
        reports[0].path = self.path(item)
        evaluator.data_loader = DataLoader(Dataset([dict(item.case)], preprocessing), batch_size=1, num_workers=0)
        evaluator.state.epoch_length = 1
        evaluator.run()
        document = self.read(item)
        try:
            _require_planned(document, item)
        except ValueError:
            self.path(item).unlink()
            raise
        write_json(self.path(item), {**document, "made_of": item.key})
        return document

    @staticmethod
    def _check(item: BenchmarkCase, path: Path) -> None:
        """Refuse a record that is no whole result of this very item."""
        document = read_json(path, "record")
        if document.get("made_of") != item.key:
            raise ValueError(f"made_of must be {item.key[:12]}, got {document.get('made_of')!r}")
        (case,) = parse(BenchmarkRecord, document, path.name).cases
        if case.case != item.name:
            raise ValueError(f"case must be {item.name!r}, got {case.case!r}")
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            for name in arrays.files:
                _ = arrays[name]

    @staticmethod
    def _check_failure(path: Path) -> None:
        """Refuse a failure that does not tell what failed."""
        parse(BenchmarkFailure, read_json(path, "failure"), path.name)


def _shown(dice: float | None) -> str:
    """Return a DSC, which a case without organs does not have."""
    return "undefined" if dice is None else f"{dice:.4f}"


def _require_planned(document: dict[str, Any], item: BenchmarkCase) -> None:
    """Refuse what was measured of other weights or files than those that the plan found."""
    (case,) = document["cases"]
    files = {name: found for name, found in (case.get("files") or {}).items() if found is not None}
    if document["checkpoint"]["sha256"] != item.setting.facts["checkpoint"]:
        raise ValueError("checkpoint must stay the same during the run, got other weights than at its start.")
    other = [name for name, found in files.items() if item.files[name] != found and " " not in item.files[name]]
    if other:
        raise ValueError(f"files of a case must stay the same during the run, got another {other[0]}.")

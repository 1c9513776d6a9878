"""What a run over a whole dataset consists of: one item for each case, attack and checkpoint, known by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import DataLoader, Dataset
from monai.utils import set_determinism

from vafa_monai.data.files import read_json, write_json
from vafa_monai.handlers.robustness_report import RobustnessReport
from vafa_monai.results.document import parse
from vafa_monai.results.provenance import listed_files, listed_name
from vafa_monai.results.record import BenchmarkFailure, BenchmarkRecord
from vafa_monai.runs.bundle_model import BundleModel
from vafa_monai.runs.run_log import RunLog
from vafa_monai.runs.work import Item, TimeLeft, whole_or_aside

__all__ = ["BenchmarkCase", "BenchmarkRecords", "expected_bytes", "plan_items"]

RECORD_BYTES = 4096  # a record beside its volume
SMALL_VOLUME = 96 * 96 * 48 * 4  # bytes of the volume that a result keeps, at most
SLICE = 512 * 512 * 10  # and of the slice, of a large image: two images and two masks
GONE = "its record disappeared while the others were made"


@dataclass(frozen=True, kw_only=True)
class BenchmarkCase:
    """One case under one setting.

    Args:
        setting: checkpoint and attack.
        case: paths of image and label.
        files: hashes of both.
    """

    setting: BundleModel
    case: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def name(self) -> str:
        """The name of the case."""
        return listed_name(self.case)

    def about(self, error: str) -> dict[str, str]:
        """Return what is told of the item if it failed."""
        return {"model": self.setting.model, "attack": self.setting.attack, "case": self.name, "error": error}

    @cached_property
    def key(self) -> str:
        """The hash of all that decides the result."""
        content = {**self.setting.facts, "case": self.name, "files": dict(self.files)}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def plan_items(settings: Sequence[BundleModel]) -> list[BenchmarkCase]:
    """Return all items, setting by setting, in the order of the list of cases; files are hashed once.

    Raises:
        ValueError: if two cases have images of one name, whose results could not be told apart.
    """
    hashes: dict[str, str | None] = {}
    items = []
    for setting in settings:
        for case in setting.get("validate#data"):
            listed = listed_files(case, hashes)
            files = {name: " ".join(one or "missing" for one in several) for name, several in listed.items()}
            items.append(BenchmarkCase(setting=setting, case=case, files=files))
        _require_different(items[-len(setting.get("validate#data")) :])
    return items


def _require_different(items: Sequence[BenchmarkCase]) -> None:
    """Refuse cases of one name."""
    names = [item.name.casefold() for item in items]
    twice = [item.name for item, name in zip(items, names, strict=True) if names.count(name) > 1]
    if twice:
        raise ValueError(f"images must have file names that differ, got {twice[0]!r} {len(twice)} times.")


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
        """Return what is known of the items that have no record, in their order."""
        left = [(item, self.failure_path(item)) for item in items if not self.is_done(item)]
        return [read_json(path, "failure") if path.is_file() else item.about(GONE) for item, path in left]

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
            make=log.taking()(partial(self._make, case)),
            told=lambda document, left: f"{about}: DSC {_shown(document['summary']['dice'])} ({left})",
            failed=failed,
        )

    def _make(self, item: BenchmarkCase) -> dict[str, Any]:
        """Run the evaluator of the bundle on one case; its report is the record."""
        setting = item.setting
        setting.check([item.case])
        set_determinism(seed=setting.get("seed"))  # so that a case does not depend on those before it
        evaluator = setting.get("validate#evaluator")
        reports = [one for one in setting.get("validate#handlers") if isinstance(one, RobustnessReport)]
        if len(reports) != 1:
            raise ValueError(f"validate#handlers must have one RobustnessReport, got {len(reports)}.")
        reports[0].path = self.path(item)
        data = Dataset([dict(item.case)], setting.get("validate#preprocessing"))
        evaluator.data_loader = DataLoader(data, batch_size=1, num_workers=0)
        evaluator.state.epoch_length = 1
        evaluator.run()
        document = self.read(item)
        try:
            _require_planned(document, item)
        except ValueError:
            self.path(item).unlink()
            raise
        write_json(self.path(item), {**document, "made_of": item.key})
        self.failure_path(item).unlink(missing_ok=True)
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
    """Return a DSC, which a case without organs does not have.

    Example:
        >>> _shown(0.5), _shown(None)
        ('0.5000', 'undefined')
    """
    return "undefined" if dice is None else f"{dice:.4f}"


def _require_planned(document: dict[str, Any], item: BenchmarkCase) -> None:
    """Refuse what was measured of other weights or files than those that the plan found."""
    (case,) = document["cases"]
    files = {name: found for name, found in (case.get("files") or {}).items() if found is not None}
    if document["checkpoint"]["sha256"] != item.setting.facts["checkpoint"]:
        raise ValueError("checkpoint changed during the run: its weights are others than at the start.")
    other = [name for name, found in files.items() if item.files[name] != found and " " not in item.files[name]]
    if other:
        raise ValueError(f"a file of a case changed during the run: {other[0]}.")

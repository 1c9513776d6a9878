"""The record of one case: its result by the stock evaluator, or the sentence of what went wrong."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.data import DataLoader, Dataset
from monai.utils import set_determinism

from vafa_monai.data import check_cases, read_json, write_json
from vafa_monai.data.files import set_aside
from vafa_monai.handlers import RobustnessReport
from vafa_monai.reports.result import parse_result
from vafa_monai.workflows.benchmark_plan import Item
from vafa_monai.workflows.run_log import sentence_of

__all__ = ["Records"]

logger = logging.getLogger(__name__)
EXPECTED = (ValueError, TypeError, RuntimeError, OSError, ArithmeticError, LookupError)


class Records:
    """The folder of records and failures, one file each, named by the content that decided it.

    Args:
        folder: the folder; files of other contents are left alone.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, item: Item) -> Path:
        """Return where the record of an item is."""
        return self.folder / "records" / f"{item.key}.json"

    def failure_path(self, item: Item) -> Path:
        """Return where it is said why an item failed."""
        return self.folder / "failures" / f"{item.key}.json"

    def is_done(self, item: Item) -> bool:
        """Tell whether an item has its record."""
        return self.path(item).is_file()

    def read(self, item: Item) -> dict[str, Any]:
        """Return the record of an item."""
        document: dict[str, Any] = read_json(self.path(item), "record")
        return document

    def sweep(self, items: Sequence[Item]) -> Iterator[str]:
        """Set aside every record and failure that is damaged or of another item, and say so; it is made again."""
        for item in items:
            for path, check in ((self.path(item), self._check), (self.failure_path(item), self._check_failure)):
                try:
                    if path.is_file():
                        check(item)
                except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
                    yield f"set aside: {set_aside(path)}, to be made again ({error})"

    def missing(self, items: Sequence[Item]) -> list[Item]:
        """Return the items of which nothing is known, neither a record nor a failure."""
        return [item for item in items if not self.is_done(item) and not self.failure_path(item).is_file()]

    def failures(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """Return what is known of the items that failed, in their order."""
        paths = [self.failure_path(item) for item in items if not self.is_done(item)]
        return [read_json(path, "failure") for path in paths if path.is_file()]

    def make(self, item: Item) -> float | None:
        """Evaluate an item and write its record, or its failure.

        Returns:
            The mean foreground DSC; nothing if the item failed.
        """
        try:
            document = self._evaluate(item)
        except EXPECTED as error:
            logger.error("%s failed", item.name, exc_info=error)
            item.setting.forget()  # an engine that broke off is not asked again
            write_json(
                self.failure_path(item), item.about(str(error) if isinstance(error, ValueError) else sentence_of(error))
            )
            return None
        self.failure_path(item).unlink(missing_ok=True)
        found: float | None = document["summary"]["dice"]
        return found

    def _evaluate(self, item: Item) -> dict[str, Any]:
        """Run the evaluator of the bundle on one case; its report is the record."""
        setting = item.setting
        preprocessing = setting.get("validate#preprocessing")
        names = {"num_classes": "num_classes", "value_range": "image_range", "roi_size": "least_size"}
        check_cases([item.case], preprocessing=preprocessing, **{key: setting.get(name) for key, name in names.items()})
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

    def _check(self, item: Item) -> None:
        """Refuse a record that is no whole result of this very item."""
        document = self.read(item)
        if document.get("made_of") != item.key:
            raise ValueError(f"made_of must be {item.key[:12]}, got {document.get('made_of')!r}")
        (case,) = parse_result(document, "record").cases
        if case.case != item.name:
            raise ValueError(f"case must be {item.name!r}, got {case.case!r}")
        with np.load(self.path(item).with_suffix(".npz"), allow_pickle=False) as arrays:
            for name in arrays.files:
                _ = arrays[name]

    def _check_failure(self, item: Item) -> None:
        """Refuse a failure that does not tell what failed."""
        document = read_json(self.failure_path(item), "failure")
        if not all(isinstance(document.get(name), str) for name in item.about("")):
            raise ValueError(f"failure must have model, attack, case and error, got {sorted(document)}")


def _require_planned(document: dict[str, Any], item: Item) -> None:
    """Refuse what was measured of other weights or files than those that the plan found."""
    (case,) = document["cases"]
    files = {name: found for name, found in (case.get("files") or {}).items() if found is not None}
    if document["checkpoint"]["sha256"] != item.setting.facts["checkpoint"]:
        raise ValueError("checkpoint must stay the same during the run, got other weights than at its start.")
    other = [name for name, found in files.items() if item.files[name] != found and " " not in item.files[name]]
    if other:
        raise ValueError(f"files of a case must stay the same during the run, got another {other[0]}.")

"""The record of one case: its result by the stock evaluator, or the sentence of what went wrong."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from monai.data import DataLoader, Dataset
from monai.utils import set_determinism

from vafa_monai.data import check_cases, write_json
from vafa_monai.handlers import RobustnessReport
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
        document: dict[str, Any] = json.loads(self.path(item).read_text(encoding="utf-8"))
        return document

    def failures(self, items: list[Item]) -> list[dict[str, Any]]:
        """Return what is known of the items that failed, in their order."""
        paths = [self.failure_path(item) for item in items if not self.is_done(item)]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]

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
            about = {"model": item.setting.model, "attack": item.setting.attack, "case": item.name}
            reason = str(error) if isinstance(error, ValueError) else sentence_of(error)
            write_json(self.failure_path(item), {**about, "error": reason})
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
        return self.read(item)

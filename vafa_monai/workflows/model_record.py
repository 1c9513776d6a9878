"""A record beside a trained model: what made it, so that it is trained once and never taken for another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai.utils import StrEnum

from vafa_monai.data import read_json, sha256, write_json
from vafa_monai.data.files import set_aside

__all__ = ["ModelRecord", "ModelState"]

MODEL_SCHEMA = "vafa_monai.model/1"
FINISHED: Mapping[str, Any] = {"sha256": str, "seconds": (int, float)}  # what a finished training has told


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

    def read(self) -> dict[str, Any]:
        """Return the record, empty if there is none.

        Raises:
            ValueError: if it is damaged.
        """
        if not self.path.is_file():
            return {}
        found: dict[str, Any] = read_json(self.path, "record of the model")
        kinds = {"settings": dict, "finished": bool, **(FINISHED if found.get("finished") is True else {})}
        wrong = [name for name, kind in kinds.items() if not isinstance(found.get(name), kind)]
        if found.get("schema") != MODEL_SCHEMA or wrong:
            rule = f"have the schema {MODEL_SCHEMA} and whole {', '.join(wrong or kinds)}"
            raise ValueError(f"record of the model must {rule}, got {str(self.path)!r}.")
        return found

    def sweep(self) -> str | None:
        """Set a damaged record aside and say so; the model is then one without a record."""
        try:
            self.read()
        except ValueError as error:
            return f"set aside: {set_aside(self.path)} ({error})"
        return None

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

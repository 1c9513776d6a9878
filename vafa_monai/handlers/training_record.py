"""What a training is made of and what it has left on disk, so that only the same training ever goes on from it."""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle import ReferenceResolver

from vafa_monai.data.checkpoint import read_checkpoint
from vafa_monai.data.files import read_json, set_aside, sha256, write_json
from vafa_monai.results.document import parse
from vafa_monai.results.provenance import versions
from vafa_monai.results.record import MODEL_TRAINING_SCHEMA, TRAINING_SCHEMA, TrainingState

__all__ = ["TrainingRecord", "running_config", "training_facts"]

logger = logging.getLogger(__name__)
SHOWN = 3  # differences in one sentence
ANEW = "name another model_file, or start anew with --resume False"
PLACES_AND_MEANS = {  # config ids that change where, how fast and how long, not what
    "_meta_",
    "attack_name",
    "attack_role",
    "bundle_root",
    "cache_rate",
    "ckpt_dir",
    "datalist",
    "dataset_dir",
    "device",
    "dist_backend",
    "epochs",
    "finalize",
    "hardening#epochs",
    "imports",
    "model_file",
    "num_workers",
    "output_dir",
    "own_start",
    "pretrained_file",
    "recipe_name",
    "resume",
    "resume_dir",
    "resume_interval",
    "run",
    "train#trainer#max_epochs",
    "training",
}
TELLING = ("StatsHandler", "TensorBoardStatsHandler", "MLFlowHandler")  # handlers that change nothing


def running_config() -> Mapping[str, Any]:
    """Return the config that MONAI is building objects from, with overlays and overrides; empty outside of one.

    A config has no name for itself, and nothing else knows what ``monai.bundle run`` made of files and options.
    """
    frame = inspect.currentframe()
    while frame is not None:
        resolver = frame.f_locals.get("self")
        if isinstance(resolver, ReferenceResolver):
            return resolver.items[""].get_config()
        frame = frame.f_back
    return {}


def training_facts(
    config: Mapping[str, Any],
    train_data: Sequence[Any],
    val_data: Sequence[Any],
    start_file: str | Path | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """Return what makes a training what it is, by name, as JSON; a training that was moved is the same.

    Args:
        config: the whole config; places, devices, workers and the number of epochs in it do not count.
        train_data: training cases; the contents of their files count.
        val_data: validation cases.
        start_file: weights that it starts from, if they are not random.
        processes: how many train together.
    """
    facts: dict[str, Any] = dict(_leaves(config, ""))
    facts["training cases"] = _content(train_data)
    facts["validation cases"] = _content(val_data)
    facts["weights to start from"] = None if start_file is None else sha256(start_file)
    facts["processes"] = processes
    return facts


def _leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield id and value of everything in a config that counts."""
    if place in PLACES_AND_MEANS:
        return
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{place}#{key}" if place else str(key))
    elif isinstance(value, (list, tuple)) and value:
        told = [item for item in value if not (isinstance(item, Mapping) and item.get("_target_") in TELLING)]
        for index, item in enumerate(told):
            yield from _leaves(item, f"{place}#{index}")
    else:
        plain = isinstance(value, (str, int, type(None))) or (isinstance(value, float) and math.isfinite(value))
        text = value.replace("::", "#") if isinstance(value, str) else value  # two ways to write an id
        yield place, text if plain else repr(value)


def _content(data: Any) -> str:
    """Return a hash of cases: files by their content, the rest as it is."""
    return hashlib.sha256(json.dumps(_by_content(data), sort_keys=True, default=repr).encode()).hexdigest()


def _by_content(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _by_content(item) for key, item in data.items()}
    if isinstance(data, (list, tuple)):
        return [_by_content(item) for item in data]
    return sha256(data) if isinstance(data, (str, Path)) and Path(data).is_file() else data


@dataclass(kw_only=True)
class TrainingRecord:
    """The folder that a training goes on from: states after whole epochs, and ``training.json``, which says whose.

    Args:
        folder: the folder.
        model: file of the best model.
        facts: what the training is made of, as JSON, see :func:`training_facts`.
    """

    folder: Path
    model: Path
    facts: Mapping[str, Any]
    run: str = field(init=False)

    def __post_init__(self) -> None:
        """Name the training by a hash."""
        self.run = hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()

    @property
    def path(self) -> Path:
        """The file that says what the folder belongs to."""
        return self.folder / "training.json"

    def begin(self) -> None:
        """Start anew: states go, the model stays until a better one of this training is there."""
        for path in self._state_files():
            path.unlink()
        self._write([_hash_of(self.model)])

    def expect(self, sha: str) -> None:
        """Record the model that is about to replace the one that is there, which a kill may leave in place."""
        self._write([_hash_of(self.model), sha])

    def publish(self, selection: Mapping[str, Any], statement: Mapping[str, Any] | None) -> None:
        """Write beside the model, as ``<model>.training.json``, what made it and what it was selected by.

        Args:
            selection: metric, best validation and all validations.
            statement: what else is to be told.
        """
        content = {
            "schema": MODEL_TRAINING_SCHEMA,
            "model": self.model.name,
            "sha256": _hash_of(self.model),
            "statement": dict(statement or {}),
            "selection": dict(selection),
            "facts": dict(self.facts),
            "versions": versions(),
        }
        write_json(self.model.with_suffix(".training.json"), json.loads(json.dumps(content, default=repr)))

    def find(self) -> dict[str, Any] | None:
        """Return the newest state of this training, or ``None`` if it has to begin.

        A damaged file is named and set aside. Newest is what has had most epochs, whatever names and clocks say.

        Raises:
            ValueError: if the folder belongs to another training, or the model is one that this training did not write,
                which the first epoch would replace.
        """
        found = self._read()
        states = [state for path in self._state_files() if (state := self._state(path)) is not None]
        self._require_same(found, states)
        if not found and not states:
            self._require_no_model()
            self.begin()
            return None
        state = max(states, key=lambda one: one["epoch"], default=None)
        if not self._has_its_model(found, state):
            logger.warning("%s is missing: its training starts anew", self.model)
            self.begin()
            return None
        if not found:  # it was set aside
            self._write([_hash_of(self.model)])
        if found.get("versions", versions()) != versions():
            logger.warning("the training began with other versions: %s", found["versions"])
        return state

    def keep(self, paths: Sequence[Path]) -> None:
        """Remove every state but these, and what killed processes have half written."""
        half = self.folder.glob(".*.checkpoint_epoch=*.pt")
        for path in {*self._state_files(), *half} - set(paths):
            path.unlink()

    def state_path(self, epoch: int) -> Path:
        """Return the file of the state after an epoch."""
        return self.folder / f"checkpoint_epoch={epoch}.pt"

    def _write(self, models: list[str | None]) -> None:
        content = {"schema": TRAINING_SCHEMA, "models": models, "facts": dict(self.facts), "versions": versions()}
        write_json(self.path, content)

    def _read(self) -> Mapping[str, Any]:
        """Return the record, empty if there is none or it had to be set aside."""
        if not self.path.exists():
            return {}
        try:
            found = parse(TrainingState, read_json(self.path, "record of the training"), str(self.path)).document
        except ValueError as error:
            _set_aside(self.path, error)
            return {}
        return found

    def _state(self, path: Path) -> dict[str, Any] | None:
        """Return a state, or nothing if its file had to be set aside."""
        try:
            state = read_checkpoint(path)
            if not isinstance(state, dict) or not isinstance(state.get("trainer"), dict):
                raise ValueError(f"state of a training must have a trainer, got {str(path)!r}.")
        except ValueError as error:
            _set_aside(path, error)
            return None
        return {"epoch": -1, "run": None, **state}

    def _state_files(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint_epoch=*.pt"))

    def _require_same(self, found: Mapping[str, Any], states: Sequence[Mapping[str, Any]]) -> None:
        """Refuse what another training left."""
        theirs, mine = found.get("facts", self.facts), self.facts
        names = [name for name in {**theirs, **mine} if theirs.get(name) != mine.get(name)]
        if not names and all(state["run"] == self.run for state in states):
            return
        what = _differences(names, theirs, mine) or "one that its files do not tell"
        raise ValueError(f"training must be the one that {str(self.folder)!r} belongs to, got another: {what}; {ANEW}.")

    def _require_no_model(self) -> None:
        """Refuse to begin where a model lies that no training in the folder wrote: its first epoch would replace it."""
        if self.model.is_file():
            got = f"{str(self.model)!r}, which is there, and no training of it in {str(self.folder)!r}"
            raise ValueError(f"model must be a new file, got {got}; {ANEW}.")

    def _has_its_model(self, found: Mapping[str, Any], state: Mapping[str, Any] | None) -> bool:
        """Tell whether the model is there, if it has to be.

        Raises:
            ValueError: if it is another one.
        """
        best = (state or {}).get("best") or {}
        current = _hash_of(self.model)
        if current in found.get("models", [best.get("sha256")]):
            return True
        if current is None:
            return False
        got = f"{str(self.model)!r}, which was changed since"
        raise ValueError(f"model must be the one that its training wrote, got {got}; {ANEW}.")


def _differences(names: Sequence[str], theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> str:
    """Say what differs, the first of it with both values."""
    said = [_difference(name, theirs.get(name), mine.get(name)) for name in names[:SHOWN]]
    more = [f"{len(names) - SHOWN} more"] if len(names) > SHOWN else []
    return ", ".join([*said, *more])


def _difference(name: str, theirs: Any, mine: Any) -> str:
    hashes = name in ("training cases", "validation cases", "weights to start from")
    return f"other {name}" if hashes else f"{name} {mine!r} where it was {theirs!r}"


def _hash_of(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _set_aside(path: Path, error: ValueError) -> None:
    """Rename a damaged file, and say so."""
    logger.warning("set aside as %s: %s", set_aside(path), error)

"""What a run over a whole dataset consists of: one item for each case, attack and checkpoint, known by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from vafa_monai.attacks import describe
from vafa_monai.data import read_json, sha256
from vafa_monai.data.files import file_name
from vafa_monai.handlers.provenance import versions
from vafa_monai.workflows.bundle_run import BundleRun
from vafa_monai.workflows.fingerprint import PLACES_AND_MEANS, digest

__all__ = ["Item", "Setting", "expected_bytes", "plan_items"]

RECORD_BYTES = 4096  # a record beside its volume
SMALL_VOLUME = 96 * 96 * 48 * 4  # bytes of the volume that a result keeps, at most
SLICE = 512 * 512 * 10  # and of the slice, of a large image: two images and two masks


@dataclass(frozen=True, kw_only=True)
class Setting:
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
class Item:
    """One case under one setting.

    Args:
        setting: checkpoint and attack.
        case: paths of image and label.
        files: hashes of both.
    """

    setting: Setting
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


def plan_items(settings: Sequence[Setting]) -> list[Item]:
    """Return all items, setting by setting, in the order of the list of cases; files are hashed once.

    Raises:
        ValueError: if two cases have images of one name, whose results could not be told apart.
    """
    hashes: dict[str, str] = {}
    items = []
    for setting in settings:
        for case in setting.get("validate#data"):
            files = {name: _hash(case[name], hashes) for name in ("image", "label")}
            items.append(Item(setting=setting, case=case, files=files))
        _require_different(items[-len(setting.get("validate#data")) :])
    return items


def _require_different(items: Sequence[Item]) -> None:
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


def expected_bytes(items: Sequence[Item]) -> int:
    """Return how much disk the records of items and their merged results take, uncompressed."""
    return 2 * len(items) * (RECORD_BYTES + SMALL_VOLUME + SLICE)

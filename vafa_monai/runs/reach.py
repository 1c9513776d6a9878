"""Which config ids a run reads: those that lead by references from what is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from vafa_monai.runs.bundle_run import BundleRun, as_config

__all__ = ["require_read"]

RUN = ("imports", "initialize", "run", "finalize")  # what a run asks its configs for


def read_ids(config: Mapping[str, Any], names: Iterable[str]) -> set[str]:
    """Return the ids that are read when some are asked for: theirs, those below, and all that these refer to.

    Args:
        config: the merged configs, with the overrides.
        names: the ids that are asked for.

    Example:
        >>> config = {"eps": 0.1, "steps": 9, "attack": {"steps": "$2 * @steps"}, "run": ["@attack"]}
        >>> sorted(read_ids(config, ["run"]))
        ['attack', 'attack::steps', 'run', 'run::0', 'steps']
    """
    parser, found = ConfigParser(config=dict(config)), set[str]()
    left = [ReferenceResolver.normalize_id(one) for one in names]
    while left:
        name = left.pop()
        if name in found or name not in parser:
            continue
        found.add(name)
        value = parser[name]
        if isinstance(value, Mapping):
            left += [f"{name}::{key}" for key in value]
        elif isinstance(value, (list, tuple)):
            left += [f"{name}::{index}" for index in range(len(value))]
        elif isinstance(value, str):
            left += ReferenceResolver.match_refs_pattern(ConfigParser.resolve_relative_ids(name, value))
    return found


def require_read(runs: Sequence[BundleRun], names: Iterable[str], asked: Sequence[str] = RUN) -> None:
    """Refuse ids that a user changes and no run reads: the change would be silent.

    Args:
        runs: the runs of a command.
        names: the ids that the user gave.
        asked: ids that the runs are asked for.

    Raises:
        ValueError: if none of the runs reads an id.
    """
    given = dict.fromkeys(names)
    if not given:
        return
    found = set().union(*(read_ids(_changed(run), asked) for run in runs))
    for name in given:
        plain = ReferenceResolver.normalize_id(name)
        if plain not in found and not any(one.startswith(f"{plain}::") for one in found):
            chain = ", ".join(dict.fromkeys(overlay for run in runs for overlay in ("train", *run.overlays)))
            raise ValueError(f"override must be an id that something in this run reads, got {name!r} for {chain}.")


def _changed(run: BundleRun) -> dict[str, Any]:
    """Return the configs of a run with its overrides."""
    parser = ConfigParser(config=deepcopy(run.config))
    for name, value in run.overrides.items():
        parser[name] = as_config(name, value)
    return dict(parser.get())

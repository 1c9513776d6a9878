"""What makes the outcome of a run what it is, so that work is done once and never taken for other work."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vafa_monai.data import read_json, sha256
from vafa_monai.workflows.bundle_run import BundleRun

__all__ = ["digest", "run_facts"]

PLACES_AND_MEANS = (  # config ids that change where and how fast, not what
    "bundle_root",
    "dataset_dir",
    "datalist",
    "output_dir",
    "ckpt_dir",
    "ckpt_path",
    "pretrained_file",
    "model_file",
    "model_name",
    "attack_name",
    "results_dir",
    "resume_dir",
    "resume_interval",
    "save_predictions",
    "device",
    "num_workers",
    "cache_rate",
)


def run_facts(run: BundleRun, datalist: Path) -> dict[str, Any]:
    """Return what a run is made of: the contents of its configs, its overrides, the list of its cases.

    Paths, devices and workers are left out: a run that was moved is the same run.
    """
    contents = [read_json(run.bundle / path, "config") for path in run.configs]
    kept = {name: value for name, value in run.overrides.items() if name not in PLACES_AND_MEANS}
    return {
        "configs": dict(zip(run.configs, map(digest, contents), strict=True)),
        "overrides": json.loads(json.dumps(kept, default=str)),
        "datalist": sha256(datalist),
    }


def digest(content: Mapping[str, Any]) -> str:
    """Return a short hash of JSON content, whatever its layout.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]

"""The command that audits: exit code 0 for PASS, 2 for WARN with ``--strict``, 3 for FAIL."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from vafa_monai.audit import AuditSettings, Status
from vafa_monai.cli.benchmark_command import names
from vafa_monai.cli.say import say
from vafa_monai.workflows import BundleAudit

__all__ = ["audit", "end_with"]

EXIT_CODES = {Status.PASS: 0, Status.WARN: 0, Status.FAIL: 3}
STRICT = {**EXIT_CODES, Status.WARN: 2}


def audit(
    bundle: str,
    dataset_dir: str,
    checkpoint: str = "models/model.pt",
    model_names: str | None = None,
    surrogate: str | None = None,
    output: str | None = None,
    strict: bool = False,
    **settings: Any,
) -> None:
    """Ask whether the robustness numbers of a model can be believed; a FAIL ends with exit code 3.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        checkpoint: weights to audit, relative to the bundle; several with commas between.
        model_names: labels of the models with commas between; by default the names of their files.
        surrogate: other weights to transfer perturbations from; by default the next of ``checkpoint``.
        output: folder of ``<model>/audit.json``; by default ``eval/results`` of the bundle, where the report looks.
        strict: end with exit code 2 on a WARN.
        **settings: ``--steps``, ``--queries``, ``--restarts``, ``--eps``, ``--q_max``, and config ids such as
            ``--num_cases 10``.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    known, checkpoints = AuditSettings.__dataclass_fields__, names(checkpoint)
    labels = names(model_names) if model_names is not None else [Path(name).stem for name in checkpoints]
    if len(labels) != len(checkpoints) or len(set(labels)) < len(labels):
        raise ValueError(f"model_names must be one for each of {checkpoints}, all different, got {labels!r}.")
    run = BundleAudit(
        bundle=Path(bundle),
        dataset_dir=Path(dataset_dir).resolve(),
        checkpoints=checkpoints,
        labels=dict(zip(checkpoints, labels, strict=True)),
        surrogate=surrogate,
        output=None if output is None else Path(output),
        settings={name: value for name, value in settings.items() if name in known},
        overrides={name: value for name, value in settings.items() if name not in known},
        command=shlex.join(["vafa-monai", *sys.argv[1:]]),
        say=say,
    )
    end_with(run.verdict(run.run()), strict)


def end_with(verdict: Status, strict: bool) -> None:
    """Say the verdict and end with its exit code."""
    say(f"verdict: {verdict.value}")
    code = (STRICT if strict else EXIT_CODES)[verdict]
    if code:
        sys.exit(code)

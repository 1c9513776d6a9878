"""The command that audits: exit code 0 for PASS, 2 for WARN with ``--strict``, 3 for FAIL."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from vafa_monai.audit import AuditSettings, Status
from vafa_monai.cli.command import parsed
from vafa_monai.cli.run_command import checkpoint_files, names
from vafa_monai.cli.say import log, say
from vafa_monai.workflows import BundleAudit, BundleRun
from vafa_monai.workflows.audit_subject import AUDITED
from vafa_monai.workflows.override import checkpoint_file
from vafa_monai.workflows.reach import require_read

__all__ = ["KNOWN", "audit", "end_with"]

KNOWN = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(AuditSettings()).items()}

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
        checkpoint: weights to audit, a path from here or from the bundle, several with commas between.
        model_names: labels of the models with commas between; by default the names of their files.
        surrogate: other weights to transfer perturbations from; by default the next of ``checkpoint``.
        output: folder of ``<model>/audit.json``; by default ``eval/results`` of the bundle, where the report looks.
        strict: end with exit code 2 on a WARN.
        **settings: ``--steps``, ``--queries``, ``--restarts``, ``--eps``, ``--q_max`` and the other settings of an
            audit, and config ids such as ``--num_cases 10``.
    """
    log(logging.WARNING)
    files = [str(file) for file in checkpoint_files(bundle, checkpoint)]
    labels = [Path(name).stem for name in files] if model_names is None else names("model_names", model_names)
    if len(labels) != len(files) or len(set(labels)) < len(labels):
        raise ValueError(f"model_names must be one for each of {files}, all different, got {labels!r}.")
    config = BundleRun(bundle=Path(bundle), overlays=["evaluate"]).config
    asked = parsed({**config, **KNOWN}, settings)
    overrides = {name: value for name, value in asked.items() if name not in KNOWN}
    run = BundleAudit(
        bundle=Path(bundle),
        dataset_dir=Path(dataset_dir).resolve(),
        checkpoints=files,
        labels=dict(zip(files, labels, strict=True)),
        surrogate=None if surrogate is None else str(checkpoint_file(Path(bundle), surrogate)),
        output=None if output is None else Path(output),
        settings={name: value for name, value in asked.items() if name in KNOWN},
        overrides=overrides,
        command=shlex.join(["vafa-monai", *sys.argv[1:]]),
        say=say,
    )
    changed = BundleRun(bundle=Path(bundle), overlays=["evaluate"], overrides=overrides)
    require_read([changed], overrides, AUDITED)
    end_with(run.verdict(run.run()), strict)


def end_with(verdict: Status, strict: bool) -> None:
    """Say the verdict and end with its exit code."""
    say(f"verdict: {verdict.value}")
    code = (STRICT if strict else EXIT_CODES)[verdict]
    if code:
        sys.exit(code)

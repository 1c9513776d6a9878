"""The command that audits: exit code 0 for PASS, 2 for WARN with ``--strict``, 3 for FAIL."""

from __future__ import annotations

import logging
import shlex
import sys
from pathlib import Path
from typing import Any

from vafa_monai.audit.audited_model import Status
from vafa_monai.audit.setting import AuditSettings
from vafa_monai.cli.argument import checkpoint_files, names
from vafa_monai.cli.command import parsed
from vafa_monai.cli.say import log, say
from vafa_monai.nnunet.audit import NNUNetAudit
from vafa_monai.runs.audit import AUDITED, BundleAudit
from vafa_monai.runs.bundle_run import BundleRun
from vafa_monai.runs.override import checkpoint_file
from vafa_monai.runs.reach import require_read

__all__ = ["audit", "audit_nnunet"]

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


def audit_nnunet(  # noqa: PLR0913 - the arguments of the audit
    model: str,
    images: str,
    labels: str,
    output: str = "audit.json",
    surrogate: str | None = None,
    fold: str = "0",
    checkpoint: str = "checkpoint_final.pth",
    mirroring: bool = True,
    device: str = "cpu",
    strict: bool = False,
    **settings: Any,
) -> None:
    """Ask whether the robustness numbers of a trained nnU-Net can be believed; a FAIL ends with exit code 3.

    Args:
        model: folder that nnUNetv2_train wrote, ``TRAINER__PLANS__CONFIGURATION``.
        images: folder of ``<case>_0000`` files, such as ``imagesTs``.
        labels: folder of ``<case>`` files.
        output: the document to write; it must not exist yet.
        surrogate: another such folder to transfer perturbations from.
        fold: a number, or ``all``.
        checkpoint: name of the file in the folder of the fold.
        mirroring: average over mirrored copies, as nnU-Net does by default; 8 times as slow.
        device: where the networks run, such as ``cuda``.
        strict: end with exit code 2 on a WARN.
        **settings: ``--steps``, ``--queries``, ``--restarts``, ``--eps``, ``--q_max`` and others of an audit.
    """
    run = NNUNetAudit(
        model=Path(model),
        images=Path(images),
        labels=Path(labels),
        output=Path(output),
        surrogate=None if surrogate is None else Path(surrogate),
        fold=_fold(fold),
        checkpoint=checkpoint,
        mirroring=mirroring,
        device=device,
        settings=parsed(KNOWN, settings),
        command=shlex.join(["vafa-monai", *sys.argv[1:]]),
        say=say,
    )
    end_with(run.run(), strict)


def _fold(fold: str) -> int | str:
    """Return a fold as nnU-Net names it."""
    if fold != "all" and not (fold.isascii() and fold.isdigit()):
        raise ValueError(f"fold must be a number or all, got {fold!r}.")
    return fold if fold == "all" else int(fold)

"""The command that audits a trained nnU-Net; exit codes as those of ``audit``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from vafa_monai.cli.audit_command import KNOWN, end_with
from vafa_monai.cli.command import parsed
from vafa_monai.cli.say import say
from vafa_monai.nnunet import NNUNetAudit

__all__ = ["audit_nnunet"]


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

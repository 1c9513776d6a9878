"""The command that evaluates a whole dataset: exit code 0 if all is done, 3 if a case failed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from vafa_monai.cli.command import parsed
from vafa_monai.cli.run_command import checkpoint_files, names
from vafa_monai.cli.say import log, say
from vafa_monai.workflows import Benchmark, BundleRun
from vafa_monai.workflows.reach import require_read

__all__ = ["benchmark"]

FAILED = 3


def benchmark(
    bundle: str,
    dataset_dir: str,
    attacks: str = "identity,pgd",
    checkpoint: str = "models/model.pt",
    output: str | None = None,
    title: str = "Adversarial robustness",
    **overrides: Any,
) -> None:
    """Evaluate checkpoints under attacks on all cases; a second call continues, ``torchrun`` shares the work.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        attacks: names of the attacks with commas between, of ``configs/attacks``.
        checkpoint: weights to evaluate, a path from here or from the bundle, several with commas between.
        output: folder of the report; by default ``eval/benchmark`` of the bundle.
        title: title of the report.
        **overrides: config ids and values, for every run, such as ``--attack_steps 100``.
    """
    log(logging.WARNING)
    asked = names("attacks", attacks)
    config = BundleRun(bundle=Path(bundle), overlays=["evaluate", f"attacks/{asked[0]}"]).config
    run = Benchmark(
        bundle=Path(bundle),
        dataset_dir=Path(dataset_dir),
        attacks=asked,
        checkpoints=[str(file) for file in checkpoint_files(bundle, checkpoint)],
        output=None if output is None else Path(output),
        overrides=parsed(config, overrides),
        title=title,
        say=say,
    )
    require_read([one.run for one in run.settings()], overrides)
    outcome = run.run()
    for name, path in outcome.files.items():
        say(f"{name}: {path}")
    for failure in outcome.failures:
        say(f"failed: {failure['model']}, {failure['attack']}, {failure['case']}: {failure['error']}")
    if outcome.failures:
        sys.exit(FAILED)

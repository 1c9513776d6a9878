"""The command that evaluates a whole dataset: exit code 0 if all is done, 3 if a case failed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from vafa_monai.cli.say import say
from vafa_monai.workflows import Benchmark

__all__ = ["benchmark"]

FAILED = 3


def benchmark(
    bundle: str,
    dataset_dir: str,
    attacks: str = "identity,pgd",
    checkpoints: str = "models/model.pt",
    output: str | None = None,
    title: str = "Adversarial robustness",
    **overrides: Any,
) -> None:
    """Evaluate checkpoints under attacks on all cases; a second call continues, ``torchrun`` shares the work.

    Args:
        bundle: folder of the bundle.
        dataset_dir: folder of the data.
        attacks: names of the attacks with commas between, of ``configs/attacks``.
        checkpoints: weights with commas between, relative to the bundle.
        output: folder of the report; by default ``eval/benchmark`` of the bundle.
        title: title of the report.
        **overrides: config ids and values, for every run, such as ``--attack_steps 100``.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    run = Benchmark(
        bundle=Path(bundle),
        dataset_dir=Path(dataset_dir),
        attacks=names(attacks),
        checkpoints=names(checkpoints),
        output=None if output is None else Path(output),
        overrides=overrides,
        title=title,
        say=say,
    )
    outcome = run.run()
    for name, path in outcome.files.items():
        say(f"{name}: {path}")
    for failure in outcome.failures:
        say(f"failed: {failure['model']}, {failure['attack']}, {failure['case']}: {failure['error']}")
    if outcome.failures:
        sys.exit(FAILED)


def names(values: Any) -> list[str]:
    """Return names that were given with commas between, as one text or as a list.

    Example:
        >>> names("identity, pgd"), names(("identity", "pgd"))
        (['identity', 'pgd'], ['identity', 'pgd'])
    """
    several = values if isinstance(values, (list, tuple)) else str(values).split(",")
    return [str(value).strip() for value in several]

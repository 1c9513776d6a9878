"""The audit of a trained nnU-Net."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vafa_monai.audit.audited_model import AuditCase, AuditedModel, Status
from vafa_monai.audit.setting import AuditSettings
from vafa_monai.data.files import sha256
from vafa_monai.nnunet.model import NNUNetModel
from vafa_monai.runs.audit import write_audit

__all__ = ["NNUNetAudit"]


@dataclass(frozen=True, kw_only=True)
class NNUNetAudit:
    """Audit one fold of a trained nnU-Net through its own pipeline, and write the document of the audit.

    Volumes and labels are those of the network's grid. Standardized intensities have no bounds of their own: those of
    all cases are taken, and every budget is a fraction of their width.

    Args:
        model: folder that ``nnUNetv2_train`` wrote, ``TRAINER__PLANS__CONFIGURATION``.
        images: folder of ``<case>_0000`` files.
        labels: folder of ``<case>`` files.
        output: the document to write.
        surrogate: another such folder, of the same plans, to transfer perturbations from.
        fold: a number, or ``"all"``.
        checkpoint: name of the file in the folder of the fold.
        mirroring: average over mirrored copies, as nnU-Net does by default; 8 times as slow.
        device: where the networks run.
        settings: settings of :class:`vafa_monai.audit.AuditSettings`.
        command: the command line, for the document.
        say: told of every step, line by line.

    Raises:
        ValueError: if ``output`` exists; when run, if ``surrogate`` has other plans.
    """

    model: Path
    images: Path
    labels: Path
    output: Path
    surrogate: Path | None = None
    fold: int | str = 0
    checkpoint: str = "checkpoint_final.pth"
    mirroring: bool = True
    device: str = "cpu"
    settings: Mapping[str, Any] = field(default_factory=dict)
    command: str | None = None
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse to write over a document."""
        if Path(self.output).exists():
            raise ValueError(f"output must not exist yet, got {str(self.output)!r}.")

    def run(self) -> Status:
        """Audit, write the document, and return the verdict."""
        settings = AuditSettings(**self.settings)
        model, surrogate = self._load(self.model), None if self.surrogate is None else self._load(self.surrogate)
        if surrogate and (surrogate.plans, surrogate.configuration) != (model.plans, model.configuration):
            raise ValueError(f"surrogate must have the plans and configuration of model, got {str(self.surrogate)!r}.")
        cases = list(model.cases(self.images, self.labels))
        self.say(f"{Path(self.model).name}: {len(cases)} cases, {model.checkpoint}")
        subject = AuditedModel(
            model.network,
            cases,
            model.classes,
            name=Path(self.model).name,
            checkpoint={"path": str(model.checkpoint), "sha256": sha256(model.checkpoint)},
            inferer=model.inferer,
            settings=settings,
            value_range=intensity_range(cases),
            surrogate=None if surrogate is None else surrogate.network,
        )
        return write_audit(subject, Path(self.output), say=self.say, command=self.command)

    def _load(self, folder: Path) -> NNUNetModel:
        return NNUNetModel.load(folder, self.fold, self.checkpoint, mirroring=self.mirroring, device=self.device)


def intensity_range(cases: list[AuditCase]) -> tuple[float, float]:
    """Return the lowest and the highest intensity of all cases."""
    return min(case.image.min().item() for case in cases), max(case.image.max().item() for case in cases)

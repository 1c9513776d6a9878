"""The check of attacked volumes as files: what is written does the harm that was measured."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import Tensor

from vafa_monai.audit.arsenal import headline
from vafa_monai.audit.check import Check, Finding, Status
from vafa_monai.audit.subject import AuditSubject, Outcome, mean_dice
from vafa_monai.data import write_volume

__all__ = ["FILE_CHECKS", "check_survival"]

LOSSLESS = 1e-3  # DSC
COARSE = 0.02
LEVELS = {"int16": 4095, "uint8": 255}  # steps from lowest to highest: 12 bits, as CT and MRI scanners store, and 8
Writer = Callable[[Path, np.ndarray, np.ndarray], None]


def check_survival(subject: AuditSubject, writer: Writer = write_volume) -> Finding:
    """S18: written as float32, int16 and uint8, and read again, the volumes do the same harm."""
    found = headline(subject)
    memory = mean_dice(found)
    gaps = {kind: mean_dice(_reloaded(subject, found, kind, writer)) - memory for kind in ("float32", *LEVELS)}
    lost, coarse = abs(gaps["float32"]), max(abs(gaps[kind]) for kind in LEVELS)
    status = Status.FAIL if lost > LOSSLESS else Status.WARN if coarse > COARSE else Status.PASS
    text = ", ".join(f"{kind} {gap:+.4f}" for kind, gap in gaps.items())
    return Finding(
        status=status,
        sentence=f"Read back from files the DSC differs by: {text}.",
        value=lost,
        limit=LOSSLESS,
        unit="DSC",
        details=gaps,
    )


def _reloaded(subject: AuditSubject, found: tuple[Outcome, ...], kind: str, writer: Writer) -> list[Outcome]:
    """Write the attacked volumes, read them again, and show them to the model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "case.nii.gz"
        volumes = [one.adv for one in found if one.adv is not None]
        return subject.judged(subject.cases, [_through_file(subject, adv, kind, path, writer) for adv in volumes])


def _through_file(subject: AuditSubject, adv: Tensor, kind: str, path: Path, writer: Writer) -> Tensor:
    """Return a volume as it comes back from a file; whole numbers are steps from the lowest intensity on."""
    low, steps = subject.value_range[0], LEVELS.get(kind)
    scale = subject.width / steps if steps else 1.0
    volume = adv[0].movedim(0, -1).cpu().numpy()
    stored = np.rint((volume - low) / scale).astype(kind) if steps else volume.astype(kind)
    writer(path, stored, np.eye(4))
    image = nib.load(path)
    back = np.asanyarray(image.dataobj).astype(np.float32)  # type: ignore[attr-defined]
    back = low + scale * back if steps else back
    return torch.from_numpy(back).movedim(-1, 0)[None].to(adv).clamp(*subject.value_range)


FILE_CHECKS = (
    Check(
        id="S18",
        name="survival",
        title="The harm survives files",
        meaning="What is handed on as an attacked volume is not what was measured.",
        run=check_survival,
    ),
)

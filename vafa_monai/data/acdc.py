"""ACDC: short-axis cine MRI of the heart with three structures, from the official folders ``patientNNN``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vafa_monai.data.preparation import AFFINE_TOLERANCE, Plan, prepare
from vafa_monai.data.recipe import Case, Found, Recipe, file_faults, find_volume, list_unused
from vafa_monai.data.split import Split, complete_split, read_split

__all__ = ["ACDC", "acdc_plan", "acdc_split", "prepare_acdc"]

PATIENTS = range(1, 101)
TEST = (2, 3, 8, 9, 12, 14, 17, 24, 42, 48, 49, 53, 55, 64, 67, 79, 81, 88, 92, 95)
ACDC_VALIDATION = 10
PLACES = (".", "training", "testing", "database/training", "database/testing")
PHASES = ("ED", "ES")
INFO = "Info.cfg"
CINE = "_4d."
ACDC = Recipe(
    name="acdc",
    title="Automated Cardiac Diagnosis Challenge (ACDC)",
    description=(
        "Short-axis cine MRI of the heart at end-diastole and end-systole with right ventricle, myocardium and left "
        "ventricle. Intensities are arbitrary units that differ from patient to patient. Of 100 patients 80 train and "
        "20 test; the validation part is taken, by patient, from those that train."
    ),
    reference="Bernard et al., IEEE TMI 2018, https://doi.org/10.1109/TMI.2018.2837502",
    license="Terms of the challenge, CREATIS Lyon: to be cited, for research, not commercial",
    modality="MRI",
    unit="patient",
    classes=("background", "right ventricle", "myocardium", "left ventricle"),
    mapping=(0, 1, 2, 3),
    pixdim_rules=True,  # the sform of the official files has voxels of 1 mm, whatever their size
)


def prepare_acdc(
    source: str | Path,
    output: str | Path,
    *,
    validation: int | None = None,
    split: str | Path | None = None,
    allow_missing: bool = False,
    affine_tolerance: float = AFFINE_TOLERANCE,
) -> Path:
    """Check the ACDC patients and write their two frames as a dataset that MONAI trains on, with a report.

    ``source`` holds ``patient001/Info.cfg``, which names the frames at end-diastole (ED) and end-systole (ES), and
    ``patient001/patient001_frame01.nii.gz`` with its label ``patient001_frame01_gt.nii.gz``, itself or in ``training``
    and ``testing``; it is only read, and the whole cine (``_4d``) is not used. In the official files the affine (sform)
    has voxels of 1 mm, and ``pixdim`` the true ones: the written files have affines with the latter. ``output`` is as
    :func:`prepare_synapse` makes it.

    Args:
        source: folder of the data as it is handed out.
        output: folder to write to, new or empty, outside of ``source``.
        validation: number of patients that are taken from those that train, evenly spaced by number and so from every
            disease group, to select a model; 10 by default. The published split has none, and the patients that test
            are never taken.
        split: JSON file with lists of patients (names of their folders) under ``"training"``, ``"test"`` and, in place
            of ``validation``, ``"validation"``; the published split of 80 and 20 patients by default.
        allow_missing: prepare what is there of the split, and say in the report what is missing.
        affine_tolerance: how far a label may lie from its image by its affine, in voxels; it gets that of its image.

    Returns:
        The path of ``dataset.json``, in the form of the Medical Segmentation Decathlon, with the keys ``"training"``,
        ``"validation"`` and ``"test"``.

    Raises:
        ValueError: if a setting or a place is wrong, ``output`` holds something else, or the source has faults: the
            message lists all of them, and nothing is written.
    """
    plan = acdc_plan(
        split=acdc_split(validation, split), allow_missing=allow_missing, affine_tolerance=affine_tolerance
    )
    return prepare(plan, source, output)


def acdc_plan(*, split: Split, **settings: object) -> Plan:
    """Return the plan for the four classes."""
    return Plan(recipe=ACDC, find=find_acdc, split=split, **settings)  # type: ignore[arg-type]


def acdc_split(validation: int | None = None, split: str | Path | None = None) -> Split:
    """Return the published split by patient, or that of a file, with a validation part."""
    published = {
        "training": [f"patient{number:03d}" for number in PATIENTS if number not in TEST],
        "test": [f"patient{number:03d}" for number in TEST],
    }
    return complete_split(published if split is None else read_split(split), validation, ACDC_VALIDATION)


def find_acdc(source: Path, units: Iterable[str]) -> Found:
    """Find the two frames of every named patient."""
    cases, faults, missing = [], [], []
    for unit in units:
        folders = [folder for place in PLACES if (folder := source / place / unit).is_dir()]
        if len(folders) > 1:
            names = " and ".join(repr(folder.relative_to(source).as_posix()) for folder in folders)
            faults.append(f"patient must have one folder, got {names}.")
        elif folders:
            found, wrong = _find_frames(folders[0], unit)
            cases += found
            faults += wrong
        else:
            missing.append(unit)
    unused = [name for name in list_unused(source, source, cases) if CINE not in name]
    return Found(cases=cases, faults=faults, missing=missing, unused=unused)


def _find_frames(folder: Path, unit: str) -> tuple[list[Case], list[str]]:
    """Return the frames of a patient that are there, and what is wrong."""
    info, faults = _read_info(folder / INFO, unit)
    cases = []
    for phase in PHASES if not faults else ():
        name = f"{unit}_frame{int(info[phase]):02d}"
        images, labels = find_volume(folder, name), find_volume(folder, f"{name}_gt")
        wrong = [*file_faults("image", name, images), *file_faults("label", f"{name}_gt", labels)]
        faults += [f"{fault[:-1]}, which Info.cfg names as {phase}." for fault in wrong]
        if not wrong:
            notes = {"phase": phase, "group": info.get("Group", "")}
            cases.append(Case(name=name, unit=unit, image=images[0], label=labels[0], notes=notes))
    return cases, faults


def _read_info(path: Path, unit: str) -> tuple[dict[str, str], list[str]]:
    """Return the lines ``key: value`` of an Info.cfg, and what is wrong with it."""
    if not path.is_file():
        return {}, [f"Info.cfg must exist for every patient, got none for {unit!r}."]
    text = path.read_text(encoding="utf-8", errors="replace")
    info = dict(re.findall(r"^[ \t]*(\w+)[ \t]*:[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    frames = [info.get(phase) for phase in PHASES]
    if not all(frame is not None and frame.isascii() and frame.isdigit() for frame in frames):
        rule = "name the frames ED and ES as whole numbers"
        return info, [f"Info.cfg must {rule}, got ED {frames[0]!r} and ES {frames[1]!r} for {unit!r}."]
    if int(frames[0] or 0) == int(frames[1] or 0):
        return info, [f"Info.cfg must name two frames, got {frames[0]} for both ED and ES for {unit!r}."]
    return info, []

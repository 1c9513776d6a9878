"""What is known of a dataset before it is seen, and what is found of it in a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Case", "Find", "Found", "Recipe", "file_faults", "find_volume", "list_unused"]

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The facts of a dataset.

    Args:
        name: short name, as in commands.
        title: full name.
        description: what the images show and where they come from.
        reference: how to cite the dataset.
        licence: what its owners allow.
        modality: ``"CT"`` or ``"MRI"``.
        unit: what a split names: ``"case"`` or ``"patient"``.
        classes: names of the classes, the background first.
        mapping: class of every label value in the source; its length is the number of values.
        hounsfield: the highest value that the darkest voxel, and the lowest that the brightest voxel, of a CT in HU may
            have; ``None`` for other units.
        window: intensities that a picture shows from black to white; ``None`` for the percentiles 0.5 and 99.5.
        pixdim_rules: where the affine and the voxel sizes of the header (``pixdim``) disagree, the latter are right.
    """

    name: str
    title: str
    description: str
    reference: str
    licence: str
    modality: str
    unit: str
    classes: tuple[str, ...]
    mapping: tuple[int, ...]
    hounsfield: tuple[float, float] | None = None
    window: tuple[float, float] | None = None
    pixdim_rules: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """An image with its label.

    Args:
        name: name of the case, without ending.
        unit: the entry of the split that it belongs to: the case itself, or its patient.
        image: its file.
        label: its file.
        notes: what the dataset says of it, such as the phase of the heart.
    """

    name: str
    unit: str
    image: Path
    label: Path
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a folder holds of the units that a split names.

    Args:
        cases: cases with two files.
        faults: one sentence for each thing that is wrong.
        missing: units of which there is nothing.
        unused: files that belong to no case of the split, relative to the folder.
    """

    cases: list[Case]
    faults: list[str]
    missing: list[str]
    unused: list[str]


Find = Callable[[Path, Iterable[str]], Found]


def find_volume(folder: Path, stem: str) -> list[Path]:
    """Return the NIfTI files of this name, compressed or not: none, one, or two too many."""
    return [path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]


def file_faults(kind: str, stem: str, files: list[Path]) -> list[str]:
    """Return a sentence if there is not exactly one file of this kind and name."""
    if not files:
        return [f"{kind} must exist for every case, got no {stem + SUFFIXES[0]!r}."]
    if len(files) > 1:
        return [f"{kind} must exist once for every case, got {files[0].name!r} and {files[1].name!r}."]
    return []


def list_unused(source: Path, place: Path, cases: Iterable[Case]) -> list[str]:
    """Return the NIfTI files below ``place`` that belong to no case, relative to ``source``."""
    used = {path for case in cases for path in (case.image, case.label)}
    found = {path for suffix in SUFFIXES for path in place.rglob(f"*{suffix}") if path.is_file()}
    return sorted(path.relative_to(source).as_posix() for path in found - used)

"""What a dataset must be: its recipe, and the faults of a folder against it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vafa_monai.data.volume import Volume, displacement, read_volume

__all__ = [
    "Case",
    "Find",
    "Found",
    "Recipe",
    "file_faults",
    "find_volume",
    "image_faults",
    "label_faults",
    "list_unused",
    "pair_faults",
    "read_or_fault",
]

SUFFIXES = (".nii.gz", ".nii")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The facts of a dataset.

    Args:
        name: short name, as in commands.
        title: full name.
        description: what the images show and where they come from.
        reference: how to cite the dataset.
        license: what its owners allow.
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
    license: str
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


LEAST_DETERMINANT = 1e-3  # of the unit directions: their volume is 1 if they are orthogonal, 0 if two are parallel


def read_or_fault(kind: str, path: Path) -> tuple[Volume | None, list[str]]:
    """Read a file as the ``"image"`` or ``"label"`` that it is to be; return it, or why it is none."""
    try:
        volume = read_volume(path)
    except ValueError as error:
        return None, [f"{kind} must be a readable volume, got {path.name!r} ({error})."]
    if volume.array.dtype.kind not in "iuf":
        rule = "hold one real number per voxel"
        return None, [f"{kind} must {rule}, got voxels of type {volume.array.dtype} for {path.name!r}."]
    if volume.array.ndim != 3 or not volume.array.size:
        return None, [f"{kind} must be 3D, got the shape {volume.array.shape} for {path.name!r}."]
    return volume, []


def image_faults(volume: Volume, name: str, recipe: Recipe) -> list[str]:
    """Return what is wrong with a 3D image."""
    found = [*_geometry_faults(volume, recipe), *_intensity_faults(volume.array, recipe)]
    return [f"image must {sentence} for {name!r}." for sentence in found]


def label_faults(volume: Volume, name: str, recipe: Recipe) -> list[str]:
    """Return what is wrong with a 3D label."""
    found = [*_geometry_faults(volume, recipe), *_class_faults(volume.array, recipe)]
    return [f"label must {sentence} for {name!r}." for sentence in found]


def pair_faults(image: Volume, label: Volume, name: str, tolerance: float) -> list[str]:
    """Return what is wrong between a label and its image, whose affines can be inverted.

    Args:
        image: the image.
        label: its label.
        name: name of the label's file.
        tolerance: how far a corner may be displaced, in voxels.
    """
    shape, found = image.array.shape, label.array.shape
    if shape != found:
        return [f"label must have the shape of its image {shape}, got {found} for {name!r}."]
    voxels = displacement(image.affine, label.affine, shape)
    if voxels <= tolerance:
        return []
    rule, remedy = f"lie on its image to within {tolerance:g} voxels", "if the pictures fit, raise affine_tolerance"
    return [f"label must {rule}, got a corner {voxels:.3g} voxels away by its affine for {name!r}; {remedy}."]


def _affine_faults(affine: np.ndarray) -> Iterator[str]:
    """Yield why an affine does not say where voxels are."""
    if not np.isfinite(affine).all():
        yield "have a finite affine, got NaN or infinity in it"
        return
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not (spacing > 0).all():
        yield f"have a spacing above 0 mm along every axis, got {_by(spacing)} mm"
        return
    determinant = abs(np.linalg.det(affine[:3, :3] / spacing))
    if determinant < LEAST_DETERMINANT:
        yield f"have an affine that can be inverted, got directions with the determinant {determinant:.2g}"


def _geometry_faults(volume: Volume, recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with where the voxels are."""
    faults = list(_affine_faults(volume.affine))
    yield from faults
    if faults or volume.agrees:
        return
    if recipe.pixdim_rules:
        yield from _affine_faults(volume.rescaled())
        return
    yield f"have one spacing, got {_by(volume.spacing)} mm by its affine and {_by(volume.pixdim)} mm by its pixdim"


def _intensity_faults(array: np.ndarray, recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with intensities."""
    if array.dtype.kind == "f" and not (finite := np.isfinite(array)).all():
        yield f"be finite, got {int((~finite).sum())} NaN or infinite voxels"
        return
    low, high = float(array.min()), float(array.max())
    if low == high:
        yield f"not be constant, got {low:g} everywhere"
        return
    if recipe.hounsfield is None:
        return
    air, bone = recipe.hounsfield
    if low > air or high < bone:
        rule = f"be in Hounsfield units, with air of at most {air:g} and bone of at least {bone:g}"
        yield f"{rule}, got {low:g} to {high:g}, which was probably rescaled or clipped,"


def _class_faults(array: np.ndarray, recipe: Recipe) -> Iterator[str]:
    """Yield what is wrong with label values."""
    last = len(recipe.mapping) - 1
    values = np.unique(array)
    whole = np.isfinite(values) & (values == np.round(values))
    if not whole.all():
        yield f"hold whole numbers, got {values[~whole][0]:g} and {int((~whole).sum()) - 1} other values"
        return
    outside = values[(values < 0) | (values > last)]
    if outside.size:
        yield f"hold class indices from 0 to {last}, got {', '.join(f'{value:g}' for value in outside[:5])}"
    elif not values.any():
        yield "hold something, got the background only"


def _by(sizes: np.ndarray | tuple[float, ...]) -> str:
    """Write sizes as ``1 x 2 x 3``."""
    return " x ".join(f"{size:.4g}" for size in sizes[:3])

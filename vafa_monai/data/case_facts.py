"""What is measured of a case that has no fault, for the report and for the checks across cases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from vafa_monai.data.recipe import Case, Recipe
from vafa_monai.data.volume import Volume, displacement

__all__ = ["PHANTOM_MARK", "CaseFacts", "measure"]

PHANTOM_MARK = "vafa_monai phantom"  # begins the description in the header of a synthetic volume
PHANTOM_REMARK = "The image is a synthetic phantom, not a patient."
USUAL_SPACING = (0.3, 20.0)  # mm; thinner or thicker voxels are told, because a unit may be wrong
LEAST_ORTHOGONALITY = 0.999  # determinant of the unit directions
NOTEWORTHY = 1e-3  # voxels; float32 affines round to less
MM3_PER_ML = 1000


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """One row of the report.

    Args:
        name: name of the case.
        unit: entry of the split that it belongs to.
        shape: size in voxels.
        spacing: voxel sizes in mm.
        orientation: where the three axes point, such as ``"LPS"``.
        dtype: number format of the image in the source.
        intensity: lowest, percentile 0.5, percentile 99.5, highest.
        volumes_ml: volume of every class but the background in milliliters.
        notes: what the dataset says of the case.
        remarks: what a user should know, one sentence each without the name.
        voxels: SHA-256 of the intensities, by which copies are found.
    """

    name: str
    unit: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    dtype: str
    intensity: tuple[float, float, float, float]
    volumes_ml: tuple[float, ...]
    notes: Mapping[str, Any]
    remarks: tuple[str, ...]
    voxels: str

    @property
    def synthetic(self) -> bool:
        """Whether the image says that it is a phantom."""
        return PHANTOM_REMARK in self.remarks


def measure(case: Case, image: Volume, label: Volume, recipe: Recipe) -> CaseFacts:
    """Measure a case; ``image`` and ``label`` are as they were read, before their spacing was settled."""
    settled = image.settled(recipe.pixdim_rules)
    per_value = np.bincount(label.array.astype(np.uint8).ravel(), minlength=len(recipe.mapping))
    counts = np.bincount(recipe.mapping, weights=per_value, minlength=len(recipe.classes))[1:]
    voxel_ml = abs(np.linalg.det(settled.affine[:3, :3])) / MM3_PER_ML
    low, high = np.percentile(image.array, [0.5, 99.5])
    return CaseFacts(
        name=case.name,
        unit=case.unit,
        shape=tuple(int(size) for size in image.array.shape),
        spacing=tuple(round(size, 4) for size in settled.spacing),
        orientation="".join(nib.aff2axcodes(settled.affine)),
        dtype=str(image.array.dtype),
        intensity=(float(image.array.min()), float(low), float(high), float(image.array.max())),
        volumes_ml=tuple(round(float(count * voxel_ml), 4) for count in counts),
        notes=dict(case.notes),
        remarks=tuple(_remarks(image, label, counts, recipe)),
        voxels=_hash(image.array),
    )


def _hash(array: np.ndarray) -> str:
    """Return the SHA-256 of shape and voxels."""
    digest = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(array.T).data)
    return digest.hexdigest()


def _remarks(image: Volume, label: Volume, counts: np.ndarray, recipe: Recipe) -> Iterator[str]:
    """Yield what a user should know of a case."""
    settled, label_settled = (volume.settled(recipe.pixdim_rules) for volume in (image, label))
    if image.description.startswith(PHANTOM_MARK):
        yield PHANTOM_REMARK
    if settled is not image:
        yield "The voxel sizes are those of pixdim, because the affine of the file has others."
    if displacement(settled.affine, label_settled.affine, image.array.shape) > NOTEWORTHY:
        yield "The label got the affine of its image, which was not quite its own."
    least, most = USUAL_SPACING
    if not all(least <= size <= most for size in settled.spacing):
        yield f"The spacing is unusual: it is not from {least:g} to {most:g} mm along every axis."
    if abs(np.linalg.det(settled.affine[:3, :3] / settled.spacing)) < LEAST_ORTHOGONALITY:
        yield "The axes are not at right angles."
    for name, count in zip(recipe.classes[1:], counts, strict=True):
        if not count:
            yield f"The label has no {name}."

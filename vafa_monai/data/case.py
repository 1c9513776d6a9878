"""The name of a case, and a preprocessing that forgets neither it nor the files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from monai.transforms import Transform
from monai.utils import convert_to_tensor, ensure_tuple

__all__ = ["CASE_NAME", "NamedCase"]

CASE_NAME = "case_name"  # key of a case, and of what its image knows, where its file has no name of its own
FILE = "filename_or_obj"  # MONAI's


class NamedCase(Transform):
    """Run the preprocessing of a case; then image and label know their files, and the image the name of the case.

    Caches, and transforms that return arrays, drop what MONAI keeps of a file beside the voxels. Where one of the two
    kept its place in space and the other did not, it is that of both.

    Args:
        transform: the preprocessing, from a dictionary with the paths ``"image"`` and ``"label"`` to one with volumes.

    Example:
        >>> import torch
        >>> named = NamedCase(lambda case: {"image": torch.rand(1, 4, 4, 4), "label": torch.zeros(1, 4, 4, 4)})
        >>> found = named({"image": "1/t2.nii.gz", "label": "1/seg.nii.gz", "case_name": "1_t2"})
        >>> found["image"].meta["filename_or_obj"], found["image"].meta["case_name"]
        ('1/t2.nii.gz', '1_t2')
    """

    def __init__(self, transform: Callable[[Any], Any]) -> None:
        self.transform = transform

    def __call__(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """Return the preprocessed case."""
        found = dict(self.transform(dict(case)))
        volumes = {key: convert_to_tensor(found[key], track_meta=True) for key in ("image", "label")}
        placed = [volume for volume in volumes.values() if FILE in volume.meta]
        for key, volume in volumes.items():
            if len(placed) == 1 and volume.shape[1:] == placed[0].shape[1:]:
                volume.affine = placed[0].affine
            volume.meta.setdefault(FILE, str(ensure_tuple(case[key])[0]))
        found.update(volumes)
        if CASE_NAME in case:
            found["image"].meta[CASE_NAME] = str(case[CASE_NAME])
        return found

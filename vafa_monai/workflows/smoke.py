"""A smoke run of a bundle's inference: one synthetic volume in, the voxels of every class out."""

from __future__ import annotations

import logging
import tempfile
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.bundle import ConfigWorkflow
from scipy.ndimage import gaussian_filter

from vafa_monai.data import write_volume

__all__ = ["smoke_volume", "smoke_voxels"]

MARGIN = 4  # voxels beyond one window, so that there are several
BLUR = 3.0


def smoke_volume(shape: tuple[int, ...], value_range: tuple[float, float], seed: int = 0) -> np.ndarray:
    """Return a smooth random volume that fills a range of intensities.

    Example:
        >>> volume = smoke_volume((8, 9, 10), (-1.0, 3.0))
        >>> volume.shape, volume.min().item(), volume.max().item()
        ((8, 9, 10), -1.0, 3.0)
    """
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=shape), BLUR)
    share = (smooth - smooth.min()) / np.ptp(smooth)
    return (value_range[0] + (value_range[1] - value_range[0]) * share).astype(np.float32)


def smoke_voxels(bundle: Path, checkpoint: str = "models/model.pt", seed: int = 0) -> dict[str, int]:
    """Run ``inference.json`` with a checkpoint on a synthetic volume of one window and a little more.

    Args:
        bundle: folder of the bundle.
        checkpoint: weights, relative to it.
        seed: seed of the volume.

    Returns:
        Number of voxels of every class that was found, by class.

    Raises:
        ValueError: if nothing is written.
    """
    with tempfile.TemporaryDirectory() as place:
        file, output = Path(place) / "smoke.nii.gz", Path(place) / "out"
        overrides: dict[str, Any] = {
            "bundle_root": str(bundle),
            "ckpt_path": str(bundle / checkpoint),
            "dataset_dir": place,
            "datalist": [str(file)],
            "output_dir": str(output),
            "device": "cpu",
        }
        with warnings.catch_warnings(), (Path(place) / "log").open("w", encoding="utf-8") as log:
            warnings.simplefilter("ignore")
            with redirect_stdout(log), redirect_stderr(log):
                logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
                workflow = _workflow(bundle, overrides)
                shape = tuple(edge + MARGIN for edge in workflow.parser.get_parsed_content("roi_size"))
                spacing = workflow.parser.get_parsed_content("pixdim") if "pixdim" in workflow.parser else [1.0] * 3
                affine = np.diag([*(float(edge) or 1.0 for edge in spacing), 1.0])
                write_volume(file, smoke_volume(shape, (0.0, 255.0), seed), affine)
                workflow.initialize()
                workflow.run()
                workflow.finalize()
        written = sorted(output.rglob("*.nii.gz"))
        if len(written) != 1:
            raise ValueError(f"inference.json must write one prediction, got {len(written)}.")
        voxels = np.asanyarray(nib.load(written[0]).dataobj)  # type: ignore[attr-defined]
        classes, counts = np.unique(voxels.astype(int), return_counts=True)
    return {str(one): int(count) for one, count in zip(classes, counts, strict=True)}


def _workflow(bundle: Path, overrides: dict[str, Any]) -> ConfigWorkflow:
    """Return the workflow of inference."""
    return ConfigWorkflow(
        config_file=str(bundle / "configs" / "inference.json"),
        meta_file=str(bundle / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type="infer",
        **overrides,
    )

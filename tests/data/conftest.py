"""Small phantoms in the official layouts, whole and to be spoilt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from vafa_monai.data import sha256, write_phantom

SMALL = 0.4


@pytest.fixture(scope="session")
def synapse_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three cases of about 32 x 24 x 16 voxels."""
    return write_phantom("synapse", tmp_path_factory.mktemp("synapse") / "raw", cases=3, size=SMALL)


@pytest.fixture(scope="session")
def acdc_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients with two frames of about 30 x 28 x 9 voxels."""
    return write_phantom("acdc", tmp_path_factory.mktemp("acdc") / "raw", cases=3, size=SMALL)


@pytest.fixture
def synapse_copy(synapse_raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(synapse_raw, tmp_path / "raw"))


@pytest.fixture
def acdc_copy(acdc_raw: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(acdc_raw, tmp_path / "raw"))


@pytest.fixture
def state_of() -> Callable[[Path], dict[str, tuple[int, str]]]:
    """Return a function that maps every file of a folder to its time of change and its hash."""

    def read(folder: Path) -> dict[str, tuple[int, str]]:
        files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        return {path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, sha256(path)) for path in files}

    return read


@pytest.fixture
def rewrite() -> Callable[..., None]:
    """Return a function that writes a volume again, with functions of its voxels and affine, and other voxel sizes."""

    def write(path: Path, *, array: Any = None, affine: Any = None, pixdim: Any = None) -> None:
        old: Any = nib.load(path)
        voxels = np.asanyarray(old.dataobj)
        voxels = array(voxels) if array is not None else voxels
        header = old.header.copy()
        header.set_data_dtype(voxels.dtype)
        new: Any = nib.Nifti1Image(voxels, old.affine, header)
        new.set_qform(None, code=0)
        new.set_sform(affine(old.affine.copy()) if affine is not None else old.affine, code=1)
        new.header["pixdim"][1:4] = old.header["pixdim"][1:4] if pixdim is None else pixdim
        nib.save(new, path)

    return write

"""A tiny Synapse on disk, and a copy of a bundle of the paper with overrides that shrink its network."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from vafa_monai.workflows import shipped_bundle

SHAPE = (24, 20, 18)
SPACING = (1.5, 1.5, 2.0)
PARTS = {"training": [1, 2], "validation": [3], "test": [4, 5]}
SMALL = {
    "roi_size": [16, 16, 16],
    "pixdim": list(SPACING),
    "overlap": 0.25,
    "network_def#feature_size": 4,
    "network_def#hidden_size": 24,
    "network_def#mlp_dim": 48,
    "network_def#num_heads": 2,
}


def write_case(folder: Path, number: int, classes: int) -> dict[str, str]:
    """Write a body in air with a ball of its own brightness for every class but the background, in HU."""
    rng = np.random.default_rng(number)
    grid = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), -1)
    label = np.zeros(SHAPE, np.uint8)
    for index in range(1, classes):
        center = rng.uniform(4, np.array(SHAPE) - 4)
        label[np.linalg.norm(grid - center, axis=-1) < 3] = index
    body = np.linalg.norm((grid / np.array(SHAPE) - 0.5), axis=-1) < 0.5
    image = np.where(body | (label > 0), 20 + 15 * label, -1000) + rng.normal(0, 8, SHAPE)
    case = {kind: f"{kind}s/case_{number:02d}.nii.gz" for kind in ("image", "label")}
    for kind, volume in (("image", image.astype(np.int16)), ("label", label)):
        (folder / case[kind]).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(volume, np.diag([*SPACING, 1])), folder / case[kind])
    return case


@pytest.fixture(scope="session")
def synapse_dir(tmp_path_factory) -> Path:
    """A prepared dataset of 14 classes: two training cases, one for validation, two for the test."""
    folder = tmp_path_factory.mktemp("synapse")
    parts = {part: [write_case(folder, number, 14) for number in numbers] for part, numbers in PARTS.items()}
    (folder / "dataset.json").write_text(json.dumps({"description": "Balls in a body.", "synthetic": True, **parts}))
    return folder


@pytest.fixture
def paper_bundle(tmp_path) -> Path:
    """A copy of the bundle of UNETR on Synapse, without what was trained in a checkout."""
    name = "synapse_unetr_segmentation"
    ignore = shutil.ignore_patterns("eval", "*.pt", "__pycache__")
    return Path(shutil.copytree(shipped_bundle(name), tmp_path / name, ignore=ignore))


@pytest.fixture
def small() -> dict[str, object]:
    """Overrides that make a run of seconds."""
    return dict(SMALL)


TINY = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 48, "num_heads": 2}


@pytest.fixture(scope="session")
def small_bundle(tmp_path_factory):
    """A bundle that passes the checks for sharing, with a tiny network and weights; only to be read."""
    folder = tmp_path_factory.mktemp("bundle") / "mni152_unetr_segmentation"
    shutil.copytree(
        shipped_bundle("mni152_unetr_segmentation"),
        folder,
        ignore=shutil.ignore_patterns("eval", "*.pt", "__pycache__"),
    )
    for name in ("train", "inference"):
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text())
        content["roi_size"] = [16, 16, 16]
        content["network_def"] |= TINY
        path.write_text(json.dumps(content, indent=4))
    path = folder / "configs" / "metadata.json"
    content = json.loads(path.read_text())
    for way, name in (("inputs", "image"), ("outputs", "pred")):
        content["network_data_format"][way][name]["spatial_shape"] = [16, 16, 16]
    path.write_text(json.dumps(content, indent=4))
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    return folder


@pytest.fixture
def bundle(small_bundle, tmp_path):
    """A copy to be broken."""
    return Path(shutil.copytree(small_bundle, tmp_path / "work" / small_bundle.name))

"""The bundles that come with the package, some with trained weights, and copies of them that stand alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import vafa_monai
from vafa_monai.data.files import read_json, sha256, whole_folder

__all__ = ["copy_bundle", "copy_tree", "overlay_folder", "shipped_bundle", "shipped_weights"]

OVERLAYS = "overlays"  # beside the bundles of a checkout, which have links into it
METADATA = "configs/metadata.json"
TRAINED = ("eval", "*.pt", "*.training.json", "__pycache__", ".*.partial", ".*.lock")  # what runs leave in a checkout


def shipped_bundle(name: str) -> Path:
    """Return the folder of a bundle that comes with the package; its overlays may be links.

    Raises:
        ValueError: if there is no such bundle.
    """
    for root in _roots():
        if (root / name / "configs").is_dir():
            return root / name
    raise ValueError(f"bundle must be one of {shipped_names()}, got {name!r}.")


def shipped_names() -> list[str]:
    """Return the names of the bundles that come with the package."""
    return sorted({path.parent.name for root in _roots() for path in root.glob("*/configs")})


def copy_bundle(name: str, output: str | Path) -> Path:
    """Copy a bundle that comes with the package into a folder, as ``<output>/<name>``, with the weights that it ships.

    Weights and results of own runs are left out. Every file of the copy is a real one; it appears whole or not at all.

    Args:
        name: its name.
        output: the folder.

    Returns:
        The folder of the copy.

    Raises:
        ValueError: if there is no such bundle, or ``output`` has something of that name.
    """
    source, target = shipped_bundle(name), Path(output).resolve() / name
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"output must not hold {name!r} already, got {str(target)!r}.")
    with whole_folder(target) as folder:
        copy_tree(source, folder, TRAINED)
        for weights in shipped_weights(source):
            shutil.copyfile(weights, folder / weights.relative_to(source))
    return target


def shipped_weights(bundle: Path) -> list[Path]:
    """Return the checkpoints of a bundle whose figures its metadata state, told by their hashes, and their records."""
    figures = read_json(bundle / METADATA, "metadata.json").get("robustness", {}).values()
    known, models = {one["sha256"] for one in figures}, bundle / "models"
    found = [path for path in sorted(models.glob("*.pt")) if known and sha256(path) in known]
    records = [path.with_suffix(".training.json") for path in found]
    return [*found, *(path for path in records if path.is_file())]


def copy_tree(bundle: Path, target: Path, left_out: tuple[str, ...] = ()) -> Path:
    """Copy the folder of a bundle; overlays that it shares with its neighbors become real files, other links stay.

    Args:
        bundle: the folder.
        target: the folder to fill.
        left_out: patterns of names that are not copied.
    """
    source, ignore = Path(bundle).resolve(), shutil.ignore_patterns(*left_out)
    shutil.copytree(source, target, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    for link in [path for path in sorted(target.rglob("*")) if path.is_symlink()]:
        shared = (source / link.relative_to(target)).resolve()
        if shared.is_relative_to(source.parent / OVERLAYS) and shared.exists():
            link.unlink()
            (shutil.copytree if shared.is_dir() else shutil.copyfile)(shared, link)
    return target


def overlay_folder() -> Path:
    """Return a folder that holds the overlays that all bundles share, as files or as links."""
    return shipped_bundle(shipped_names()[0]) / "configs"


def _roots() -> list[Path]:
    """Return where bundles lie: installed, or in a checkout."""
    package = Path(vafa_monai.__file__).parent
    return [root for root in (package / "bundles", package.parent / "bundles") if root.is_dir()]

"""A bundle made ready to be shared: checked, tried, described, and packed so that two packages are the same bytes."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import yaml
from monai.bundle import ConfigWorkflow
from scipy.ndimage import gaussian_filter

from vafa_monai.data.files import read_json, require_writable, sha256, write_json, write_volume, write_whole
from vafa_monai.reports.build import model_card
from vafa_monai.reports.evidence import Evidence, gather
from vafa_monai.results.audit import load_audits
from vafa_monai.results.result import SHOWN, load_results
from vafa_monai.runs.shipped import copy_tree
from vafa_monai.sharing.archive import MANIFEST, build_manifest, folder_files, private_folder, write_archive
from vafa_monai.sharing.fetch import masked
from vafa_monai.sharing.package_check import LARGE_FILE, VERSION, PackageFault, bundle_faults

__all__ = ["Package"]

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


LEFT_OUT = ("eval", "__pycache__", ".ipynb_checkpoints", ".DS_Store", MANIFEST)
STAGED = "vafa-monai-package-"
README = "docs/README.md"
METADATA = "configs/metadata.json"
CARD = "## Adversarial robustness"


@dataclass(frozen=True, kw_only=True)
class Package:
    """Package a bundle; the bundle itself is only read.

    The copy gets the model card and the figures of the results, the list of its files over 25 MB, and a manifest with
    size and SHA-256 of every file and what a smoke run of every checkpoint gave. The folder ``eval`` is left out.

    Args:
        bundle: folder of the bundle.
        output: the zip file; by default ``<bundle>_v<version>.zip`` in the working directory.
        results: folder of results and audits, ``<results>/<model>/…``; without it there is no model card.
        base_url: address under which files over 25 MB will be, for ``large_files.yml``.
        smoke: run ``inference.json`` with every checkpoint.
        say: told of every step, line by line.
    """

    bundle: Path
    output: Path | None = None
    results: Path | None = None
    base_url: str | None = None
    smoke: bool = True
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse an address that would publish a password."""
        if self.base_url is not None and (not isinstance(self.base_url, str) or masked(self.base_url) != self.base_url):
            shown = masked(str(self.base_url))
            raise ValueError(f"base_url must be an address without a password or a query, got {shown!r}.")

    def faults(self, trust: bool = True) -> list[PackageFault]:
        """Return everything that keeps the bundle from being shared.

        Args:
            trust: execute its configs to build the network, load the weights and export it.

        Raises:
            ValueError: if there is no such folder, or the zip file could not be written.
        """
        folder = Path(self.bundle)
        if not folder.is_dir():
            raise ValueError(f"bundle must be a folder, got {str(self.bundle)!r}.")
        if self.output is not None:
            self._require_new(Path(self.output))
        with private_folder(Path(tempfile.gettempdir()), STAGED) as place:
            return bundle_faults(self._staged(place), trust)

    def write(self) -> Path:
        """Write the zip file.

        Returns:
            Its path.

        Raises:
            ValueError: if the smoke run or the results are not as they must be, results are of other weights than those
                that are packaged, or the zip file is there already.
        """
        metadata = read_json(Path(self.bundle) / METADATA, METADATA)
        if not VERSION.fullmatch(str(metadata.get("version"))):
            raise ValueError(f"version must be three numbers in {METADATA}, got {metadata.get('version')!r}.")
        default = f"{Path(self.bundle).resolve().name}_v{metadata['version']}.zip"
        path = Path(default if self.output is None else self.output)
        self._require_new(path)
        with private_folder(Path(tempfile.gettempdir()), STAGED) as place:
            staged = self._staged(place)
            if self.results is not None:
                found = gather(load_results(self.results), load_audits(self.results))
                _require_packaged(staged, found)
                self._describe(staged, metadata, found)
            self._list_large_files(staged)
            about = {"name": staged.name, "version": metadata["version"], "smoke": self._smoke(staged)}
            write_json(staged / MANIFEST, build_manifest(staged, about))
            return write_archive(staged, path)

    def _require_new(self, path: Path) -> None:
        """Refuse a zip file that is there, or could not be written after the work."""
        if os.path.lexists(path):
            raise ValueError(f"output must be a new file, got {str(path)!r}.")
        require_writable(path)

    def _staged(self, place: Path) -> Path:
        """Copy what is packaged; links out of it stay links, to be found as faults."""
        target = place / Path(self.bundle).resolve().name
        try:
            return copy_tree(self.bundle, target, LEFT_OUT)
        except shutil.Error as error:
            reason = str(error.args[0][0][-1])
            raise ValueError(f"bundle must hold files and folders that can be read, got {reason}.") from error

    def _describe(self, staged: Path, metadata: dict[str, Any], evidence: Evidence) -> None:
        """Write the model card into the README, and the figures into the metadata."""
        readme = staged / README
        before, found, _ = readme.read_text(encoding="utf-8").partition(f"\n{CARD}\n")
        write_whole(readme, before.rstrip("\n") + "\n\n" + model_card(evidence))
        self.say(f"model card: {'replaced' if found else 'added'} in {README}")
        write_json(staged / METADATA, {**metadata, "robustness": _figures(evidence)})

    def _list_large_files(self, staged: Path) -> None:
        """List what the model zoo does not take, with its hash."""
        large = {name: path for name, path in folder_files(staged).items() if path.stat().st_size > LARGE_FILE}
        if not large:
            return
        address = "" if self.base_url is None else self.base_url.rstrip("/") + "/"
        entries = [
            {
                "path": name,
                "url": f"{address}{name}" if address else "",
                "hash_type": "sha256",
                "hash_val": sha256(path),
            }
            for name, path in large.items()
        ]
        write_whole(staged / "large_files.yml", yaml.safe_dump({"large_files": entries}, sort_keys=False))
        self.say(f"large_files.yml: {', '.join(large)}")

    def _smoke(self, staged: Path) -> dict[str, dict[str, int]]:
        """Return what a smoke run of every checkpoint gave."""
        names = [f"models/{path.name}" for path in sorted((staged / "models").glob("*.pt"))]
        if not names:
            self.say("no weights in models: the recipe alone is packaged, and no smoke run is possible")
        found = {}
        for name in names if self.smoke else []:
            found[name] = smoke_voxels(staged, name)
            self.say(f"smoke run of {name}: voxels of each class {found[name]}")
        return found


def _require_packaged(staged: Path, evidence: Evidence) -> None:
    """Refuse results of weights that are not in the package."""
    packaged = {sha256(path) for path in (staged / "models").glob("*.pt")}
    for one in evidence.summaries:
        if one.sha256 not in packaged:
            got = f"those of {one.model!r} with the SHA-256 {str(one.sha256)[:SHOWN]}…, which no file of models has"
            raise ValueError(f"results must be of the weights that are packaged, got {got}.")


def _figures(evidence: Evidence) -> dict[str, Mapping[str, Any]]:
    """Return verdict and figures of every model, as metadata hold them."""
    return {
        one.model: {
            "verdict": one.verdict.status,
            "sha256": one.sha256,
            "cases": one.n_cases,
            "attacks": one.n_attacks,
            "dice_clean": one.clean.mean,
            "headline": one.headline.attack,
            "threat_model": one.headline.threat,
            "dice_under_attack": one.headline.dice.mean,
        }
        for one in evidence.summaries
    }

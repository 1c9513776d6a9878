"""Commands that share and deploy bundles: bundle, adopt, wrap, package, fetch, label_app."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from vafa_monai.cli.argument import beside
from vafa_monai.cli.command import parsed
from vafa_monai.cli.say import say
from vafa_monai.label.app import install_app
from vafa_monai.runs.adopt import Adoption
from vafa_monai.runs.foreign import foreign_config
from vafa_monai.runs.shipped import copy_bundle
from vafa_monai.runs.wrap import Wrapping
from vafa_monai.sharing.archive import MOST_BYTES
from vafa_monai.sharing.fetch import fetch_bundle
from vafa_monai.sharing.package import Package

__all__ = ["adopt", "bundle", "fetch", "label_app", "package", "wrap"]

UNTRIED = "the network, its weights in it and its export, because that executes the configs; --trust tries them"


def bundle(name: str, output: str = ".") -> None:
    """Copy a bundle that comes with the package, without weights, to a folder of your own.

    Args:
        name: its name, such as ``mni152_unetr_segmentation``.
        output: folder to put it into.
    """
    say(f"bundle: {copy_bundle(name, output)}")


def adopt(
    bundle: str,
    output: str,
    dataset_dir: str | None = None,
    classes: str | None = None,
    value_range: str | None = None,
    **overrides: Any,
) -> None:
    """Make a copy of another's bundle that our commands take; its configs are executed.

    Args:
        bundle: folder of the bundle, such as one of the model zoo; it is only read.
        output: folder of the copy; it appears whole or not at all.
        dataset_dir: folder of the data; by default the one of the bundle.
        classes: names of the output channels with commas between, background first; by default those of metadata.json.
        value_range: lowest and highest intensity that the network gets, with a comma between; by default what the
            preprocessing says.
        **overrides: config ids of the bundle and values.
    """
    job = Adoption(
        bundle=Path(bundle),
        output=Path(output),
        overrides=parsed(foreign_config(Path(bundle)), beside(overrides, dataset_dir=dataset_dir)),
        classes=None if classes is None else [name.strip() for name in classes.split(",")],
        value_range=None if value_range is None else ends(value_range),
        say=say,
    )
    say(f"bundle: {job.write()}")


def wrap(  # noqa: PLR0913 - what a network does not say of itself
    network: str,
    output: str,
    images: str,
    labels: str,
    classes: str,
    weights: str | None = None,
    roi_size: str | None = None,
    value_range: str | None = None,
    sigmoid: bool = False,
) -> None:
    """Make a bundle of a network that has none, which all commands but train and harden take.

    Args:
        network: file of torch.jit.save or, if it ends with .pt2, of torch.export.save, or package.module:function,
            which returns the network; each is executed.
        output: folder of the bundle; it appears whole or not at all.
        images: folder of the images, in the intensities that the network gets.
        labels: folder of the labels, in the order of the images by name and in their grid.
        classes: names of the output channels with commas between, background first.
        weights: file of the weights; by default those that the network comes with.
        roi_size: window in voxels, such as 96,96,96, that the network is slid with; by default it gets whole volumes.
        value_range: lowest and highest intensity with a comma between; by default the range of each case.
        sigmoid: every channel says yes or no by itself; labels then have the channels along their last axis.
    """
    job = Wrapping(
        network=network,
        output=Path(output),
        images=images,
        labels=labels,
        classes=[name.strip() for name in classes.split(",")],
        weights=None if weights is None else Path(weights),
        roi_size=None if roi_size is None else whole_numbers("roi_size", roi_size),
        value_range=None if value_range is None else ends(value_range),
        sigmoid=sigmoid,
        say=say,
    )
    say(f"bundle: {job.write()}")


def whole_numbers(name: str, text: str) -> list[int]:
    """Return the three whole numbers of a text."""
    parts = text.strip("[]() ").split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"{name} must be three whole numbers with commas between, got {text!r}.")
    return [int(part) for part in parts]


def ends(text: str) -> list[float]:
    """Return the two ends of a range."""
    try:
        first, last = (float(end) for end in text.split(","))
    except ValueError:
        raise ValueError(f"value_range must be two numbers with a comma between, got {text!r}.") from None
    return [first, last]


def package(
    bundle: str,
    output: str | None = None,
    results: str | None = None,
    base_url: str | None = None,
    smoke: bool = True,
    check: bool = False,
    trust: bool = False,
) -> None:
    """Check a bundle as the model zoo does, try it, describe it, and pack it; faults end with exit code 3.

    Args:
        bundle: folder of the bundle; it is only read.
        output: the zip file to write; by default ``<bundle>_v<version>.zip`` here.
        results: folder of results and audits, for model card and metadata.
        base_url: where files over 25 MB will be, for ``large_files.yml``.
        smoke: run ``inference.json`` with every checkpoint.
        check: check only, and write nothing; what would execute the configs is left out.
        trust: let ``check`` execute the configs, too, to build the network and load its weights.
    """
    job = Package(
        bundle=Path(bundle),
        output=None if output is None else Path(output),
        results=None if results is None else Path(results),
        base_url=base_url,
        smoke=smoke,
        say=say,
    )
    faults = job.faults(trust=trust or not check)
    for fault in faults:
        say(f"fault: {fault}")
    if faults:
        sys.exit(3)
    say("no faults")
    if check and not trust:
        say(f"not tried: {UNTRIED}")
    if not check:
        say(f"package: {job.write()}")


def fetch(source: str, output: str = ".", sha256: str | None = None, most_bytes: int = MOST_BYTES) -> None:
    """Fetch a packaged bundle and verify it before anything of it is loaded.

    Args:
        source: zip file, folder, address of a zip file, or ``hub:<owner>/<repository>[@<revision>]``.
        output: folder to put the bundle into.
        sha256: hash that the zip file must have, or the folder, as ``fetch`` tells it.
        most_bytes: how many bytes a download may have and a bundle may become.
    """
    say(f"bundle: {fetch_bundle(source, output, sha256=sha256, most_bytes=most_bytes, say=say)}")


def label_app(folder: str) -> None:
    """Add robustness scoring to a downloaded ``monaibundle`` app of MONAI Label.

    Args:
        folder: the app, which ``monailabel apps --download --name monaibundle`` made.
    """
    say(f"app: {folder}" + ("" if install_app(folder) else ", which had the scoring"))

"""A bundle around a network that has none: an exported file or a function of a module, with images and labels."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import nn

from vafa_monai.data.files import file_name, write_json
from vafa_monai.data.weights import read_weights
from vafa_monai.runs.adopt import EVALUATED, LOADED, MEAN_DICE, Adoption

__all__ = ["Wrapping"]

BOTH = ["image", "label"]
FILES = (".ts", ".pt", ".pt2")
INSIDE = "network"  # name of the copy of a file, with its own ending
SHARED = {
    "imports": ["$import monai"],
    "bundle_root": ".",
    "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
    "network": "$@network_def.to(@device)",
    "val_batch_size": 1,
    "num_workers": 0,
}
WINDOWS = {"_target_": "SlidingWindowInferer", "overlap": 0.25}
LOAD = [
    {"_target_": "LoadImaged", "keys": BOTH},
    {"_target_": "EnsureChannelFirstd", "keys": BOTH},
    {"_target_": "EnsureTyped", "keys": BOTH, "dtype": "$torch.float32"},
]


def numbers(text: str) -> list[int]:
    """Return the numbers in a name.

    Example:
        >>> numbers("case_010_0000"), numbers("case_10")
        ([10, 0], [10])
    """
    return [int(digits) for digits in re.findall(r"\d+", text)]


def natural(path: Path) -> list[Any]:
    """Return what sorts names by their numbers: ``case_2`` before ``case_10``, whatever follows."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", file_name(path))]


@dataclass(frozen=True, kw_only=True)
class Wrapping:
    """What makes a bundle of a network, so that every command that measures takes it.

    The cases are taken as their files have them: channel first, without another spacing or scale. They are in the
    intensities that the network was trained on, and labels lie in the grid of the images.

    Args:
        network: a file of ``torch.jit.save`` or ``torch.export.save`` (``.pt2``), or ``package.module:function``, which
            returns the network; each is a program and is executed.
        output: the folder to make, which must not exist.
        images: folder of the images.
        labels: folder of the labels, one for each image in the order of their names; class indices, or regions along
            the last axis of 4D files under a sigmoid.
        classes: names of the channels of the network, under a softmax with the background first.
        weights: file of the weights; by default those that the network comes with.
        sigmoid: every channel says yes or no by itself; one channel always does.
        roi_size: window that the network is slid with, ``(h, w, d)`` in voxels; ``None`` gives it whole volumes.
        value_range: lowest and highest intensity; ``None`` is the range of each case.
        say: told of every finding.

    Raises:
        ValueError: if there are no cases, images and labels are not as many, or the network is none.
    """

    network: str
    output: Path
    images: str
    labels: str
    classes: Sequence[str]
    weights: Path | None = None
    sigmoid: bool = False
    roi_size: Sequence[int] | None = None
    value_range: Sequence[float] | None = None
    say: Callable[[str], None] = print

    def __post_init__(self) -> None:
        """Refuse what cannot be cases or a network, before anything is written."""
        images, labels = self.cases
        if not images or len(images) != len(labels):
            got = f"{len(images)} of {self.images!r} and {len(labels)} of {self.labels!r}"
            raise ValueError(f"images and labels must be as many files, one at least, got {got}.")
        for image, label in zip(images, labels, strict=True):
            one, other = (numbers(file_name(path)) for path in (image, label))
            if one[: len(other)] != other[: len(one)]:
                raise ValueError(
                    f"images and labels must have the same numbers in their names, got {image!r} and {label!r}."
                )
        if self.is_file and not Path(self.network).is_file():
            raise ValueError(f"network must be a file, got {self.network!r}.")
        if not self.is_file and ":" not in self.network:
            rule = f"be a file that ends with {', '.join(FILES)}, or package.module:function"
            raise ValueError(f"network must {rule}, got {self.network!r}.")

    @property
    def is_file(self) -> bool:
        """Whether the network is a file."""
        return self.network.endswith(FILES)

    @property
    def cases(self) -> tuple[list[str], list[str]]:
        """The files of images and of labels, in the order of their names."""
        images, labels = (sorted(Path(one).resolve().glob("[!.]*"), key=natural) for one in (self.images, self.labels))
        return [str(path) for path in images], [str(path) for path in labels]

    def write(self) -> Path:
        """Write the bundle, whole or not at all.

        Returns:
            Its folder.
        """
        with tempfile.TemporaryDirectory() as place:
            bundle = Path(place) / Path(self.output).name
            (bundle / "models").mkdir(parents=True)
            if self.is_file:
                shutil.copyfile(self.network, bundle / "models" / self._copy)
            write_json(bundle / "configs" / "train.json", self.config())
            network = self._made(bundle)
            weights = network.state_dict() if self.weights is None else read_weights(self.weights, network)
            torch.save(dict(weights), bundle / "models" / "model.pt")
            job = Adoption(
                bundle=bundle,
                output=Path(self.output),
                classes=self.classes,
                value_range=self.value_range,
                say=self.say,
            )
            return job.write()

    @property
    def _copy(self) -> str:
        return INSIDE + Path(self.network).suffix

    def _made(self, bundle: Path) -> nn.Module:
        """Build the network."""
        parser = ConfigParser({**self.config(), "bundle_root": str(bundle)})
        try:
            network = parser.get_parsed_content("network_def")
        except RuntimeError as error:  # MONAI's, around what the function raised
            raise ValueError(f"network must be made by {self.network!r}, got {error.__cause__ or error}.") from error
        if not isinstance(network, nn.Module):
            raise ValueError(f"network must be a torch module, got {type(network).__name__} from {self.network!r}.")
        return network

    def config(self) -> dict[str, Any]:
        """Return the config of an evaluation of the network."""
        kind = self._kind
        metric = {**MEAN_DICE["val_mean_dice"], "include_background": "sigmoid" in kind}
        key_metric = {"key_val_metric": {"val_mean_dice": metric}}
        validate = {
            **LOADED,
            "preprocessing": {"_target_": "Compose", "transforms": LOAD},
            "data": [dict(zip(BOTH, pair, strict=True)) for pair in zip(*self.cases, strict=True)],
            "inferer": {**WINDOWS, "roi_size": list(self.roi_size)} if self.roi_size else {"_target_": "SimpleInferer"},
            "postprocessing": {"_target_": "Compose", "transforms": self._postprocessing(kind)},
            "handlers": [],
            "evaluator": {"_target_": "SupervisedEvaluator", **EVALUATED, **key_metric},
        }
        return {**SHARED, "network_def": self._definition(), "validate": validate}

    def _definition(self) -> dict[str, Any]:
        """Return the config of the network."""
        if not self.is_file:
            return {"_target_": self.network.replace(":", ".")}
        path = f"$@bundle_root + '/models/{self._copy}'"
        made = {"_target_": "vafa_monai.networks.load_network", "path": path}
        fixed = self._copy.endswith(".pt2")  # its mode is that of its export
        return {"_target_": "vafa_monai.inferers.OutputAdapter", "network": made} if fixed else made

    def _postprocessing(self, kind: dict[str, bool]) -> list[dict[str, Any]]:
        """Return what makes masks of logits."""
        activation = {"_target_": "Activationsd", "keys": "pred", **kind}
        if "sigmoid" in kind:
            return [activation, {"_target_": "AsDiscreted", "keys": "pred", "threshold": 0.5}]
        masks = {"keys": ["pred", "label"], "argmax": [True, False], "to_onehot": len(self.classes)}
        return [activation, {"_target_": "AsDiscreted", **masks}]

    @property
    def _kind(self) -> dict[str, bool]:
        """The activation of the logits."""
        return {"sigmoid": True} if self.sigmoid or len(self.classes) == 1 else {"softmax": True}

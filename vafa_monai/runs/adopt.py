"""A foreign bundle, adopted: a copy that every command takes, made of its configs and of what its first cases say."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose
from torch import Tensor, nn

from vafa_monai.attacks.ascent import require_tensor
from vafa_monai.data.files import read_json, whole_folder, write_json
from vafa_monai.runs.bundle_run import make_importable
from vafa_monai.runs.shipped import METADATA, copy_tree, overlay_folder

__all__ = ["Adoption", "foreign_config"]

CONFIGS = ("train.json", "train.yaml", "train.yml")
NEEDED = (  # MONAI's ids of what an evaluation is made of
    "network_def",
    "network",
    "device",
    "validate#dataset#data",
    "validate#preprocessing",
    "validate#inferer",
    "validate#postprocessing",
    "validate#evaluator",
)
MEASURED = 3  # cases whose intensities are looked at
SLACK = 1e-3  # of the width of a range
LEFT_OUT = ("eval", "__pycache__", ".*.lock", ".*.partial")
SCALED = {  # transforms of intensities that say the range that they lead to, by the names of its ends
    "ScaleIntensityRanged": ("b_min", "b_max"),
    "ScaleIntensityRangePercentilesd": ("b_min", "b_max"),
    "ScaleIntensityd": ("minv", "maxv"),
}
INTENSITIES = ("Intensit", "Normalize", "Contrast")  # what the names of such transforms have
GRID = [  # what the network says in its own grid, beside what the bundle makes of it
    {"_target_": "CopyItemsd", "keys": "pred", "names": "grid_pred"},
    {"_target_": "AsDiscreted", "keys": "grid_pred", "argmax": True},
]


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What is found out about a bundle of others, and the copy that is made of it.

    Its ``train.json`` gets the ids that the overlays of this package ask for, each with where it was found; overlays
    are added; its own preprocessing, inferer, postprocessing and metric decide, in the grid that they have. The bundle
    itself is only read. Its configs are code and are executed.

    Args:
        bundle: folder of the bundle, with MONAI's ids ``network_def`` and ``validate#…`` in ``configs/train.json`` or
            ``train.yaml``.
        output: the folder to make, which must not exist.
        overrides: ids of the bundle and their values, such as ``dataset_dir``.
        classes: names of the output channels, background first; by default those of ``metadata.json``.
        value_range: lowest and highest intensity that the network gets; by default what its preprocessing says, or
            else, for inputs that are standardized, the range of each case.
        say: told of every finding.
    """

    bundle: Path
    output: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    value_range: Sequence[float] | None = None
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse what has none of the ids, all that are missing at once."""
        for name in ("bundle", "output"):
            object.__setattr__(self, name, Path(getattr(self, name)).resolve())
        if self.output.exists():
            raise ValueError(f"output must be a new folder, got {str(self.output)!r}.")
        missing = [name for name in NEEDED if name not in self.parser]
        if missing:
            raise ValueError(f"bundle must have {', '.join(NEEDED)} in its configs/train, got no {missing}.")

    @cached_property
    def parser(self) -> ConfigParser:
        """Its parsed config."""
        make_importable(self.bundle)
        parser = ConfigParser(foreign_config(self.bundle))
        for name, value in {"bundle_root": str(self.bundle), **self.overrides}.items():
            if name not in parser:
                raise ValueError(f"override must be an id of configs/train, got {name!r}.")
            parser[name] = value
        parser.parse()
        return parser

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """What its metadata say, empty without them."""
        path = self.bundle / METADATA
        return read_json(path, "metadata.json") if path.is_file() else {}

    @cached_property
    def cases(self) -> dict[str, list[dict[str, Any]]]:
        """Its cases by the parts of a datalist; those that it validates on are tested."""
        found = {"test": self._listed("validate#dataset#data"), "training": self._listed("train#dataset#data")}
        if not found["test"]:
            where = {name: self.parser[name] for name in ("dataset_dir", *self.overrides) if name in self.parser}
            raise ValueError(f"bundle must find a case to validate on, got none with {where}.")
        wrong = [case for case in found["test"] if not {"image", "label"} <= case.keys()]
        if wrong:
            raise ValueError(f"cases must have an image and a label, got one of {sorted(wrong[0])}.")
        return found

    def _listed(self, name: str) -> list[dict[str, Any]]:
        return [dict(case) for case in self.parser.get_parsed_content(name)] if name in self.parser else []

    @cached_property
    def measured(self) -> tuple[tuple[int, ...], float, float]:
        """Shape ``(C, H, W, D)`` of the first case as the network gets it; lowest and highest intensity of a few."""
        preprocessing = self.parser.get_parsed_content("validate#preprocessing")
        images, labels = [], []
        for case in self.cases["test"][:MEASURED]:
            loaded = preprocessing(dict(case))
            images.append(torch.as_tensor(loaded["image"]))
            labels.append(torch.as_tensor(loaded["label"]))
        if images[0].ndim != 4:
            rule = "have volumes of three dimensions"
            raise ValueError(f"bundle must {rule}, got images of shape {tuple(images[0].shape)} after preprocessing.")
        if len(labels[0]) != 1:
            raise ValueError(f"labels must have one channel of class indices, got {len(labels[0])} channels.")
        low, high = min(float(one.min()) for one in images), max(float(one.max()) for one in images)
        return tuple(images[0].shape), low, high

    @cached_property
    def roi_size(self) -> list[int]:
        """The window of its inferer, or the volume."""
        size = getattr(self.parser.get_parsed_content("validate#inferer"), "roi_size", None)
        shape = self.measured[0][1:]
        if size is None:
            return list(shape)
        sizes = [size] * 3 if isinstance(size, int) else list(size)
        return [one if one and one > 0 else edge for one, edge in zip(sizes, shape, strict=True)]

    @cached_property
    def channels(self) -> int:
        """How many channels the network answers with."""
        network = self.parser.get_parsed_content("network_def", instantiate=True)
        if not isinstance(network, nn.Module):
            raise ValueError(f"network_def must be a network, got {type(network).__name__}.")
        window = torch.zeros(1, self.measured[0][0], *self.roi_size)
        with torch.no_grad():
            logits: Tensor = require_tensor(network.eval()(window))
        if self._is_sigmoid() or logits.shape[1] == 1:
            rule = "give a softmax over classes"
            raise ValueError(f"network must {rule}, got {logits.shape[1]} channels under a sigmoid or a threshold.")
        return logits.shape[1]

    def _is_sigmoid(self) -> bool:
        """Tell whether its postprocessing asks every channel by itself."""
        asked = [
            (getattr(one, "sigmoid", ())[:1], getattr(one, "threshold", ())[:1])
            for one in flat(self.parser.get_parsed_content("validate#postprocessing"))
            if type(one).__name__ in ("Activationsd", "AsDiscreted")
        ]
        return any(sigmoid == (True,) or (threshold and threshold[0] is not None) for sigmoid, threshold in asked)

    def named_classes(self) -> tuple[list[str], str]:
        """Return the names of the channels, and where they were found."""
        told, source = self.classes, "--classes"
        if told is None:
            outputs = self.metadata.get("network_data_format", {}).get("outputs", {})
            channels = (
                next((one.get("channel_def") for one in outputs.values() if isinstance(one, Mapping)), None) or {}
            )
            told, source = [str(channels[key]) for key in sorted(channels, key=int)], f"channel_def of {METADATA}"
        if len(told) != self.channels or len(set(told)) < len(told):
            rule = f"be the {self.channels} different names of the channels of the network, background first"
            raise ValueError(f"classes must {rule}, got {list(told)} from {source}; --classes says them.")
        return list(told), source

    def intensities(self) -> tuple[dict[str, Any], str]:
        """Return the ids that say which intensities there are, and where they were found.

        Raises:
            ValueError: if the cases contradict it.
        """
        _, low, high = self.measured
        ends, physical, source = self.value_range, None, "--value_range"
        if ends is None:
            ends, physical, source = self._stated
        if ends is None:
            return {"value_range": [0.0, 1.0], "physical_range": None, "physical_unit": None}, source
        first, last = (float(end) for end in ends)
        room = SLACK * (last - first)
        if not first < last or low < first - room or high > last + room:
            got = f"{low:g} to {high:g} in the first cases, beside {first:g} to {last:g} from {source}"
            raise ValueError(f"intensities must lie in value_range, got {got}; --value_range says it.")
        unit = "HU" if physical is not None and "CT" in str(self.metadata.get("network_data_format")) else None
        return {
            "value_range": [first, last],
            "physical_range": physical if unit else None,
            "physical_unit": unit,
        }, source

    @cached_property
    def _stated(self) -> tuple[list[float] | None, list[float] | None, str]:
        """The range that its last transform of intensities leads to, that before it, and the name of the transform."""
        several = [one for one in flat(self.parser.get_parsed_content("validate#preprocessing")) if _scales(one)]
        name = type(several[-1]).__name__ if several else "no transform of intensities"
        scaler = getattr(several[-1], "scaler", None) if several else None
        ends: list[Any] = [getattr(scaler, end, None) for end in SCALED.get(name, ())]
        if not ends or None in ends or getattr(scaler, "clip", True) is not True:
            return None, None, f"{name}: the range of each case"
        before: list[Any] = [getattr(scaler, end, None) for end in ("a_min", "a_max")]
        return ends, None if None in before else before, name

    def ids(self) -> dict[str, Any]:
        """Return what the overlays ask for, by its config id."""
        classes, of_classes = self.named_classes()
        intensities, of_intensities = self.intensities()
        told = {"classes": of_classes, "value_range": of_intensities, "roi_size": "validate#inferer"}
        for name, source in told.items():
            value = {"classes": classes, "roi_size": self.roi_size, **intensities}[name]
            self.say(f"{name}: {value} ({source})")
        shape = self.measured[0]
        return {
            "adopted": {name: deepcopy(self._own[name]) for name in ("preprocessing", "postprocessing")},
            "found_in": told,
            "classes": classes,
            "num_classes": self.channels,
            **intensities,
            "image_channels": shape[0],
            "roi_size": self.roi_size,
            "block_size": [min(32, size) for size in self.roi_size],
            "least_size": None,
            "eps": "$4 / 255",
            "q_max": 20,
            "model_file": "model.pt",
            "datalist": "$@bundle_root + '/dataset.json'",
            "val_batch_size": 1,
            "num_workers": 0,
            "cache_rate": 0.0,
        }

    @cached_property
    def _own(self) -> dict[str, Any]:
        """Its config of the validation, before anything was parsed."""
        return dict(foreign_config(self.bundle)["validate"])

    def train_config(self) -> dict[str, Any]:
        """Return its config of the training with the ids."""
        config = foreign_config(self.bundle)
        imports = [*config.get("imports", [])]
        imports += [one for one in ("$import glob", "$import os") if one not in imports]
        defaults = {"ckpt_dir": "$@bundle_root + '/models'", "output_dir": "$@bundle_root + '/eval'", "seed": 0}
        kept = {"initialize": [], **defaults, **config, **self.overrides}
        return {**kept, "imports": imports, "bundle_root": ".", **self.ids()}

    def evaluate_config(self) -> dict[str, Any]:
        """Return the overlay of the evaluation, with the bundle's own processing in it."""
        shared = read_json(overlay_folder() / "evaluate.json", "config")
        ours = {name: value for name, value in shared.items() if name not in ("native_label", "image_channels")}
        ours.pop("validate#preprocessing#transforms")
        ours.pop("validate#postprocessing#transforms")
        label = {"_target_": "CopyItemsd", "keys": "label", "names": "native_label"}
        standardized = self.intensities()[0]["value_range"] == [0.0, 1.0] and self._range_of_each()
        dataset = {"_target_": "Dataset", "data": "@validate#data", "transform": "@validate#preprocessing"}
        return {
            **ours,
            **(read_json(overlay_folder() / "zscored.json", "config") if standardized else {}),
            "validate#preprocessing": {"_target_": "Compose", "transforms": ["@adopted#preprocessing", label]},
            "validate#postprocessing": {"_target_": "Compose", "transforms": [*GRID, "@adopted#postprocessing"]},
            "validate#dataset": dataset,
            "validate#dataloader": {
                "_target_": "DataLoader",
                "dataset": "@validate#dataset",
                "batch_size": "@val_batch_size",
                "num_workers": "@num_workers",
            },
            "validate#evaluator#val_data_loader": "@validate#dataloader",
            "validate#evaluator#network": "@network",
            "validate#evaluator#postprocessing": "@validate#postprocessing",
            "validate#evaluator#val_handlers": "@validate#handlers",
        }

    def _range_of_each(self) -> bool:
        return self.value_range is None and self._stated[0] is None

    def write(self) -> Path:
        """Write the copy, whole or not at all.

        Returns:
            Its folder.
        """
        train, evaluate = self.train_config(), self.evaluate_config()
        with whole_folder(self.output) as folder:
            copy_tree(self.bundle, folder, LEFT_OUT)
            configs = folder / "configs"
            for name in ("attack.json", "tiles.json", "zscored.json"):
                shutil.copyfile(overlay_folder() / name, configs / name)
            shutil.copytree(overlay_folder() / "attacks", configs / "attacks", dirs_exist_ok=True)
            write_json(configs / "train.json", json.loads(json.dumps(train, default=str)))
            write_json(configs / "evaluate.json", evaluate)
            write_json(folder / "dataset.json", {"name": self.bundle.name, **self.cases})
        return self.output


def foreign_config(bundle: Path) -> dict[str, Any]:
    """Return the config of the training of any bundle, JSON or YAML, as it is written.

    Raises:
        ValueError: if there is none.
    """
    for name in CONFIGS:
        if (bundle / "configs" / name).is_file():
            return dict(ConfigParser.load_config_file(str(bundle / "configs" / name)))
    raise ValueError(f"bundle must be a folder with configs/train.json or train.yaml, got {str(bundle)!r}.")


def flat(transform: Any) -> Iterator[Any]:
    """Yield every transform of a composition, in its order.

    Example:
        >>> from monai.transforms import Compose, Flipd
        >>> [type(one).__name__ for one in flat(Compose([Compose([Flipd("image")]), Flipd("label")]))]
        ['Flipd', 'Flipd']
    """
    if not isinstance(transform, Compose):
        yield transform
        return
    for one in transform.transforms:
        yield from flat(one)


def _scales(transform: Any) -> bool:
    """Tell whether a transform changes the intensities of the image."""
    of_image = "image" in getattr(transform, "keys", ())
    return of_image and any(word in type(transform).__name__ for word in INTENSITIES)

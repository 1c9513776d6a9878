"""A foreign bundle, adopted: a copy that every command takes, made of its configs and of what its first cases say."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vafa_monai.data.files import read_json, whole_folder, write_json
from vafa_monai.runs.adopt_training import harden_overlay, split_training, trainable_ids, why_not_trainable
from vafa_monai.runs.foreign import SLACK, ForeignBundle, foreign_config
from vafa_monai.runs.shipped import METADATA, copy_tree, overlay_folder

__all__ = ["Adoption"]

LEFT_OUT = ("eval", "__pycache__", ".*.lock", ".*.partial")
SHARED = ("attack.json", "tiles.json", "zscored.json")
OWN = ("preprocessing", "postprocessing", "inferer")  # what decides a figure, kept as the bundle has it
GRID = [{"_target_": "CopyItemsd", "keys": "pred", "names": "grid_pred"}]  # in the network's own grid
CLASSES = [{"_target_": "AsDiscreted", "keys": "grid_pred", "argmax": True}]
OWN_LABEL = [{"_target_": "AsDiscreted", "keys": "label", "argmax": True}]  # indices, from one channel a class
PLACES = {
    "ckpt_dir": "$@bundle_root + '/models'",
    "output_dir": "$@bundle_root + '/eval'",
    "dataset_dir": "@bundle_root",
}
LOADED = {
    "dataset": {"_target_": "Dataset", "data": "@validate#data", "transform": "@validate#preprocessing"},
    "dataloader": {
        "_target_": "DataLoader",
        "dataset": "@validate#dataset",
        "batch_size": "@val_batch_size",
        "num_workers": "@num_workers",
    },
}
EVALUATED = {
    "device": "@device",
    "val_data_loader": "@validate#dataloader",
    "network": "@network",
    "inferer": "@validate#inferer",
    "postprocessing": "@validate#postprocessing",
    "val_handlers": "@validate#handlers",
}
MEAN_DICE = {
    "val_mean_dice": {
        "_target_": "MeanDice",
        "output_transform": "$monai.handlers.from_engine(['pred', 'label'])",
    }
}
ADAPTER = "vafa_monai.inferers.OutputAdapter"


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """What is found out about a bundle of others, and the copy that is made of it.

    Its ``train.json`` gets the ids that the overlays of this package ask for, each with where it was found; overlays
    are added; its own preprocessing, inferer, postprocessing and metric decide, in the grid that they have. The bundle
    itself is only read. Its configs are code and are executed.

    Args:
        bundle: folder of the bundle, see :class:`vafa_monai.runs.foreign.ForeignBundle`.
        output: the folder to make, which must not exist.
        overrides: ids of the bundle and their values, such as ``dataset_dir``.
        classes: names of the output channels, under a softmax with the background first; by default those of
            ``metadata.json``.
        value_range: lowest and highest intensity that the network gets; by default what its preprocessing says, or
            else, for inputs that are standardized, the range of each case.
        say: told of every finding.

    Raises:
        ValueError: if ``output`` exists, the bundle has not what an evaluation needs, or its cases contradict it.
    """

    bundle: Path
    output: Path
    overrides: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    value_range: Sequence[float] | None = None
    say: Callable[[str], None] = field(default=logging.getLogger(__name__).info, repr=False)

    def __post_init__(self) -> None:
        """Refuse a folder that is there, and what has no evaluation."""
        for name in ("bundle", "output"):
            object.__setattr__(self, name, Path(getattr(self, name)).resolve())
        if self.output.exists():
            raise ValueError(f"output must be a new folder, got {str(self.output)!r}.")
        _ = self.foreign.places

    @cached_property
    def foreign(self) -> ForeignBundle:
        """What is read."""
        return ForeignBundle(bundle=self.bundle, overrides=self.overrides)

    @property
    def channels(self) -> int:
        """How many channels the network answers with."""
        return self.foreign.logits[0]

    def named_classes(self) -> tuple[list[str], str]:
        """Return the names of the channels, and where they were found."""
        told, source = self.classes, "--classes"
        if told is None:
            told, source = self.foreign.named_channels, f"channel_def of {METADATA}"
        first = "" if self.foreign.output.is_sigmoid else ", background first"
        if len(told) != self.channels or len(set(told)) < len(told):
            rule = f"be the {self.channels} different names of the channels of the network{first}"
            raise ValueError(f"classes must {rule}, got {list(told)} from {source}; --classes says them.")
        return list(told), source

    def intensities(self) -> tuple[dict[str, Any], str]:
        """Return the ids that say which intensities there are, and where they were found.

        Raises:
            ValueError: if the cases contradict it.
        """
        low, high = self.foreign.measured.low, self.foreign.measured.high
        ends, physical, source = self.value_range, None, "--value_range"
        if ends is None:
            ends, physical, source = self.foreign.stated_range
        if ends is None:
            return {"value_range": [0.0, 1.0], "physical_range": None, "physical_unit": None}, source
        first, last = (float(end) for end in ends)
        room = SLACK * (last - first)
        if not first < last or low < first - room or high > last + room:
            got = f"{low:g} to {high:g} in the first cases, beside {first:g} to {last:g} from {source}"
            raise ValueError(f"intensities must lie in value_range, got {got}; --value_range says it.")
        unit = "HU" if physical and "CT" in str(self.foreign.metadata.get("network_data_format")) else None
        return {
            "value_range": [first, last],
            "physical_range": physical if unit else None,
            "physical_unit": unit,
        }, source

    @property
    def standardized(self) -> bool:
        """Whether nothing says a range: strengths are then of the range of each case."""
        return self.value_range is None and self.foreign.stated_range[0] is None

    def ids(self) -> dict[str, Any]:
        """Return what the overlays ask for, by its config id."""
        classes, of_classes = self.named_classes()
        intensities, of_intensities = self.intensities()
        output = self._output(classes)
        told = {"classes": of_classes, "output": "postprocessing and labels", "value_range": of_intensities}
        told["roi_size"] = self.foreign.places["inferer"] or "the first case"
        found = {"classes": classes, "output": output, "roi_size": self.foreign.roi_size, **intensities}
        for name, source in told.items():
            self.say(f"{name}: {found[name]} ({source})")
        return {
            "adopted": {name: self._part(name) for name in OWN},
            "found_in": told,
            "num_classes": self.channels,
            **found,
            "image_channels": self.foreign.measured.shape[0],
            "block_size": [min(32, size) for size in self.foreign.roi_size],
            "least_size": None,
            "eps": "$4 / 255",
            "q_max": 20,
            "model_file": "model.pt",
            "datalist": "$@dataset_dir + '/dataset.json'",
            "val_batch_size": 1,
            "num_workers": 0,
            "cache_rate": 0.0,
        }

    def _output(self, classes: Sequence[str]) -> Any:
        """Return what the channels mean, as a config has it; a channel that is called so is the background."""
        kind = str(self.foreign.output.kind)
        background = next((number for number, name in enumerate(classes) if name.lower() == "background"), None)
        if self.foreign.one_hot and background is None:
            background = 0  # of class indices it is the first
        usual = background is None if self.foreign.output.is_sigmoid else background in (0, None)
        return kind if usual else {"_target_": "vafa_monai.losses.Output", "kind": kind, "background": background}

    def _part(self, name: str) -> Any:
        """Return the config of a part of the evaluation; without an inferer, the network sees whole volumes."""
        return self.foreign.part(name) if self.foreign.places[name] else {"_target_": "SimpleInferer"}

    def network(self) -> dict[str, Any]:
        """Return the ids of the network: its definition, and the one that is evaluated."""
        places, config = self.foreign.places, self.foreign.config
        found: dict[str, Any] = {} if "network_def" in config else {"network_def": f"@{places['network']}"}
        if self.foreign.left_out:
            names = ", ".join(self.foreign.left_out)
            self.say(f"network_def: {names} is left out, which its class does not take in MONAI {version('monai')}")
            found["network_def"] = dict(config["network_def"])
        entry = self.foreign.logits[1]
        if entry is not None:
            self.say(f"network: its logits are {entry} of what it returns")
            inside = found.get("network_def", config.get("network_def"))
            found["network_def"] = {"_target_": ADAPTER, "network": inside, "entry": entry}
        changed = found or places["network"] != "network"
        return {**found, "network": "$@network_def.to(@device)"} if changed else {}

    def train_config(self) -> dict[str, Any]:
        """Return its config of the training with the ids."""
        config = foreign_config(self.bundle)
        imports = [*config.get("imports", [])]
        imports += [one for one in ("$import glob", "$import os") if one not in imports]
        device = "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')"
        kept = {"initialize": [], "device": device, "seed": 0, **config, **self.overrides}
        validate = {**config.get("validate", {}), "evaluator": self.foreign.part("evaluator")}
        places = {"validate": validate, "imports": imports, "bundle_root": "."}
        found = {**kept, **places, **PLACES, **self.network(), **self.ids()}
        return {**found, **self._training(found)} if self.trainable else found

    @cached_property
    def trainable(self) -> bool:
        """Whether the copy can be hardened; if not, why is said."""
        reason = why_not_trainable(self.foreign, self.foreign.cases, not self.standardized)
        self.say(f"harden: not possible, {reason}" if reason else "harden: with the bundle's own trainer and loss")
        return not reason

    def _training(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the ids of a training, and of its validation on the cases that select the model."""
        ids = trainable_ids(self.foreign)
        evaluator = self.foreign.part("evaluator")
        validate = {
            **config["validate"],
            "key_metric": self.foreign.key_metric or MEAN_DICE,
            "handlers": [{"_target_": "StatsHandler", "iteration_log": False}],
            "data": "$monai.data.load_decathlon_datalist(@datalist, True, 'validation')",
            "preprocessing": {"_target_": "Compose", "transforms": ["@adopted#preprocessing"]},
            "postprocessing": {"_target_": "Compose", "transforms": ["@adopted#postprocessing"]},
            "inferer": "@adopted#inferer",
            **LOADED,
            "evaluator": {**evaluator, **EVALUATED, "key_val_metric": "@validate#key_metric"},
        }
        theirs = foreign_config(self.bundle).get("train", {})
        first = [*config["initialize"], "$monai.utils.set_determinism(seed=@seed)"]
        return {**ids, "train": {**theirs, **ids["train"]}, "validate": validate, "initialize": first}

    def evaluate_config(self) -> dict[str, Any]:
        """Return the overlay of the evaluation, with the bundle's own processing in it."""
        shared = read_json(overlay_folder() / "evaluate.json", "config")
        ours = {name: value for name, value in shared.items() if name not in ("native_label", "image_channels")}
        ours.pop("validate#preprocessing#transforms")
        ours.pop("validate#postprocessing#transforms")
        labels: list[dict[str, Any]] = [{"_target_": "CopyItemsd", "keys": "label", "names": "native_label"}]
        if self.foreign.one_hot:  # attacks and measures take channels, its own postprocessing indices
            labels = [{"_target_": "AsDiscreted", "keys": "label", "to_onehot": "@num_classes"}, *labels]
        own = {"_target_": "vafa_monai.data.NamedCase", "transform": "@adopted#preprocessing"}
        grid = [
            *GRID,
            *([] if self.foreign.output.is_sigmoid else CLASSES),
            *(OWN_LABEL if self.foreign.one_hot else []),
        ]
        return {
            **ours,
            **(read_json(overlay_folder() / "zscored.json", "config") if self.standardized else {}),
            "validate#preprocessing": {"_target_": "Compose", "transforms": [own, *labels]},
            "validate#postprocessing": {"_target_": "Compose", "transforms": [*grid, "@adopted#postprocessing"]},
            "validate#inferer": "@adopted#inferer",
            **{f"validate#{name}": value for name, value in LOADED.items()},
            **{f"validate#evaluator#{name}": value for name, value in EVALUATED.items()},
        }

    def write(self) -> Path:
        """Write the copy, whole or not at all.

        Returns:
            Its folder.
        """
        train, evaluate = self.train_config(), self.evaluate_config()
        with whole_folder(self.output) as folder:
            copy_tree(self.bundle, folder, LEFT_OUT)
            configs = folder / "configs"
            for name in SHARED:
                shutil.copyfile(overlay_folder() / name, configs / name)
            shutil.copytree(overlay_folder() / "attacks", configs / "attacks", dirs_exist_ok=True)
            write_json(configs / "train.json", json.loads(json.dumps(train, default=str)))
            write_json(configs / "evaluate.json", evaluate)
            cases = self.foreign.cases
            if self.trainable:
                shutil.copytree(overlay_folder() / "hardening", configs / "hardening", dirs_exist_ok=True)
                write_json(configs / "harden.json", harden_overlay(overlay_folder(), self.foreign.output.is_sigmoid))
                cases = split_training(cases)
            write_json(folder / "dataset.json", {"name": self.bundle.name, **cases})
        return self.output

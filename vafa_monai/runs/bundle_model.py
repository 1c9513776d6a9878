"""A checkpoint of a bundle, as benchmarks, studies and audits see it: configs, cases, network, content."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, load_decathlon_datalist
from monai.data.utils import affine_to_spacing
from monai.utils import convert_to_tensor, ensure_tuple
from torch import Tensor, nn

from vafa_monai.attacks.describe import describe
from vafa_monai.audit.audited_model import AuditCase, AuditedModel, Measured
from vafa_monai.audit.setting import AuditSettings
from vafa_monai.data.check import check_cases
from vafa_monai.data.files import read_json, sha256
from vafa_monai.data.weights import read_weights
from vafa_monai.losses.output import Output
from vafa_monai.metrics.organ_presence import require_one_hot
from vafa_monai.results.provenance import case_name, versions
from vafa_monai.runs.bundle_run import PLACES_AND_MEANS, BundleRun, digest

__all__ = ["BundleModel"]

ALONE: Mapping[str, Any] = MappingProxyType({"val_batch_size": 1, "cache_rate": 0.0})  # one case at a time
PARTS = ("training", "validation", "test")
CHECKED = {  # what decides whether cases can be attacked, by the arguments of check_cases
    "num_classes": "num_classes",
    "value_range": "image_range",
    "roi_size": "least_size",
    "in_channels": "image_channels",
    "output": "output",
}


@dataclass(frozen=True, kw_only=True)
class BundleModel:
    """One checkpoint of a bundle, under one attack or none; the configs are parsed once for all cases.

    Args:
        bundle: folder of the bundle.
        checkpoint: file of the weights.
        attack: name of the overlay, empty for none; under an attack, cases are loaded one by one.
        overrides: config ids and values, ``dataset_dir`` among them.
    """

    bundle: Path
    checkpoint: Path
    attack: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The label of the model."""
        return self.checkpoint.stem

    @cached_property
    def run(self) -> BundleRun:
        """The chain of configs; a bundle or an overlay that is not there is refused."""
        attack, alone = ([f"attacks/{self.attack}"], ALONE) if self.attack else ([], {})
        overrides = {**self.overrides, "ckpt_path": str(self.checkpoint), **alone}
        return BundleRun(bundle=self.bundle, overlays=["evaluate", *attack], overrides=overrides)

    @cached_property
    def parser(self) -> ConfigParser:
        """The parsed configs."""
        return self.run.workflow().parser

    def get(self, name: str) -> Any:
        """Return what a config id stands for."""
        return self.parser.get_parsed_content(name)

    @property
    def output(self) -> Output:
        """What the channels of the network mean; a bundle that does not say has a softmax."""
        return Output.of(self.get("output")) if "output" in self.parser else Output()

    def forget(self) -> None:
        """Let go of the parsed configs and the network in them; they are parsed again when they are asked for."""
        self.__dict__.pop("parser", None)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """What decides the result of a case under the attack beside its files: weights, attack, configs, versions."""
        told = {name: str(self.overrides[name]) for name in sorted(set(self.overrides) - set(PLACES_AND_MEANS))}
        contents = {path: read_json(self.bundle / path, "config") for path in self.run.configs}
        return {
            "checkpoint": sha256(self.checkpoint),
            "model": self.model,
            "attack": describe(self.get("applied_attack")),
            "seed": self.get("seed"),
            "configs": {path: digest(content) for path, content in contents.items()},
            "overrides": told,
            "versions": versions(),
        }

    def check(self, cases: Sequence[Mapping[str, Any]]) -> None:
        """Refuse cases that cannot be attacked, and two of one name."""
        known = {argument: self.get(name) for argument, name in CHECKED.items() if name in self.parser}
        check_cases(cases, preprocessing=self.get("validate#preprocessing"), unique_names=True, **known)

    def network(self) -> nn.Module:
        """Return a new network with the weights, in eval mode; a checkpoint of another network is refused."""
        network: nn.Module = self.parser.get_parsed_content("network_def", instantiate=True)
        network.load_state_dict(read_weights(self.checkpoint, network))
        return network.to(self.get("device")).eval()

    def cases(self) -> list[AuditCase]:
        """Return the cases as the network sees them, after all were checked."""
        self.check(self.get("validate#data"))
        preprocessing = self.get("validate#preprocessing")
        return [self._case(preprocessing(dict(case))) for case in self.get("validate#data")]

    def _case(self, loaded: Mapping[str, Any]) -> AuditCase:
        """Return one case as a batch of one, which is compared as the evaluation does it."""
        device, postprocessing, output = self.get("device"), self.get("validate#postprocessing"), self.output
        case = {key: value.to(device) if isinstance(value, Tensor) else value for key, value in loaded.items()}
        image, label = (convert_to_tensor(case[key], track_meta=True) for key in ("image", "label"))

        def masks(logits: Tensor) -> tuple[Tensor, Tensor]:
            found = postprocessing({**case, "pred": MetaTensor(logits[0], affine=image.affine)})
            pred, truth = (torch.as_tensor(found[key])[None] for key in ("pred", "label"))
            require_one_hot(pred, truth, output)
            return pred, truth

        return AuditCase(
            name=case_name(image),
            image=image.as_tensor()[None],
            label=label.as_tensor()[None],
            spacing=tuple(affine_to_spacing(image.affine).tolist()),
            postprocessing=masks,
        )

    def splits(self) -> dict[str, list[str]]:
        """Return the hashes of the images of every part of the data."""
        datalist, found = self.get("datalist"), {}
        for part in PARTS:
            try:
                listed = load_decathlon_datalist(datalist, True, part)
            except ValueError:  # the list has no such part
                logging.getLogger(__name__).info("%s has no part %r", datalist, part)
                continue
            found[part] = ["".join(map(sha256, ensure_tuple(case["image"]))) for case in listed]
        return found

    def audited(
        self,
        settings: AuditSettings,
        *,
        name: str | None = None,
        surrogate: BundleModel | None = None,
        splits: Mapping[str, Sequence[str]] | None = None,
        measured: Sequence[Measured] = (),
    ) -> AuditedModel:
        """Return the model for an audit.

        Args:
            settings: how hard the audit tries.
            name: label of the model, by default that of the file.
            surrogate: another model of the same bundle, for transfer.
            splits: hashes of the images of each part of the data, as :meth:`splits` has them.
            measured: results of the same weights.
        """
        weights = sha256(self.checkpoint)  # before they are read
        return AuditedModel(
            self.network(),
            self.cases(),
            self.get("classes"),
            name=self.model if name is None else name,
            checkpoint={"path": str(self.checkpoint), "sha256": weights},
            inferer=self.get("validate#inferer"),
            settings=settings,
            value_range=self.get("value_range"),
            surrogate=None if surrogate is None else surrogate.network(),
            splits=splits,
            measured=measured,
            output=self.output,
            batch_size=self.get("val_batch_size"),
        )

"""What the configs of a bundle say of a model that is audited: network, pipeline, cases, budgets, parts of the data."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor, list_data_collate, load_decathlon_datalist
from monai.data.utils import affine_to_spacing
from torch import nn

from vafa_monai.attacks import strength
from vafa_monai.audit import AuditCase, AuditSettings, AuditSubject, Measured
from vafa_monai.data import check_cases, read_json, read_weights, sha256
from vafa_monai.handlers.provenance import case_name
from vafa_monai.workflows.bundle_run import BundleRun

__all__ = ["BundleModel", "load_subject"]

PARTS = ("training", "validation", "test")
FROM_BUNDLE = ("eps", "q_max", "block_size", "seed")
CHECKED = {"num_classes": "num_classes", "value_range": "image_range", "roi_size": "least_size"}
AUDITED: tuple[str, ...] = (*FROM_BUNDLE, *CHECKED.values(), "network_def", "device", "datalist", "classes")  # is read
AUDITED += ("physical_range", "physical_unit", "value_range", "val_batch_size")
AUDITED += ("validate#preprocessing", "validate#data", "validate#inferer")
MODEL = "model.pt"  # whose metrics the metadata of a bundle state
STATED = ("mean_dice", "val_mean_dice", "dice", "val_dice")


class BundleModel:
    """The parsed configs of a bundle, for one checkpoint.

    Args:
        bundle: folder of the bundle.
        checkpoint: file of the weights.
        overrides: config ids and values, ``dataset_dir`` among them.

    Raises:
        ValueError: if the folder is no bundle.
    """

    def __init__(self, bundle: Path, checkpoint: Path, overrides: Mapping[str, Any]) -> None:
        self.checkpoint = checkpoint
        overrides = {**overrides, "ckpt_path": str(checkpoint)}
        self.run = BundleRun(bundle=bundle, overlays=["evaluate"], overrides=overrides)
        self.parser: ConfigParser = self.run.workflow().parser

    def get(self, name: str) -> Any:
        """Return what a config id stands for."""
        return self.parser.get_parsed_content(name)

    def network(self) -> nn.Module:
        """Return the network with its weights, in eval mode.

        Raises:
            ValueError: if the checkpoint is missing or of another network.
        """
        network: nn.Module = self.parser.get_parsed_content("network_def", instantiate=True)
        network.load_state_dict(read_weights(self.checkpoint, network))
        return network.to(self.get("device")).eval()

    def cases(self) -> list[AuditCase]:
        """Return the cases as the network sees them.

        Raises:
            ValueError: if a case cannot be attacked.
        """
        preprocessing, data = self.get("validate#preprocessing"), self.get("validate#data")
        known = {argument: self.get(name) for argument, name in CHECKED.items()}
        check_cases(data, preprocessing=preprocessing, unique_names=True, **known)
        return [self._case(preprocessing(dict(case))) for case in data]

    def settings(self, **changes: Any) -> AuditSettings:
        """Return the settings of an audit, with the budgets of the bundle where nothing else is asked for."""
        asked = {name: value for name, value in changes.items() if value is not None}
        unknown = asked.keys() - {one.name for one in fields(AuditSettings)}
        if unknown:
            raise ValueError(f"settings must be those of an audit, got {sorted(unknown)}.")
        found = {name: self.get(name) for name in FROM_BUNDLE} | {"stated_dice": self.stated_dice()} | asked
        found["eps"] = strength(found["eps"], self.get("physical_range"), self.get("physical_unit"), name="eps")
        return AuditSettings(**found)

    def stated_dice(self) -> float | None:
        """Return the DSC without attack that the metadata state of these weights, or of the model of the bundle."""
        path = Path(self.run.bundle) / "configs" / "metadata.json"
        metadata = read_json(path, "metadata.json") if path.is_file() else {}
        metrics = metadata.get("eval_metrics") if self.checkpoint.name == MODEL else {}
        stated = [_share(metrics, name) for name in STATED]
        packaged = metadata.get("robustness")
        for one in packaged.values() if isinstance(packaged, dict) else ():
            if isinstance(one, dict) and one.get("sha256") == sha256(self.checkpoint):
                stated.insert(0, _share(one, "dice_clean"))
        return next((dice for dice in stated if dice is not None), None)

    def splits(self) -> dict[str, list[str]]:
        """Return the hashes of the images of every part of the data."""
        datalist, found = self.get("datalist"), {}
        for part in PARTS:
            try:
                listed = load_decathlon_datalist(datalist, True, part)
            except ValueError:  # the list has no such part
                logging.getLogger(__name__).info("%s has no part %r", datalist, part)
                continue
            found[part] = [sha256(case["image"]) for case in listed]
        return found

    def _case(self, loaded: Mapping[str, Any]) -> AuditCase:
        """Return one case as a batch of one."""
        image, device = loaded["image"], self.get("device")
        spacing = affine_to_spacing(image.affine).tolist() if isinstance(image, MetaTensor) else [1.0] * 3
        batch = list_data_collate([{key: loaded[key] for key in ("image", "label")}])
        plain = {key: torch.as_tensor(batch[key].as_tensor(), device=device) for key in ("image", "label")}
        return AuditCase(name=case_name(image), spacing=tuple(spacing), **plain)


def _share(figures: Any, name: str) -> float | None:
    """Return a figure that is a fraction; hand-written metadata may hold anything."""
    found = figures.get(name) if isinstance(figures, dict) else None
    return float(found) if isinstance(found, (int, float)) and 0 <= found <= 1 and found is not True else None


def load_subject(
    model: BundleModel,
    settings: AuditSettings,
    surrogate: BundleModel | None = None,
    splits: Mapping[str, Sequence[str]] | None = None,
    measured: Sequence[Measured] = (),
) -> AuditSubject:
    """Return the subject of an audit.

    Args:
        model: what is audited.
        settings: how hard the audit tries.
        surrogate: another model of the same bundle, for transfer.
        splits: hashes of the images of each part of the data, as :meth:`BundleModel.splits` has them.
        measured: results of the same weights.
    """
    return AuditSubject(
        model.network(),
        model.cases(),
        model.get("classes"),
        inferer=model.get("validate#inferer"),
        settings=settings,
        value_range=model.get("value_range"),
        surrogate=None if surrogate is None else surrogate.network(),
        splits=splits,
        measured=measured,
        batch_size=model.get("val_batch_size"),
    )

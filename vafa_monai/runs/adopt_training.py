"""What makes an adopted bundle one that can be hardened: its own trainer, loss and transforms, in the ids of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from vafa_monai.data.files import read_json
from vafa_monai.runs.foreign import ForeignBundle

__all__ = ["harden_overlay", "split_training", "trainable_ids", "why_not_trainable"]

PLAIN = "SupervisedTrainer"  # and classes whose names end so
OTHER_BATCH = ("iteration_update", "key_train_metric", "additional_metrics", "postprocessing")  # see one half only
EPOCHS, LEARNING_RATE = 10, 1e-4
SHARE = 10  # one of so many training cases selects the model


def why_not_trainable(foreign: ForeignBundle, cases: Mapping[str, Sequence[Any]], has_range: bool) -> str:
    """Say why a bundle cannot be hardened; an empty text if it can."""
    if "trainer" not in foreign.training or not {"data", "loss"} <= foreign.training.keys():
        return "there is no trainer with a loss and training cases"
    trainer = foreign.parser[foreign.training["trainer"]]
    if not str(trainer.get("_target_")).endswith(PLAIN):
        return f"its trainer is {trainer.get('_target_')}, no {PLAIN}"
    if "iteration_update" in trainer:
        return "its trainer has an iteration_update of its own"
    if not has_range:
        return "its inputs have no range; --value_range says it"
    if foreign.one_hot:
        return "its labels are class indices under a sigmoid"
    if len(cases.get("training", ())) < 2:
        return "it has fewer than two training cases"
    return ""


def split_training(cases: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the cases with the last tenth of the training, one at least, as the part that selects a model.

    Example:
        >>> split_training({"test": [0], "training": [1, 2, 3]})
        {'test': [0], 'training': [1, 2], 'validation': [3]}
    """
    kept = len(cases["training"]) - max(1, len(cases["training"]) // SHARE)
    return {**cases, "training": cases["training"][:kept], "validation": cases["training"][kept:]}


def trainable_ids(foreign: ForeignBundle) -> dict[str, Any]:
    """Return the ids that ``harden.json`` asks of a training, with the bundle's own trainer, loss and transforms."""
    parts = foreign.training
    trainer = deepcopy(foreign.parser[parts["trainer"]])
    own = {name: value for name, value in trainer.items() if name not in OTHER_BATCH}
    batch = foreign.parser[parts["batch_size"]] if "batch_size" in parts else 1
    preprocessing = deepcopy(foreign.parser[parts["preprocessing"]]) if "preprocessing" in parts else []
    return {
        **IDS,
        "segmentation_loss": deepcopy(foreign.parser[parts["loss"]]),
        "batch_size": batch if type(batch) is int else 1,
        "train": {**TRAIN, "own_preprocessing": preprocessing, "trainer": {**own, **TRAINER}},
        "training": TRAINING,
        "run": RUN,
    }


IDS = {
    "loss": "@segmentation_loss",
    "epochs": EPOCHS,
    "val_interval": 1,
    "learning_rate": LEARNING_RATE,
    "hardening": {"epochs": EPOCHS, "val_interval": 1, "learning_rate": LEARNING_RATE, "two_passes": False},
    "iterations": "$@epochs * len(@train#dataloader)",
    "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": "@learning_rate"},
    "lr_scheduler": {
        "_target_": "monai.optimizers.WarmupCosineSchedule",
        "optimizer": "@optimizer",
        "warmup_steps": "$@iterations // 20",
        "t_total": "@iterations",
    },
    "resume": True,
    "resume_interval": 1,
    "resume_dir": "$@output_dir + '/resume/' + os.path.splitext(@model_file)[0]",
    "own_start": False,
}
CLIP = {  # random transforms may leave the range
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": "$@value_range[0]",
    "a_max": "$@value_range[1]",
    "b_min": "$@value_range[0]",
    "b_max": "$@value_range[1]",
    "clip": True,
}
TRAIN = {
    "preprocessing": {"_target_": "Compose", "transforms": ["@train#own_preprocessing", CLIP]},
    "data": "$monai.data.load_decathlon_datalist(@datalist, True, 'training')",
    "dataset": {"_target_": "Dataset", "data": "@train#data", "transform": "@train#preprocessing"},
    "dataloader": {
        "_target_": "DataLoader",
        "dataset": "@train#dataset",
        "batch_size": "@batch_size",
        "shuffle": True,
        "num_workers": "@num_workers",
    },
    "inferer": {"_target_": "SimpleInferer"},
    "handlers": [
        {"_target_": "LrScheduleHandler", "lr_scheduler": "@lr_scheduler", "print_lr": False, "epoch_level": False},
        {
            "_target_": "ValidationHandler",
            "validator": "@validate#evaluator",
            "epoch_level": True,
            "interval": "@val_interval",
        },
        {
            "_target_": "StatsHandler",
            "tag_name": "train_loss",
            "output_transform": "$monai.handlers.from_engine(['loss'], first=True)",
        },
    ],
}
TRAINER = {
    "max_epochs": "@epochs",
    "device": "@device",
    "train_data_loader": "@train#dataloader",
    "network": "@network",
    "loss_function": "@loss",
    "optimizer": "@optimizer",
    "inferer": "@train#inferer",
    "train_handlers": "@train#handlers",
}
TRAINING = {
    "_target_": "vafa_monai.handlers.ResumableTraining",
    "model_path": "$@ckpt_dir + '/' + @model_file",
    "resume_dir": "@resume_dir",
    "train_data": "@train#data",
    "val_data": "@validate#data",
    "epochs": "@epochs",
    "val_interval": "@val_interval",
    "start_file": None,
    "resume": "@resume",
    "resume_interval": "@resume_interval",
    "patience": None,
    "statement": None,
    "own_start": "@own_start",
    "exit_on_error": True,
}
KEPT = "{'network': @network, 'optimizer': @optimizer, 'lr_scheduler': @lr_scheduler}"
RUN = [
    "$@training.check()",
    f"$@training.run(@train#trainer, @validate#evaluator, {KEPT})",
]


def harden_overlay(shared: Path, sigmoid: bool) -> dict[str, Any]:
    """Return ``harden.json`` for a copy: the shared one, with its channels and, under a sigmoid, all of them scored."""
    overlay = read_json(shared / "harden.json", "config")
    before, after = "@network_def#in_channels", "@image_channels"
    overlay["+initialize"] = [line.replace(before, after) for line in overlay["+initialize"]]
    score = overlay["validate#key_metric"]["val_robust_score"]
    overlay["validate#key_metric"] = {"val_robust_score": {**score, "include_background": sigmoid}}
    return overlay

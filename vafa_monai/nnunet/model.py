"""A trained nnU-Net v2 as a network, an inferer and cases, which every attack and the audit take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vafa_monai.audit.audited_model import AuditCase
from vafa_monai.data.checkpoint import read_checkpoint
from vafa_monai.data.files import read_json
from vafa_monai.data.weights import difference, extract_weights, flaw
from vafa_monai.inferers.inferred_network import InferredNetwork
from vafa_monai.inferers.nnunet_inferer import NNUNetInferer
from vafa_monai.nnunet.plan import nnunet_part, require_plain

__all__ = ["NNUNetModel"]


@dataclass(frozen=True, kw_only=True, eq=False)
class NNUNetModel:
    """A trained nnU-Net: weights of one fold, and the pipeline around them.

    Args:
        network: maps standardized windows to logits, without deep supervision, in eval mode.
        inferer: nnU-Net's own sliding window and mirroring.
        classes: names of the classes, background first.
        checkpoint: file of the weights.
        plans: nnU-Net's plans, as its file holds them.
        configuration: name of the configuration, such as ``"3d_fullres"``.
        dataset: nnU-Net's description of the dataset.
    """

    network: nn.Module
    inferer: NNUNetInferer
    classes: tuple[str, ...]
    checkpoint: Path
    plans: dict[str, Any]
    configuration: str
    dataset: dict[str, Any]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        fold: int | str = 0,
        checkpoint: str = "checkpoint_final.pth",
        mirroring: bool = True,
        device: str | torch.device = "cpu",
    ) -> NNUNetModel:
        """Load what ``nnUNetv2_train`` wrote, the checkpoint as data only.

        Plans and dataset are read from the folder; the network's class is that of the plans, so they must be trusted.

        Args:
            folder: ``nnUNet_results/DatasetXXX_Name/TRAINER__PLANS__CONFIGURATION``.
            fold: a number, or ``"all"``.
            checkpoint: name of the file in the folder of the fold.
            mirroring: average over mirrored copies as nnU-Net does by default, 8 passes a window.
            device: where the network is put.

        Raises:
            ValueError: if a file is missing, the checkpoint is not of nnU-Net, the configuration is not 3D, or the
                labels are regions or have an ignore label; or if nnU-Net is not installed.
        """
        folder, file = Path(folder), Path(folder) / f"fold_{fold}" / checkpoint
        plans, dataset = (_read(folder / name) for name in ("plans.json", "dataset.json"))
        content = read_checkpoint(file)
        if not isinstance(content, dict) or not {"network_weights", "init_args", "trainer_name"} <= content.keys():
            raise ValueError(f"checkpoint must be one of nnU-Net v2, got {str(file)!r}.")
        configuration = content["init_args"]["configuration"]
        manager = nnunet_part("utilities.plans_handling.plans_handler", "PlansManager")(plans)
        settings, labels = manager.get_configuration(configuration), manager.get_label_manager(dataset)
        require_plain(configuration, settings, labels)
        channels = nnunet_part("utilities.label_handling.label_handling", "determine_num_input_channels")
        network = _trainer(content["trainer_name"]).build_network_architecture(
            manager,
            settings,
            channels(manager, settings, dataset),
            labels.num_segmentation_heads,
            enable_deep_supervision=False,
        )
        weights, wanted = extract_weights(content["network_weights"]), network.state_dict()
        if wrong := difference(weights, wanted) or flaw(weights, wanted):
            raise ValueError(f"checkpoint must hold the weights of its plans, got {str(file)!r}, {wrong}.")
        network.load_state_dict(weights)
        axes = content["inference_allowed_mirroring_axes"] if mirroring else None
        names = sorted(dataset["labels"], key=dataset["labels"].get)
        return cls(
            network=network.to(device).eval(),
            inferer=NNUNetInferer(settings.patch_size, mirror_axes=axes or ()),
            classes=tuple(names),
            checkpoint=file,
            plans=plans,
            configuration=configuration,
            dataset=dataset,
        )

    @property
    def whole(self) -> InferredNetwork:
        """The deployed pipeline as one differentiable network: volumes ``(B, C, H, W, D)`` to blended logits."""
        return InferredNetwork(self.network, self.inferer)

    def cases(self, images: str | Path, labels: str | Path) -> Iterator[AuditCase]:
        """Yield the cases as the network sees them: nnU-Net's orientation, crop, standardization and resampling.

        Args:
            images: folder of ``<case>_0000`` files, one for each channel, as nnU-Net takes them.
            labels: folder of ``<case>`` files, which are resampled with the images.

        Raises:
            ValueError: if there is no image, or a label is missing.
        """
        ending = self.dataset["file_ending"]
        listed = nnunet_part("utilities.utils", "create_lists_from_splitted_dataset_folder")(str(images), ending)
        if not listed:
            raise ValueError(f"images must be a folder of <case>_0000{ending} files, got {str(images)!r}.")
        names = [Path(files[0]).name.removesuffix(f"_0000{ending}") for files in listed]
        missing = [f"{name}{ending}" for name in names if not (Path(labels) / f"{name}{ending}").is_file()]
        if missing:
            raise ValueError(f"labels must hold a file for every case, got none for {missing} in {str(labels)!r}.")
        for name, files in zip(names, listed, strict=True):
            yield self._case(name, files, Path(labels) / f"{name}{ending}")

    def _case(self, name: str, files: Sequence[str], label: Path) -> AuditCase:
        """Return one case as a batch of one."""
        manager = nnunet_part("utilities.plans_handling.plans_handler", "PlansManager")(self.plans)
        settings = manager.get_configuration(self.configuration)
        preprocessor = settings.preprocessor_class(verbose=False)
        image, found, _ = preprocessor.run_case(list(files), str(label), manager, settings, self.dataset)
        device = next(self.network.parameters()).device
        return AuditCase(
            name=name,
            image=torch.as_tensor(image, dtype=torch.float32, device=device)[None],
            label=_classes(torch.as_tensor(found, device=device))[None],
            spacing=tuple(float(edge) for edge in settings.spacing),
        )


def _classes(label: Tensor) -> Tensor:
    """Return class indices; nnU-Net marks what lies outside the body, where all channels are 0, by -1."""
    return label.long().clamp_min(0)


def _trainer(name: str) -> Any:
    """Return a trainer's class: one of ours, or what nnU-Net finds."""
    from vafa_monai.nnunet.trainer import nnUNetTrainerPGD, nnUNetTrainerVAFT  # which import nnU-Net

    ours = {trainer.__name__: trainer for trainer in (nnUNetTrainerPGD, nnUNetTrainerVAFT)}
    return ours.get(name) or nnunet_part("utilities.find_objects", "recursive_find_trainer_class_by_name")(name)


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file."""
    if not path.is_file():
        raise ValueError(f"folder must be one that nnUNetv2_train wrote, with {path.name}, got {str(path.parent)!r}.")
    content: dict[str, Any] = read_json(path, path.name)
    return content

"""How far a small attack moves a prediction, without any label."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from vafa_monai.attacks.attack import Attack, Network
from vafa_monai.attacks.ensemble import foreground_dice
from vafa_monai.attacks.intensity import is_one_range
from vafa_monai.attacks.pgd import PGD
from vafa_monai.attacks.range_adapter import RangeAdapter
from vafa_monai.data.weights import read_weights
from vafa_monai.inferers.whole_network import whole_network
from vafa_monai.losses.output import Output

__all__ = ["Fragility", "prediction_change"]


def prediction_change(network: Network, inputs: Tensor, attack: Attack) -> float:
    """Attack a volume with its own prediction as the label, and return how much of the prediction is gone.

    Args:
        network: maps volumes to logits; in eval mode.
        inputs: one volume ``(1, C, H, W, D)``, in ``value_range`` of the attack.
        attack: the attack, untargeted; its ``output`` says what the logits mean.

    Returns:
        1 minus the mean foreground DSC of the two predictions, in [0, 1]: 0 means that nothing moved. A prediction of
        background alone counts 1 as soon as anything else appears.

    Example:
        >>> from vafa_monai.attacks import Identity
        >>> prediction_change(nn.Conv3d(1, 2, 1), torch.rand(1, 1, 4, 5, 6), Identity())
        0.0
    """
    output = Output.of(attack.output)
    with torch.no_grad():
        labels = output.predict(network(inputs))
    adv = attack(inputs, labels, network)
    with torch.no_grad():
        return 1.0 - foreground_dice(network(adv), labels, output).item()


@dataclass(frozen=True, kw_only=True)
class Fragility:
    """Measure volumes by :func:`prediction_change` of a bundle, through its ``inference.json``.

    Args:
        bundle: folder of the bundle; a config is a program, so it must be trusted.
        checkpoint: file of the weights, relative to the bundle.
        attack: the attack, for intensities in [0, 1]; volumes of other intensities are adapted.
        device: where the network runs.

    Raises:
        ValueError: if the bundle has no ``inference.json``, or the checkpoint is missing or does not fit.
    """

    bundle: Path
    checkpoint: str = "models/model.pt"
    attack: Attack = field(default_factory=lambda: PGD(eps=2 / 255, steps=5))
    device: str | torch.device = "cpu"

    def __post_init__(self) -> None:
        """Refuse what is not there."""
        if not (Path(self.bundle) / "configs" / "inference.json").is_file():
            raise ValueError(f"bundle must be a folder with configs/inference.json, got {str(self.bundle)!r}.")

    def __call__(self, image: str | Path) -> float:
        """Return how far the prediction of an image file moves, in [0, 1]."""
        volume = self._get("preprocessing")({"image": str(image)})["image"]
        inputs = torch.as_tensor(volume, dtype=torch.float32, device=self.device)[None]
        fits = not is_one_range(self.attack.value_range)  # a range a channel is meant as it is
        if not fits:
            low, high = self.attack.one_range
            fits = bool(low <= inputs.min() and inputs.max() <= high)
        return prediction_change(self.network, inputs, self.attack if fits else RangeAdapter(attack=self.attack))

    @cached_property
    def network(self) -> nn.Module:
        """The deployed pipeline as one differentiable network."""
        network: nn.Module = self._get("network_def")
        network.load_state_dict(read_weights(Path(self.bundle) / self.checkpoint, network))
        network.to(self.device).eval()
        return whole_network(network, self._get("inferer"))

    @cached_property
    def _parser(self) -> ConfigParser:
        """The config, with its paths."""
        parser = ConfigParser()
        parser.read_config(str(Path(self.bundle) / "configs" / "inference.json"))
        parser["bundle_root"] = str(self.bundle)
        parser["device"] = str(self.device)
        return parser

    def _get(self, name: str) -> Any:
        return self._parser.get_parsed_content(name)

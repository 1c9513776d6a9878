"""An attack with its network as a transform of one volume and its label, for offline generation."""

from __future__ import annotations

from collections.abc import Callable

from monai.config import NdarrayOrTensor
from monai.data import get_track_meta
from monai.transforms import Transform
from monai.utils import TransformBackends, convert_to_dst_type, convert_to_tensor
from torch import Tensor, nn

__all__ = ["AdversarialPerturbation"]


class AdversarialPerturbation(Transform):
    """Attack a channel-first volume; made for offline generation, not for the workers of a data loader.

    Args:
        attack: attack of :mod:`vafa_monai.attacks`, or any callable of ``(inputs, targets, network)``.
        network: the attacked network; its mode is the caller's choice and stays as it is.

    Example:
        >>> from vafa_monai.attacks import FGSM
        >>> import torch
        >>> volume, label = torch.full((1, 4, 5, 6), 0.5), torch.zeros(1, 4, 5, 6)
        >>> adv = AdversarialPerturbation(FGSM(eps=0.1), nn.Conv3d(1, 2, 1))(volume, label)
        >>> round((adv - volume).abs().max().item(), 4)
        0.1
    """

    backend = [TransformBackends.TORCH]  # noqa: RUF012 - as MONAI declares it

    def __init__(self, attack: Callable[..., Tensor], network: Callable[[Tensor], Tensor]) -> None:
        self.attack = attack
        self.network = network

    def __call__(self, img: NdarrayOrTensor, label: NdarrayOrTensor) -> NdarrayOrTensor:  # type: ignore[override]
        """Return the attacked volume ``(C, H, W, D)`` for class indices ``(1, H, W, D)``; metadata is kept."""
        img = convert_to_tensor(img, track_meta=get_track_meta())
        parameter = next(self.network.parameters(), None) if isinstance(self.network, nn.Module) else None
        device = img.device if parameter is None else parameter.device
        volume, target = (convert_to_tensor(array, track_meta=False).to(device)[None] for array in (img, label))
        return convert_to_dst_type(self.attack(volume, target, self.network)[0], dst=img)[0]

"""What of nnU-Net's plans is taken, and how its parts are found where it is installed."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["nnunet_part", "require_plain"]


def require_plain(configuration: str, settings: Any, labels: Any) -> None:
    """Refuse what neither our trainers nor our attacks take.

    Args:
        configuration: name of the configuration.
        settings: nnU-Net's manager of it.
        labels: nnU-Net's manager of the labels.

    Raises:
        ValueError: if the configuration is not 3D, or the labels are regions or have an ignore label.
    """
    if len(settings.patch_size) != 3:
        raise ValueError(f"configuration must be 3D, got {configuration!r}.")
    if labels.has_regions or labels.has_ignore_label:
        raise ValueError(f"labels must be plain classes, got {'regions' if labels.has_regions else 'an ignore label'}.")


def nnunet_part(module: str, name: str) -> Any:
    """Return a class or function of nnU-Net.

    Args:
        module: its module, below ``nnunetv2``.
        name: its name there.

    Raises:
        ValueError: if nnU-Net is not installed.
    """
    try:
        return getattr(import_module(f"nnunetv2.{module}"), name)
    except ModuleNotFoundError as error:
        raise ValueError(f"nnU-Net is not installed ({error}); pip install 'vafa-monai[nnunet]'.") from error

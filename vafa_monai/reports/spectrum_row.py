"""The spectrum of a perturbation in a line: a bar for each band of frequency, and where its energy lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vafa_monai.metrics.radial_spectrum import HIGHEST_FREQUENCY
from vafa_monai.reports.attack_name import CLEAN, attack_title
from vafa_monai.reports.case_volume import CaseVolume
from vafa_monai.reports.comparison import Comparison

__all__ = ["SpectrumRow", "median_frequency", "spectrum_rows"]

FINE = 0.25  # cycles a voxel: a wave of four voxels


@dataclass(frozen=True, kw_only=True)
class SpectrumRow:
    """The spectrum of one attack on one model, of the first case.

    Args:
        energy: share of the energy in every band; together 1.
        white: the same of white noise.
        median: frequency below which half of the energy lies, in cycles a voxel.
        fine: share of the energy above a quarter of a cycle a voxel.
    """

    attack: str
    title: str
    model: str
    energy: tuple[float, ...]
    white: tuple[float, ...]
    median: float
    fine: float


def spectrum_rows(comparison: Comparison, volumes: Mapping[tuple[str, str], CaseVolume]) -> list[SpectrumRow]:
    """Return a row for each attack and model that changed the image."""
    names = [*comparison.attacks("attack"), *comparison.attacks("control")]
    return [
        _row(name, model, volumes[model, name])
        for name in names
        for model in comparison.models
        if name != CLEAN and (model, name) in volumes and sum(volumes[model, name].energy) > 0
    ]


def _row(attack: str, model: str, volume: CaseVolume) -> SpectrumRow:
    edges = np.linspace(0, HIGHEST_FREQUENCY, len(volume.energy) + 1)
    above = 1 - np.interp(FINE, edges, np.concatenate([[0], np.cumsum(volume.energy)]))
    return SpectrumRow(
        attack=attack,
        title=attack_title(attack),
        model=model,
        energy=volume.energy,
        white=volume.coefficients,
        median=median_frequency(volume.energy),
        fine=float(np.clip(above, 0, 1)),
    )


def median_frequency(energy: Sequence[float]) -> float:
    """Return the frequency below which half of the energy lies, in cycles a voxel; linear inside a band.

    Example:
        >>> round(median_frequency([0.5, 0.5]) / HIGHEST_FREQUENCY, 3)
        0.5
    """
    edges = np.linspace(0, HIGHEST_FREQUENCY, len(energy) + 1)
    return float(np.interp(0.5, np.concatenate([[0], np.cumsum(energy)]), edges))

"""Colors that readers with any color vision can tell apart (Okabe and Ito, then Paul Tol's muted set)."""

from __future__ import annotations

__all__ = ["class_colors", "model_colors"]

OKABE_ITO = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00", "#0072B2")
TOL_MUTED = ("#882255", "#44AA99", "#999933", "#AA4499", "#332288", "#DDCC77", "#117733")
CLASSES = (*OKABE_ITO, *TOL_MUTED)
MODELS = ("#6B7785", "#0072B2", "#D55E00", "#009E73", "#CC79A7")


def class_colors(n_classes: int) -> list[str]:
    """Return one color for each class but the first, the background; they repeat after 14."""
    return [CLASSES[index % len(CLASSES)] for index in range(n_classes - 1)]


def model_colors(models: list[str]) -> dict[str, str]:
    """Return one color for each model, grey for the first; they repeat after 5."""
    return {model: MODELS[index % len(MODELS)] for index, model in enumerate(models)}

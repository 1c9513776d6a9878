"""Matplotlib figures to PNG files, without a display and always with the same bytes."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

from vafa_monai.data import write_whole

__all__ = ["INK", "house_style", "save_png"]

INK = "#1F2933"


def house_style() -> AbstractContextManager[None]:
    """Return a context in which figures get the fonts and colors of a report, whatever the user has set."""
    settings: dict[Any, Any] = {
        "font.family": ["DejaVu Sans"],
        "font.size": 8.5,
        "text.color": INK,
        "text.usetex": False,
        "text.parse_math": False,  # a "$" in a name is a "$"
        "axes.labelcolor": INK,
        "axes.edgecolor": "#B8C1CC",
        "axes.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    return rc_context(settings)


def save_png(figure: Figure, path: str | Path, *, dpi: int = 180) -> Path:
    """Write a figure as a PNG file in one step and return its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return write_whole(path, buffer.getvalue())

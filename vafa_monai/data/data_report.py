"""The report of a prepared dataset: one HTML page that needs no network, and the same numbers as JSON."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vafa_monai.data.files import write_json, write_whole
from vafa_monai.data.page import page_environment
from vafa_monai.data.recipe import Case, Recipe
from vafa_monai.data.volume import Volume, displacement

__all__ = ["PHANTOM_MARK", "CaseFacts", "DataReport", "measure", "write_report"]

PHANTOM_MARK = "vafa_monai phantom"  # begins the description in the header of a synthetic volume
PHANTOM_REMARK = "The image is a synthetic phantom, not a patient."
USUAL_SPACING = (0.3, 20.0)  # mm; thinner or thicker voxels are told, because a unit may be wrong
LEAST_ORTHOGONALITY = 0.999  # determinant of the unit directions
NOTEWORTHY = 1e-3  # voxels; float32 affines round to less
MM3_PER_ML = 1000


@dataclass(frozen=True, kw_only=True)
class CaseFacts:
    """One row of the report.

    Args:
        name: name of the case.
        unit: entry of the split that it belongs to.
        shape: size in voxels.
        spacing: voxel sizes in mm.
        orientation: where the three axes point, such as ``"LPS"``.
        dtype: number format of the image in the source.
        intensity: lowest, percentile 0.5, percentile 99.5, highest.
        volumes_ml: volume of every class but the background in milliliters.
        notes: what the dataset says of the case.
        remarks: what a user should know, one sentence each without the name.
        voxels: SHA-256 of the intensities, by which copies are found.
    """

    name: str
    unit: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    orientation: str
    dtype: str
    intensity: tuple[float, float, float, float]
    volumes_ml: tuple[float, ...]
    notes: Mapping[str, Any]
    remarks: tuple[str, ...]
    voxels: str

    @property
    def synthetic(self) -> bool:
        """Whether the image says that it is a phantom."""
        return PHANTOM_REMARK in self.remarks


def measure(case: Case, image: Volume, label: Volume, recipe: Recipe) -> CaseFacts:
    """Measure a case; ``image`` and ``label`` are as they were read, before their spacing was settled."""
    settled = image.settled(recipe.pixdim_rules)
    per_value = np.bincount(label.array.astype(np.uint8).ravel(), minlength=len(recipe.mapping))
    counts = np.bincount(recipe.mapping, weights=per_value, minlength=len(recipe.classes))[1:]
    voxel_ml = abs(np.linalg.det(settled.affine[:3, :3])) / MM3_PER_ML
    low, high = np.percentile(image.array, [0.5, 99.5])
    return CaseFacts(
        name=case.name,
        unit=case.unit,
        shape=tuple(int(size) for size in image.array.shape),
        spacing=tuple(round(size, 4) for size in settled.spacing),
        orientation="".join(nib.aff2axcodes(settled.affine)),
        dtype=str(image.array.dtype),
        intensity=(float(image.array.min()), float(low), float(high), float(image.array.max())),
        volumes_ml=tuple(round(float(count * voxel_ml), 4) for count in counts),
        notes=dict(case.notes),
        remarks=tuple(_remarks(image, label, counts, recipe)),
        voxels=_hash(image.array),
    )


def _hash(array: np.ndarray) -> str:
    """Return the SHA-256 of shape and voxels."""
    digest = hashlib.sha256(repr((array.shape, array.dtype.str)).encode())
    digest.update(np.ascontiguousarray(array.T).data)
    return digest.hexdigest()


def _remarks(image: Volume, label: Volume, counts: np.ndarray, recipe: Recipe) -> Iterator[str]:
    """Yield what a user should know of a case."""
    settled, label_settled = (volume.settled(recipe.pixdim_rules) for volume in (image, label))
    if image.description.startswith(PHANTOM_MARK):
        yield PHANTOM_REMARK
    if settled is not image:
        yield "The voxel sizes are those of pixdim, because the affine of the file has others."
    if displacement(settled.affine, label_settled.affine, image.array.shape) > NOTEWORTHY:
        yield "The label got the affine of its image, which was not quite its own."
    least, most = USUAL_SPACING
    if not all(least <= size <= most for size in settled.spacing):
        yield f"The spacing is unusual: it is not from {least:g} to {most:g} mm along every axis."
    if abs(np.linalg.det(settled.affine[:3, :3] / settled.spacing)) < LEAST_ORTHOGONALITY:
        yield "The axes are not at right angles."
    for name, count in zip(recipe.classes[1:], counts, strict=True):
        if not count:
            yield f"The label has no {name}."


COLUMNS, CELL, HEAD, LEGEND_LINE, LEGEND_COLUMN = 3, 2.6, 0.25, 0.2, 1.9  # cases in a row; inches
DPI = 110
BLACK, WHITE = 0.5, 99.5  # percentiles

Slice = tuple[np.ndarray, np.ndarray, float]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A case to show: its title and its two files."""

    title: str
    image: Path
    label: Path


def case_figure(samples: Sequence[Sample], classes: Sequence[str], window: tuple[float, float] | None) -> bytes:
    """Draw the cases and return the picture as a PNG file, always with the same bytes.

    The patient's right is on the left and the front is up, as radiologists look at slices.

    Args:
        samples: cases with image and label in the same voxels.
        classes: names of the classes, the background first.
        window: intensities from black to white; ``None`` for the percentiles 0.5 and 99.5 of the slice.
    """
    slices = [middle_slice(sample) for sample in samples]
    columns, rows = min(COLUMNS, len(samples)), math.ceil(len(samples) / COLUMNS)
    height = HEAD + CELL * max(aspect * image.shape[0] / image.shape[1] for image, _, aspect in slices)
    per_line = max(1, int(columns * CELL / LEGEND_COLUMN))
    legend = LEGEND_LINE * math.ceil((len(classes) - 1) / per_line) + 0.2
    colors = [colormaps["tab20"](index % 20) for index in range(len(classes) - 1)]
    with rc_context({"font.family": ["DejaVu Sans"], "font.size": 8, "text.usetex": False, "text.parse_math": False}):
        figure = Figure(figsize=(columns * CELL, rows * height + legend))
        for index, (sample, one) in enumerate(zip(samples, slices, strict=True)):
            row, column = divmod(index, COLUMNS)
            low = (legend + (rows - 1 - row) * height) / (rows * height + legend)
            box = (column / columns, low, 0.98 / columns, (height - HEAD) / (rows * height + legend))
            _draw(figure.add_axes(box), sample.title, one, colors, window)
        patches = [Patch(color=color, label=name) for color, name in zip(colors, classes[1:], strict=True)]
        figure.legend(handles=patches, ncols=per_line, loc="lower center", frameon=False, fontsize=7.5)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def middle_slice(sample: Sample) -> Slice:
    """Return image and label of the axial slice in the middle of the label, front up and right side left.

    Returns:
        Two arrays ``(rows, columns)`` and the height of a voxel in widths.
    """
    volumes: list[Any] = [nib.as_closest_canonical(nib.load(path)) for path in (sample.image, sample.label)]
    image, label = (np.asarray(volume.dataobj) for volume in volumes)
    labeled = np.flatnonzero(label.any(axis=(0, 1)))
    middle = labeled[len(labeled) // 2] if labeled.size else label.shape[2] // 2
    width, height = nib.affines.voxel_sizes(volumes[0].affine)[:2]
    return image[::-1, ::-1, middle].T, label[::-1, ::-1, middle].T, float(height / width)


def _draw(axes: Axes, title: str, one: Slice, colors: Sequence[Any], window: tuple[float, float] | None) -> None:
    """Draw one case."""
    image, label, aspect = one
    low, high = np.percentile(image, [BLACK, WHITE]) if window is None else window
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, aspect=aspect, interpolation="nearest")
    for index, color in enumerate(colors, start=1):
        if (label == index).any():
            axes.contour(label == index, levels=[0.5], colors=[color], linewidths=1)
    axes.set_title(title, fontsize=8, pad=3)
    axes.axis("off")


TEMPLATE = "data_report.html.j2"
PICTURES = 2  # cases of each part that are shown
DIASTOLE, SYSTOLE, VENTRICLE = "ED", "ES", "left ventricle"

Warnings = list[tuple[str, list[str]]]


@dataclass(frozen=True, kw_only=True)
class DataReport:
    """What the report tells.

    Args:
        recipe: facts of the dataset.
        rows: what was measured of the cases, part by part.
        missing: entries of the split that the source lacks.
        unused: files of the source that belong to no case of the split.
        settings: settings of the call.
    """

    recipe: Recipe
    rows: Mapping[str, Sequence[CaseFacts]]
    missing: Sequence[str]
    unused: Sequence[str]
    settings: Mapping[str, Any]

    def warnings(self) -> Warnings:
        """Return what a user should know, each with the cases that it is about, or none if it is about the whole."""
        grouped: dict[str, list[str]] = {}
        for sentence, case in (*self._about_all(), *self._about_cases()):
            grouped.setdefault(sentence, []).extend([case] if case else [])
        return list(grouped.items())

    def _about_all(self) -> Iterator[tuple[str, str]]:
        """Yield sentences about the whole."""
        if self.missing:
            names = ", ".join(self.missing)
            yield f"{len(self.missing)} entries of the split are not in the source and were left out: {names}.", ""
        for part, rows in self.rows.items():
            for index, name in enumerate(self.recipe.classes[1:]):
                if not any(row.volumes_ml[index] for row in rows):
                    yield f"No label of the {part} part has the {name}.", ""

    def _about_cases(self) -> Iterator[tuple[str, str]]:
        """Yield sentences about cases, each with its case."""
        for rows in self.rows.values():
            yield from ((remark, row.name) for row in rows for remark in row.remarks)
            yield from self._about_phases(rows)

    def _about_phases(self, rows: Sequence[CaseFacts]) -> Iterator[tuple[str, str]]:
        """Yield patients whose heart does not shrink from end-diastole to end-systole."""
        if VENTRICLE not in self.recipe.classes:
            return
        index = self.recipe.classes.index(VENTRICLE) - 1
        volumes = {(row.unit, row.notes.get("phase")): row.volumes_ml[index] for row in rows}
        for unit in dict.fromkeys(row.unit for row in rows):
            diastole, systole = (volumes.get((unit, phase)) for phase in (DIASTOLE, SYSTOLE))
            if diastole is not None and systole is not None and systole >= diastole:
                sentence = f"The {VENTRICLE} is not larger at end-diastole than at end-systole."
                yield from ((sentence, row.name) for row in rows if row.unit == unit)


def write_report(report: DataReport, folder: Path, lists: Mapping[str, Sequence[Mapping[str, str]]]) -> None:
    """Write ``data_report.html`` and ``data_report.json`` into the folder of the written cases.

    Args:
        report: what to tell.
        folder: where the volumes lie.
        lists: their relative paths, part by part, in the order of ``report.rows``.
    """
    samples = [
        Sample(title=f"{row.name} ({part})", image=folder / paths["image"], label=folder / paths["label"])
        for part, rows in report.rows.items()
        for row, paths in list(zip(rows, lists[part], strict=True))[:PICTURES]
    ]
    picture = case_figure(samples, report.recipe.classes, report.recipe.window)
    warnings = report.warnings()
    html = _render(report, warnings, samples, base64.b64encode(picture).decode())
    write_whole(folder / "data_report.html", html)
    content = {
        "dataset": report.recipe.title,
        "classes": list(report.recipe.classes),
        "settings": dict(report.settings),
        "missing": list(report.missing),
        "unused": list(report.unused),
        "warnings": [{"text": text, "cases": cases} for text, cases in warnings],
        "cases": {part: [asdict(row) for row in rows] for part, rows in report.rows.items()},
    }
    write_json(folder / "data_report.json", content)


def _render(report: DataReport, warnings: Warnings, samples: Sequence[Sample], picture: str) -> str:
    """Fill the template; every text in it is escaped."""
    rows = [(part, row) for part, part_rows in report.rows.items() for row in part_rows]
    return (
        page_environment()
        .get_template(TEMPLATE)
        .render(
            scripts=(),
            title=f"Data report: {report.recipe.title}",
            report=report,
            recipe=report.recipe,
            rows=rows,
            organs=list(enumerate(report.recipe.classes))[1:],
            notes=list(dict.fromkeys(key for _, row in rows for key in row.notes)),
            units={part: list(dict.fromkeys(row.unit for row in rows)) for part, rows in report.rows.items()},
            warnings=warnings,
            samples=samples,
            picture=picture,
            settings=json.dumps(report.settings, indent=2, ensure_ascii=False),
        )
    )

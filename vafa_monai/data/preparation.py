"""From a folder as its owners hand it out to one that MONAI trains on: check all, then write all, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import vafa_monai
from vafa_monai.data.data_report import CaseFacts, DataReport, measure, write_report
from vafa_monai.data.files import (
    is_finished,
    list_hashes,
    read_json,
    require_writable,
    sha256,
    whole_folder,
    write_json,
    write_volume,
)
from vafa_monai.data.recipe import Case, Find, Found, Recipe, image_faults, label_faults, pair_faults, read_or_fault
from vafa_monai.data.split import PARTS, Split, overlaps
from vafa_monai.data.volume import read_volume, storable

__all__ = ["AFFINE_TOLERANCE", "DATALIST", "Plan", "prepare"]

logger = logging.getLogger(__name__)
DATALIST = "dataset.json"
SUFFIXES = {"training": "Tr", "validation": "Val", "test": "Ts"}
# Rounding to float32 moves a corner by less than 0.001 voxels, an honest mistake by half a voxel or more. A tenth of a
# voxel changes no label that is sampled by its nearest voxel and no distance that is given to a tenth of a millimeter.
AFFINE_TOLERANCE = 0.1
SHOWN = 10  # missing names in a sentence


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be made of a source.

    Args:
        recipe: facts of the dataset.
        find: finds the cases of the split in the source.
        split: names under all three parts.
        allow_missing: leave out what the split names and the source lacks, and tell it, instead of refusing.
        affine_tolerance: how far a label's corner may lie from its image's, in voxels.
        origin: what else made the data, recorded with the settings.
    """

    recipe: Recipe
    find: Find
    split: Split
    allow_missing: bool = False
    affine_tolerance: float = AFFINE_TOLERANCE
    origin: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.affine_tolerance >= 0:
            raise ValueError(f"affine_tolerance must be at least 0 voxels, got {self.affine_tolerance!r}.")

    def settings(self) -> dict[str, Any]:
        """Return what makes one prepared folder differ from another."""
        return {
            "dataset": self.recipe.name,
            "classes": len(self.recipe.classes),
            "split": self.split,
            "allow_missing": bool(self.allow_missing),
            "affine_tolerance": float(self.affine_tolerance),
            **self.origin,
        }

    def units(self) -> list[str]:
        """Return every name of the split once, part by part."""
        return list(dict.fromkeys(name for part in PARTS for name in self.split[part]))


def prepare(plan: Plan, source: str | Path, output: str | Path) -> Path:
    """Check a source, write its cases to ``output`` and return the path of the list of them.

    Raises:
        ValueError: if the source has faults, all of which are listed, or ``output`` holds something else.
    """
    source, output = Path(source).resolve(), Path(output).resolve()
    if not source.is_dir():
        raise ValueError(f"source must be a folder, got {str(source)!r}.")
    if output.is_relative_to(source) or source.is_relative_to(output):
        raise ValueError(f"output must lie outside of source {str(source)!r}, got {str(output)!r}.")
    finished = is_finished(output, DATALIST, plan.settings())
    if not finished:
        require_writable(output / DATALIST)
    found = plan.find(source, plan.units())
    if finished:
        _check_same_source(output, source, found)
        return output / DATALIST
    facts, faults = _check_cases(plan, found)
    faults = [*overlaps(plan.split), *_part_faults(plan, found), *found.faults, *faults]
    if faults:
        lines = "".join(f"\n- {fault}" for fault in faults)
        raise ValueError(f"source must be free of faults, got {len(faults)} in {str(source)!r}:{lines}")
    with whole_folder(output) as folder:
        _write(plan, source, found, facts, folder)
    return output / DATALIST


def _check_same_source(output: Path, source: Path, found: Found) -> None:
    """Refuse a source whose files are others than those that the output was made of, by name and size."""
    recorded = read_json(output / DATALIST, "output").get("source")
    entries = recorded.items() if isinstance(recorded, dict) else ()
    sizes = {name: entry.get("bytes") if isinstance(entry, dict) else None for name, entry in entries}
    now = {_relative(path, source): path.stat().st_size for case in found.cases for path in (case.image, case.label)}
    differing = sorted(name for name in sizes.keys() | now.keys() if sizes.get(name) != now.get(name))
    if differing:
        raise ValueError(
            f"output must be a new folder or one that was made of the same source, got {str(output)!r}, made of files "
            f"of which {len(differing)} differ, first {differing[0]!r}."
        )


def _part_faults(plan: Plan, found: Found) -> Iterator[str]:
    """Yield a sentence if the source lacks units, or if leaving them out empties a part."""
    missing, unit = sorted(found.missing), plan.recipe.unit
    if missing and not plan.allow_missing:
        names = ", ".join(missing[:SHOWN]) + (", …" if len(missing) > SHOWN else "")
        rule = f"source must hold every {unit} of the split unless allow_missing is set"
        yield f"{rule}, got no file of {len(missing)}: {names}."
        return
    for part in PARTS:
        if set(plan.split[part]) <= set(missing):
            yield f"{part} must keep at least one {unit}, got none of {len(plan.split[part])} in the source."


def _check_cases(plan: Plan, found: Found) -> tuple[dict[str, CaseFacts], list[str]]:
    """Return what was measured of every case by name, and all that is wrong."""
    facts: dict[str, CaseFacts] = {}
    faults: list[str] = []
    first: dict[str, str] = {}
    for case in sorted(found.cases, key=lambda case: case.name):
        one, wrong = _check_case(case, plan)
        faults += wrong
        if one is None:
            continue
        facts[case.name] = one
        if (copy := first.setdefault(one.voxels, case.name)) != case.name:
            faults.append(f"images must differ from case to case, got the same voxels for {copy!r} and {case.name!r}.")
        logger.info("checked %s", case.name)
    return facts, faults


def _check_case(case: Case, plan: Plan) -> tuple[CaseFacts | None, list[str]]:
    """Measure a case, or return what is wrong with it."""
    recipe = plan.recipe
    (image, faults), (label, label_wrong) = read_or_fault("image", case.image), read_or_fault("label", case.label)
    faults += label_wrong
    if image is not None:
        faults += image_faults(image, case.image.name, recipe)
    if label is not None:
        faults += label_faults(label, case.label.name, recipe)
    if image is None or label is None:
        return None, faults
    if not any("affine" in fault or "spacing" in fault for fault in faults):
        settled, label_settled = (volume.settled(recipe.pixdim_rules) for volume in (image, label))
        faults += pair_faults(settled, label_settled, case.label.name, plan.affine_tolerance)
    return (None if faults else measure(case, image, label, recipe)), faults


def _write(plan: Plan, source: Path, found: Found, facts: Mapping[str, CaseFacts], folder: Path) -> None:
    """Write the volumes, the report and, last, the list."""
    recipe = plan.recipe
    parts = {part: [case for unit in plan.split[part] for case in found.cases if case.unit == unit] for part in PARTS}
    lists = {part: [_write_case(case, part, recipe, folder) for case in cases] for part, cases in parts.items()}
    rows = {part: [facts[case.name] for case in cases] for part, cases in parts.items()}
    report = DataReport(
        recipe=recipe, rows=rows, missing=sorted(found.missing), unused=found.unused, settings=plan.settings()
    )
    write_report(report, folder, lists)
    content = {
        "name": recipe.title,
        "description": recipe.description,
        "reference": recipe.reference,
        "licence": recipe.license,
        "modality": {"0": recipe.modality},
        "labels": {str(index): name for index, name in enumerate(recipe.classes)},
        "numTraining": len(lists["training"]),
        "numTest": len(lists["test"]),
        **lists,
        "missing": sorted(found.missing),
        "synthetic": any(facts[case.name].synthetic for case in found.cases),
        "prepared_by": f"vafa_monai {vafa_monai.__version__}",
        "settings": plan.settings(),
        "source": _source_hashes(source, found.cases),
        "sha256": list_hashes(folder),
    }
    write_json(folder / DATALIST, content)


def _write_case(case: Case, part: str, recipe: Recipe, folder: Path) -> dict[str, str]:
    """Write image and label with the affine of the image; return their relative paths."""
    paths = {kind: f"{kind}s{SUFFIXES[part]}/{case.name}.nii.gz" for kind in ("image", "label")}
    image = read_volume(case.image).settled(recipe.pixdim_rules)
    classes = np.asarray(recipe.mapping, dtype=np.uint8)[read_volume(case.label).array.astype(np.uint8)]
    write_volume(folder / paths["image"], storable(image.array), image.affine)
    write_volume(folder / paths["label"], classes, image.affine)
    return paths


def _source_hashes(source: Path, cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Return size and SHA-256 of every file that was read."""
    files = [path for case in cases for path in (case.image, case.label)]
    return {_relative(path, source): {"bytes": path.stat().st_size, "sha256": sha256(path)} for path in files}


def _relative(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix()

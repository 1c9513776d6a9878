"""Any task of the Medical Segmentation Decathlon's layout: ``dataset.json``, ``imagesTr`` and ``labelsTr``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from monai.apps.datasets import DecathlonDataset
from monai.apps.utils import download_and_extract

from vafa_monai.data.files import read_json
from vafa_monai.data.preparation import AFFINE_TOLERANCE, DATALIST, Plan, prepare
from vafa_monai.data.recipe import SUFFIXES, Case, Found, Recipe, list_unused
from vafa_monai.data.split import PARTS, Split, complete_split, read_split, take_validation

__all__ = ["prepare_decathlon"]

FIXED = Path(__file__).with_name("decathlon_splits.json")  # by the name in dataset.json
TEST_SHARE, VALIDATION_SHARE = 5, 10  # every fifth case tests, every tenth selects the model
HOUNSFIELD = (-500, 100)
TASK = "a folder of the Medical Segmentation Decathlon, with dataset.json, imagesTr and labelsTr"
MODALITIES = {"ct": "CT", "mr": "MRI", "mri": "MRI"}


def prepare_decathlon(
    source: str | Path,
    output: str | Path,
    *,
    validation: int | None = None,
    split: str | Path | None = None,
    seed: int = 0,
    download: bool = False,
    allow_missing: bool = False,
    affine_tolerance: float = AFFINE_TOLERANCE,
) -> Path:
    """Check a task of the Medical Segmentation Decathlon and write it as a dataset that MONAI trains on, with a report.

    ``source`` is a folder such as ``Task04_Hippocampus``, with ``dataset.json``, ``imagesTr`` and ``labelsTr``, and is
    only read. Classes and modality come from its ``dataset.json``. ``output`` is as :func:`prepare_synapse` makes it.

    Args:
        source: folder of the task as it is handed out.
        output: folder to write to, new or empty, outside of ``source``.
        validation: number of cases that select a model; by default a tenth, or what a fixed split has.
        split: JSON file with lists of case names under ``"training"``, ``"test"`` and, in place of ``validation``,
            ``"validation"``. By default the fixed split of this project for ``Hippocampus`` (150, 20 and 50 of 220
            cases; the 40 others of the official archive are left out), and for any other task a random one, of which
            a fifth tests.
        seed: random seed of the split, where it is not fixed.
        download: fetch the archive first if ``source`` is not there, with MONAI's downloader and its checksum; the name
            of the folder is that of the task.
        allow_missing: prepare what is there of the split, and say in the report what is missing.
        affine_tolerance: how far a label may lie from its image by its affine, in voxels; it gets that of its image.

    Returns:
        The path of ``dataset.json``, with the keys ``"training"``, ``"validation"`` and ``"test"``.

    Raises:
        ValueError: if a setting or a place is wrong, ``source`` is no such task or has several modalities, ``output``
            holds something else, or the source has faults: the message lists all of them, and nothing is written.
    """
    if download:
        download_decathlon(source)
    task = read_decathlon(source)
    listed = _listed(task, Path(source))
    parts = decathlon_split(task["name"], sorted(listed), seed=seed, validation=validation, split=split)
    plan = Plan(
        recipe=_recipe(task),
        find=partial(find_decathlon, listed),
        split=parts,
        allow_missing=allow_missing,
        affine_tolerance=affine_tolerance,
    )
    return prepare(plan, source, output)


def read_decathlon(source: str | Path) -> dict[str, Any]:
    """Return the ``dataset.json`` of a task.

    Raises:
        ValueError: if it is not there, is no task, or has more than one modality.
    """
    path = Path(source) / DATALIST
    if not path.is_file():
        raise ValueError(f"source must be {TASK}, got {str(source)!r}.")
    task = read_json(path, "source")
    kinds = {"name": str, "modality": dict, "labels": dict, "training": list}
    wrong = [key for key, kind in kinds.items() if not isinstance(task.get(key), kind)]
    if wrong:
        raise ValueError(f"source must be {TASK}, got {str(source)!r}, whose {DATALIST} lacks {', '.join(wrong)}.")
    if len(task["modality"]) != 1:
        several = list(task["modality"].values())
        raise ValueError(f"source must have one modality, got {several!r} in {str(path)!r}.")
    return task


def decathlon_split(
    name: str,
    cases: list[str],
    *,
    seed: int = 0,
    validation: int | None = None,
    split: str | Path | None = None,
) -> Split:
    """Return the split of a file, the fixed one of a task of this name, or a random one.

    Args:
        name: name of the task in its ``dataset.json``.
        cases: names of its labeled cases.
        seed: random seed.
        validation: number of cases that select a model; for a split without such a part.
        split: the user's own file.

    Raises:
        ValueError: if there are too few cases, or ``validation`` does not go with the split.

    Example:
        >>> {part: len(names) for part, names in decathlon_split("Heart", [f"la_{i:03d}" for i in range(20)]).items()}
        {'training': 14, 'validation': 2, 'test': 4}
    """
    fixed = read_json(FIXED)
    if split is not None or name in fixed:
        chosen = fixed[name] if split is None else read_split(split)
        return complete_split(chosen, validation, max(1, len(cases) // VALIDATION_SHARE))
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}.")
    if len(cases) < len(PARTS):
        raise ValueError(f"source must have at least {len(PARTS)} labeled cases, got {len(cases)}.")
    order = [sorted(cases)[index] for index in np.random.default_rng(seed).permutation(len(cases))]
    test = max(1, len(cases) // TEST_SHARE)
    count = max(1, len(cases) // VALIDATION_SHARE) if validation is None else validation
    return take_validation({"training": order[test:], "test": order[:test]}, count)


def find_decathlon(listed: Mapping[str, tuple[Path, Path]], source: Path, units: Iterable[str]) -> Found:
    """Find image and label of every named case among those that ``dataset.json`` lists."""
    cases, faults, missing = [], [], []
    for unit in units:
        if unit not in listed:
            missing.append(unit)
            continue
        files = [source / path for path in listed[unit]]
        absent = [(kind, path) for kind, path in zip(("image", "label"), files, strict=True) if not path.is_file()]
        faults += [f"{kind} must exist for every case, got no {_inside(path, source)!r}." for kind, path in absent]
        if not absent:
            cases.append(Case(name=unit, unit=unit, image=files[0], label=files[1]))
    unused = [name for name in list_unused(source, source, cases) if not name.startswith("imagesTs/")]
    return Found(cases=cases, faults=faults, missing=missing, unused=unused)


def download_decathlon(source: str | Path) -> None:
    """Download and unpack a task beside ``source``, unless it is there; the checksum is MONAI's.

    Raises:
        ValueError: if the name of the folder is not that of a task.
    """
    source = Path(source)
    if source.is_dir():
        return
    if source.name not in DecathlonDataset.resource:
        raise ValueError(
            f"source must be named as a task with download, one of {sorted(DecathlonDataset.resource)}, "
            f"got {source.name!r}."
        )
    archive = source.with_name(f"{source.name}.tar")
    download_and_extract(
        DecathlonDataset.resource[source.name],
        filepath=archive,
        output_dir=source.parent,
        hash_val=DecathlonDataset.md5[source.name],
        hash_type="md5",
    )


def _listed(task: Mapping[str, Any], source: Path) -> dict[str, tuple[Path, Path]]:
    """Return image and label of every labeled case by name, relative to the source."""
    found: dict[str, tuple[Path, Path]] = {}
    for number, entry in enumerate(task["training"]):
        paths = [_relative(entry.get(kind) if isinstance(entry, dict) else None, number) for kind in ("image", "label")]
        name = paths[0].name.removesuffix(".gz").removesuffix(".nii")
        if name in found:
            raise ValueError(f"training must name every case once, got {name!r} twice in {str(source / DATALIST)!r}.")
        found[name] = (paths[0], paths[1])
    return found


def _relative(text: object, number: int) -> Path:
    """Return the relative path of a volume that stays inside its folder."""
    path = PurePosixPath(text) if isinstance(text, str) else PurePosixPath("..")
    if path.is_absolute() or ".." in path.parts or not path.name.endswith(SUFFIXES):
        rule = "a NIfTI file inside the folder of the task"
        raise ValueError(f"image and label of training must be {rule}, got {text!r} in entry {number}.")
    return Path(path)


def _inside(path: Path, source: Path) -> str:
    return path.relative_to(source).as_posix()


def _recipe(task: Mapping[str, Any]) -> Recipe:
    """Return the facts that ``dataset.json`` states."""
    labels = {str(value): str(name) for value, name in task["labels"].items()}
    if len(labels) < 2 or sorted(labels) != sorted(str(value) for value in range(len(labels))):
        raise ValueError(f"labels must map the values from 0 on to names, got {task['labels']!r}.")
    classes = tuple(labels[str(value)].lower() for value in range(len(labels)))
    stated = str(next(iter(task["modality"].values())))
    modality = MODALITIES.get(stated.lower(), stated)
    return Recipe(
        name=f"decathlon_{task['name'].lower()}",
        title=f"{task['name']} (Medical Segmentation Decathlon)",
        description=str(task.get("description", "")),
        reference=f"{task.get('reference', '')}; Simpson et al., arXiv 1902.09063, http://medicaldecathlon.com",
        license=str(task.get("licence", task.get("license", "not stated"))),
        modality=modality,
        unit="case",
        classes=classes,
        mapping=tuple(range(len(classes))),
        hounsfield=HOUNSFIELD if modality == "CT" else None,
    )

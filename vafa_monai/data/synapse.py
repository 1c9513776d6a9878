"""Synapse (BTCV): abdominal CT with thirteen organs, from the folders ``img`` and ``label`` of its RawData."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from vafa_monai.data.preparation import AFFINE_TOLERANCE, Plan, prepare
from vafa_monai.data.recipe import Case, Found, Recipe, file_faults, find_volume, list_unused
from vafa_monai.data.split import Split, complete_split, read_split

__all__ = ["SYNAPSE", "prepare_synapse", "synapse_plan", "synapse_split"]

CASES = (*range(1, 11), *range(21, 41))
TEST = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
SYNAPSE_VALIDATION = 3
PLACES = (".", "RawData/Training", "Training", "RawData")
ORGANS = (
    "spleen",
    "right kidney",
    "left kidney",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior vena cava",
    "portal and splenic veins",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
)
EIGHT = (1, 2, 3, 4, 6, 7, 8, 11)  # what UNETR++ segments, by the numbers of the labels
SYNAPSE = Recipe(
    name="synapse",
    title="Synapse multi-organ abdominal CT (BTCV)",
    description=(
        "Abdominal CT in the portal venous phase with thirteen organs, from the workshop 'Multi-Atlas Labeling Beyond "
        "the Cranial Vault'. Intensities are Hounsfield units. Of the 30 labeled cases 18 train and 12 test; the "
        "validation part is taken from those that train."
    ),
    reference="Landman et al., MICCAI 2015 workshop challenge, https://www.synapse.org/Synapse:syn3193805",
    license="Terms of the challenge at synapse.org, after registration; not to be passed on",
    modality="CT",
    unit="case",
    classes=("background", *ORGANS),
    mapping=tuple(range(len(ORGANS) + 1)),
    hounsfield=(-500, 100),
    window=(-175, 250),
)


def prepare_synapse(
    source: str | Path,
    output: str | Path,
    *,
    classes: int = 14,
    validation: int | None = None,
    split: str | Path | None = None,
    allow_missing: bool = False,
    affine_tolerance: float = AFFINE_TOLERANCE,
) -> Path:
    """Check the Synapse (BTCV) cases and write them as a dataset that MONAI trains on, with a report.

    ``source`` holds ``img/img0001.nii.gz`` and ``label/label0001.nii.gz``, itself or in ``RawData/Training``, and is
    only read. ``output`` gets images and labels, with one affine, in ``imagesTr``, ``imagesVal``, ``imagesTs`` and the
    same for labels, ``dataset.json`` that lists them and ``data_report.html``; it appears whole or not at all. Called
    again with the same settings, the function checks that all is still there.

    Args:
        source: folder of the data as it is handed out.
        output: folder to write to, new or empty, outside of ``source``.
        classes: 14 with all organs, or 9 with the eight that UNETR++ segments.
        validation: number of cases that are taken from those that train, evenly spaced by number, to select a model; 3
            by default. The published split has none, and the cases that test are never taken.
        split: JSON file with lists of case names under ``"training"``, ``"test"`` and, in place of ``validation``,
            ``"validation"``; the published split of 18 and 12 by default. The label of ``imgX`` is ``labelX``, that of
            any other name has the same name.
        allow_missing: prepare what is there of the split, and say in the report what is missing.
        affine_tolerance: how far a label may lie from its image by its affine, in voxels; it gets that of its image.

    Returns:
        The path of ``dataset.json``, in the form of the Medical Segmentation Decathlon, with the keys ``"training"``,
        ``"validation"`` and ``"test"``.

    Raises:
        ValueError: if a setting or a place is wrong, ``output`` holds something else, or the source has faults: the
            message lists all of them, and nothing is written.
    """
    plan = synapse_plan(
        classes=classes,
        split=synapse_split(validation, split),
        allow_missing=allow_missing,
        affine_tolerance=affine_tolerance,
    )
    return prepare(plan, source, output)


def synapse_plan(*, classes: int, split: Split, **settings: object) -> Plan:
    """Return the plan for 14 or 9 classes."""
    if classes not in (9, 14):
        raise ValueError(f"classes must be 14 or 9, got {classes!r}.")
    recipe = SYNAPSE if classes == 14 else _eight_organs()
    return Plan(recipe=recipe, find=find_synapse, split=split, **settings)  # type: ignore[arg-type]


def synapse_split(validation: int | None = None, split: str | Path | None = None) -> Split:
    """Return the published split, or that of a file, with a validation part."""
    published = {
        "training": [f"img{number:04d}" for number in CASES if number not in TEST],
        "test": [f"img{number:04d}" for number in TEST],
    }
    return complete_split(published if split is None else read_split(split), validation, SYNAPSE_VALIDATION)


def find_synapse(source: Path, units: Iterable[str]) -> Found:
    """Find image and label of every named case."""
    places = [source / place for place in PLACES]
    place = next((folder for folder in places if (folder / "img").is_dir() and (folder / "label").is_dir()), None)
    if place is None:
        sentence = f"source must hold the folders img and label, itself or in {PLACES[1]}, got neither place."
        return Found(cases=[], faults=[sentence], missing=[], unused=[])
    cases, faults, missing = [], [], []
    for unit in units:
        image, label = unit, f"label{unit[3:]}" if unit.startswith("img") else unit
        images, labels = find_volume(place / "img", image), find_volume(place / "label", label)
        if not images and not labels:
            missing.append(unit)
            continue
        wrong = [*file_faults("image", image, images), *file_faults("label", label, labels)]
        faults += wrong
        if not wrong:
            cases.append(Case(name=unit, unit=unit, image=images[0], label=labels[0]))
    return Found(cases=cases, faults=faults, missing=missing, unused=list_unused(source, place, cases))


def _eight_organs() -> Recipe:
    """Return the recipe with the organs of UNETR++ numbered from 1 and the others as background."""
    mapping = tuple(EIGHT.index(value) + 1 if value in EIGHT else 0 for value in SYNAPSE.mapping)
    return replace(SYNAPSE, classes=("background", *(ORGANS[value - 1] for value in EIGHT)), mapping=mapping)

"""Which cases train, select the model and test; the test part is never touched to make the validation part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.data import load_decathlon_datalist

from vafa_monai.data.files import read_json

__all__ = [
    "PARTS",
    "Split",
    "complete_split",
    "evenly_spaced",
    "overlaps",
    "read_datalist",
    "read_split",
    "take_validation",
]

PARTS = ("training", "validation", "test")
Split = dict[str, list[str]]


def take_validation(split: Mapping[str, Sequence[str]], count: int) -> Split:
    """Move ``count`` names, evenly spaced in their sorted order, from training to validation.

    There is no chance in it, and where neighbors are alike, as the disease groups of ACDC are, every stretch of them
    gives its share.

    Args:
        split: names under ``"training"`` and ``"test"``.
        count: how many to take.

    Returns:
        Sorted names under ``"training"``, ``"validation"`` and ``"test"``.

    Raises:
        ValueError: if ``count`` is not from 1 to one less than the names that train.

    Example:
        >>> take_validation({"training": ["a", "b", "c", "d", "e"], "test": ["f"]}, 2)
        {'training': ['a', 'c', 'e'], 'validation': ['b', 'd'], 'test': ['f']}
    """
    names = sorted(split["training"])
    if isinstance(count, bool) or not isinstance(count, int) or not 0 < count < len(names):
        raise ValueError(f"validation must be a whole number from 1 to {len(names) - 1}, got {count!r}.")
    taken = evenly_spaced(names, count)
    return {
        "training": [name for name in names if name not in taken],
        "validation": taken,
        "test": sorted(split["test"]),
    }


def evenly_spaced(names: Sequence[str], count: int) -> list[str]:
    """Return ``count`` of ``n`` names: those with the indices ``floor((i + 1/2) * n / count)``.

    Example:
        >>> evenly_spaced(["a", "b", "c", "d", "e"], 2)
        ['b', 'd']
    """
    return [names[(2 * index + 1) * len(names) // (2 * count)] for index in range(count)]


def complete_split(split: Mapping[str, Sequence[str]], validation: int | None, default: int) -> Split:
    """Return a split with all three parts: its own validation part, or one that is taken from training.

    Args:
        split: names under ``"training"`` and ``"test"``, and perhaps ``"validation"``.
        validation: how many names to take from training; ``None`` for what the split has, or else ``default``.
        default: how many to take if nobody says.

    Raises:
        ValueError: if ``validation`` is given and the split has a validation part, or it is out of range.
    """
    if "validation" not in split:
        return take_validation(split, default if validation is None else validation)
    if validation is not None:
        raise ValueError(f"validation must be left out with a split that has a validation part, got {validation!r}.")
    return {part: sorted(split[part]) for part in PARTS}


def read_datalist(
    path: str | Path, part: str, exit_on_error: bool = False, required: bool = True
) -> list[dict[str, Any]]:
    """Return the cases of a part of a ``dataset.json``, with the paths that MONAI makes of them.

    Args:
        path: the file, in the form of the Medical Segmentation Decathlon.
        part: ``"training"``, ``"validation"``, ``"test"`` or another key of a list of cases.
        exit_on_error: end the process with the sentence and exit code 1, as configs do, instead of raising.
        required: ``False`` returns an empty list where there is no file or no such part.

    Raises:
        ValueError: if the file is no such list, or has no case of this part.
    """
    if not required and not Path(path).is_file():
        return []
    try:
        content = read_json(path, "datalist")
        if not required and not content.get(part):
            return []
        rule = f"datalist must have a list of cases as {part!r}"
        listed = content.get(part)
        if not isinstance(listed, list) or not listed:
            parts = [key for key, value in content.items() if isinstance(value, list) and value]
            raise ValueError(f"{rule}, got {type(listed).__name__} in {str(path)!r}, which has lists as {parts}.")
        wrong = [case for case in listed if not isinstance(case, dict) or not _has_files(case)]
        if wrong:
            raise ValueError(f"{rule}, each with paths as 'image' and 'label', got {wrong[0]!r} in {str(path)!r}.")
        return load_decathlon_datalist(path, True, part)
    except ValueError as error:
        if exit_on_error:
            raise SystemExit(str(error)) from None
        raise


def _has_files(case: Mapping[str, Any]) -> bool:
    """Tell whether a case has a path, or a list of them, as image and as label."""
    files = [value if isinstance(value, list) else [value] for value in (case.get("image"), case.get("label"))]
    return all(paths and all(isinstance(path, str) for path in paths) for paths in files)


def read_split(path: str | Path) -> Split:
    """Read a split of the user's own: a JSON object with lists of names.

    Returns:
        The names under ``"training"`` and ``"test"``, and under ``"validation"`` if the file has them.

    Raises:
        ValueError: if the file is missing or has another form.
    """
    rule = 'a JSON file with lists of names under "training" and "test", and "validation" if wanted'
    content = read_json(path, "split")
    parts = {part: content[part] for part in PARTS if part in content}
    for part in ("training", "test", *parts):
        names = parts.get(part)
        if not isinstance(names, list) or not names or not all(_is_name(name) for name in names):
            raise ValueError(f"split must be {rule}, got {names!r} as {part!r} in {str(path)!r}.")
    return parts


def _is_name(name: object) -> bool:
    """Tell whether this can be the name of a file without its ending, and of nothing elsewhere."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\")


def overlaps(split: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one sentence for every name that stands in a split more than once."""
    places: dict[str, list[str]] = {}
    for part, names in split.items():
        for name in names:
            places.setdefault(name, []).append(part)
    return [
        f"split must name every case once, got {name!r} in {' and '.join(parts)}."
        for name, parts in places.items()
        if len(parts) > 1
    ]

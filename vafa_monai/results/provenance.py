"""What a result says of where it comes from, and its summary."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai.data import MetaTensor
from monai.utils import CommonKeys, ensure_tuple
from torch import Tensor

import vafa_monai
from vafa_monai.data.case import CASE_NAME
from vafa_monai.data.files import file_name, sha256
from vafa_monai.metrics.image_quality import QUALITY_NAMES
from vafa_monai.results.case import SEGMENTATION

__all__ = [
    "PRESENCE_NAMES",
    "case_files",
    "case_input",
    "case_name",
    "inferer_facts",
    "listed_files",
    "listed_name",
    "listed_names",
    "merge_results",
    "require_different",
    "summarize",
    "versions",
]

MEANS = ("sw_batch_size", "sw_device", "device", "progress", "cpu_thresh", "buffer_steps", "buffer_dim")  # not what


def case_name(image: Tensor) -> str:
    """Return the name that a case was given, or the file name of its volume without endings.

    Raises:
        ValueError: if the volume does not know its file, or its name has no or unprintable characters.
    """
    path = image.meta.get(CASE_NAME) or _path(image) if isinstance(image, MetaTensor) else None
    if path is None:
        raise ValueError("image must know its file, got no metadata; load it with LoadImaged.")
    return _printable(path)


def _printable(path: str | Path) -> str:
    """Return the name of the case of a file; refuse escape sequences, which terminals and pages would follow."""
    name = file_name(path)
    if not name or not name.isprintable():
        raise ValueError(f"a case must have a file name of printable characters, got {str(path)!r}.")
    return name


def listed_names(engine: Any) -> list[str]:
    """Return the names of the cases that an engine is to run, as far as its dataset lists their files.

    Raises:
        ValueError: if two of them are equal: one would be taken for the other, or written over it.
    """
    listed = getattr(getattr(getattr(engine.state, "dataloader", None), "dataset", None), "data", None)
    cases = [case for case in (listed or ()) if isinstance(case, Mapping)]
    names = [_printable(case[CASE_NAME]) for case in cases if CASE_NAME in case]
    images = [case.get(CommonKeys.IMAGE) for case in cases if CASE_NAME not in case]
    firsts = [image[0] if isinstance(image, (list, tuple)) and image else image for image in images]
    names += [_printable(image) for image in firsts if isinstance(image, (str, Path))]
    names += [_printable(path) for image in firsts if (path := _path(image)) is not None]
    require_different(names)
    return names


def require_different(names: Sequence[str]) -> None:
    """Refuse two cases of one name."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"cases must have file names that differ, got {twice!r} twice.")


def case_files(case: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the SHA-256 of the files of image and label of a case; ``None`` where there is no such file."""
    found = {key: _path(case.get(key)) for key in (CommonKeys.IMAGE.value, CommonKeys.LABEL.value)}
    return {key: sha256(path) if path is not None and Path(path).is_file() else None for key, path in found.items()}


def listed_files(case: Mapping[str, Any], known: dict[str, str | None]) -> dict[str, list[str | None]]:
    """Return the SHA-256 of the files of image and label of a case that is not loaded, ``None`` where there is none.

    Args:
        case: a path, or a list of them, for ``"image"`` and ``"label"``.
        known: hashes by path; files that are not among them are read, and added.
    """
    paths = {key: [str(one) for one in ensure_tuple(case[key])] for key in ("image", "label")}
    for path in {*paths["image"], *paths["label"]} - known.keys():
        known[path] = sha256(path) if Path(path).is_file() else None
    return {key: [known[path] for path in several] for key, several in paths.items()}


def listed_name(case: Mapping[str, Any]) -> str:
    """Return the name of a case that is not loaded: its own, or that of its image, or of the first one."""
    return str(case.get(CASE_NAME) or file_name(str(ensure_tuple(case["image"])[0])))


def case_input(clean: Tensor) -> dict[str, Any]:
    """Return what tells apart how an image was prepared: its shape, and mean and deviation of its intensities."""
    plain = clean.detach().double()
    return {
        "shape": list(clean.shape),
        "mean": round(plain.mean().item(), 6),
        "std": round(plain.std(correction=0).item(), 6),
    }


def inferer_facts(inferer: Any) -> dict[str, Any]:
    """Return what an inferer is: its class and its plain settings, but those that change memory and speed alone.

    Example:
        >>> from monai.inferers import SimpleInferer
        >>> inferer_facts(SimpleInferer())
        {'_target_': 'monai.inferers.inferer.SimpleInferer'}
    """
    kind = type(inferer)
    kept = {name: _plain(value) for name, value in sorted(vars(inferer).items()) if name[0] != "_"}
    plain = {name: value for name, value in kept.items() if value is not None and name not in MEANS}
    return {"_target_": f"{kind.__module__}.{kind.__qualname__}", **plain}


def _plain(value: Any) -> Any:
    """Return a number, a text, or several of them as JSON has them; nothing of anything else."""
    if isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None


def _path(image: Any) -> str | None:
    """Return the file that a volume was loaded from, if it knows it."""
    path = image.meta.get("filename_or_obj") if isinstance(image, MetaTensor) else None
    return str(path) if path else None


def versions() -> dict[str, str]:
    """Return the versions of the programs that made a result."""
    packages = {name: version(name) for name in ("monai", "torch", "numpy")}
    return {"vafa_monai": vafa_monai.__version__, **packages, "python": platform.python_version()}


PRESENCE_NAMES = ("lost", "invented")
OF_THE_RUN = ("seconds", "cost", "cases", "summary", "slices", "notes", "device", "checkpoint", "made_of")


def summarize(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the means over cases of the means over the organs that a case has, and how many organs were lost.

    A figure of the image is the mean of all cases, or nothing if a case has none.

    Example:
        >>> quality = dict.fromkeys(QUALITY_NAMES, 1.0)
        >>> organs = {"dice": [0.9, 0.5, None], "hd95_mm": [None, 2.0, 4.0], "nsd": [None, 1.0, 0.0]}
        >>> found = summarize([{**organs, "lost": 1, "invented": 0, **quality}])
        >>> found["dice"], found["dice_with_background"], found["hd95_mm"], found["lost"]
        (0.5, 0.7, 3.0, 1)
    """
    organs = {name: _mean([_mean(case[name][1:]) for case in cases]) for name in SEGMENTATION}
    quality = {name: [case[name] for case in cases] for name in QUALITY_NAMES}
    return {
        **organs,
        "dice_with_background": _mean([_mean(case["dice"]) for case in cases]),
        **{name: sum(case[name] for case in cases) for name in PRESENCE_NAMES},
        **{name: None if None in values else _mean(values) for name, values in quality.items()},
    }


def merge_results(results: Sequence[dict[str, Any]], slices: str | None) -> dict[str, Any]:
    """Return the result of all cases of results that differ in nothing else, one after the other.

    Args:
        results: documents of one model under one attack with the same settings.
        slices: name of the file beside, with slice and volume of the first case.

    Returns:
        The document; its ``seconds`` are ``None``, because parts are of different runs.

    Raises:
        ValueError: if the results are of different settings, or have a case in common.
    """
    first = {name: value for name, value in results[0].items() if name not in OF_THE_RUN}
    weights = results[0]["checkpoint"]["sha256"]
    for other in results[1:]:
        differing = [name for name in first if other.get(name) != first[name]]
        differing += ["checkpoint"] if other["checkpoint"]["sha256"] != weights else []
        if differing:
            raise ValueError(f"results must differ in their cases alone, got another {differing[0]!r}.")
    cases = [case for result in results for case in result["cases"]]
    require_different([case["case"] for case in cases])
    costs = [result["cost"] for result in results if "cost" in result]
    cost = {way: sum(one[way] for one in costs) for way in costs[0]} if costs else {}
    return {
        **first,
        "checkpoint": results[0]["checkpoint"],
        "device": ", ".join(sorted({result["device"] for result in results})),
        "seconds": None,
        "notes": list(dict.fromkeys(note for result in results for note in result["notes"])),
        "summary": summarize(cases),
        "cases": cases,
        **({"cost": cost} if cost else {}),
        "slices": slices,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean of the numbers, of six digits; nothing of none."""
    known = [value for value in values if value is not None]
    return round(sum(known) / len(known), 6) if known else None

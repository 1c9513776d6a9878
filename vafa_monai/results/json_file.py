"""Reading what a program wrote as JSON: inside its folder, strictly JSON, and refused with one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from vafa_monai.data.files import read_json

__all__ = ["counts", "numbers", "read_document", "require", "require_kinds", "require_texts"]

SHARE, AMOUNT = (0.0, 1.0), (0.0, math.inf)
LIMITS: Mapping[str, tuple[float, float]] = {  # of what can be measured at all, by the name of the figure
    **dict.fromkeys(("dice", "dice_with_background", "nsd"), SHARE),
    **dict.fromkeys(("hd95_mm", "rms_grey", "linf_grey", "lpips", "lost", "invented", "volume_ml", "seconds"), AMOUNT),
    **dict.fromkeys(("forward", "backward"), AMOUNT),
    "ssim": (-1.0, 1.0),
}
ROUNDING = 1e-4  # of a mean of float32: an SSIM of 1.000015 is 1
SHOWN = 400  # characters of a value in an error; a path is to be whole


def require(condition: bool, argument: str, rule: str, value: object) -> None:
    """Raise ``ValueError`` in the words of every error here, unless ``condition`` holds."""
    if not condition:
        text = repr(value)
        raise ValueError(f"{argument} must {rule}, got {text if len(text) <= SHOWN else text[:SHOWN] + '…'}.")


def read_document(path: Path, root: Path) -> dict[str, Any]:
    """Return the JSON object of a file, which must lie inside ``root``.

    Raises:
        ValueError: if it does not, or is no JSON object; NaN and infinity are no JSON.
    """
    name = path.relative_to(root).as_posix()
    inside = path.resolve().is_relative_to(root.resolve())
    require(inside, name, "lie inside the folder it is read from", str(path.resolve()))
    document: dict[str, Any] = read_json(path, name)
    return document


def require_kinds(document: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], name: str) -> None:
    """Refuse a document in which a key is missing or of another kind; ``name`` is said in the error."""
    for key, allowed in kinds.items():
        rule = f"be of kind {' or '.join(kind.__name__ for kind in allowed)}"
        require(key in document and isinstance(document[key], allowed), f"{key} of {name}", rule, document.get(key))


def require_texts(values: Mapping[str, Any], where: str, *, undefined: bool = False) -> None:
    """Refuse an object in which a value is no text, or neither that nor ``None``."""
    for key, value in values.items():
        rule = "be a text or null" if undefined else "be a text"
        require(isinstance(value, str) or (undefined and value is None), f"{key} in {where}", rule, value)


def counts(values: Mapping[str, Any], keys: Iterable[str], where: str) -> dict[str, int]:
    """Return the named values; each must be there and be a whole number of at least 0."""
    found = numbers(values, keys, where)
    for key, value in found.items():
        require(value is not None and value == int(value), f"{key} in {where}", "be a whole number", value)
    return found


def numbers(values: Mapping[Any, Any], keys: Iterable[Any], where: str, name: str | None = None) -> dict[Any, Any]:
    """Return the named values; each must be there and be ``None``, or a number that can be measured.

    Args:
        values: the object that holds them.
        keys: names of the values.
        where: said in errors.
        name: what all of them are, such as ``"dice"``; by default each is what its key says.
    """
    for key in keys:
        require(key in values, where, f"have the value {key!r}", sorted(map(str, values)))
        value = values[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        require(value is None or number, f"{key} in {where}", "be a finite number or null", value)
        low, high = LIMITS.get(key if name is None else name, (-math.inf, math.inf))
        inside = value is None or low - ROUNDING <= value <= high + ROUNDING
        rule = f"be at least {low:g}" if high == math.inf else f"lie between {low:g} and {high:g}"
        require(inside, f"{key} in {where}", rule, value)
    return {key: values[key] for key in keys}

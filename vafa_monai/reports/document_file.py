"""Reading what a program wrote as JSON: inside its folder, strictly JSON, and refused with one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["numbers", "read_document", "require", "require_kinds"]


def require(condition: bool, argument: str, rule: str, value: object) -> None:
    """Raise ``ValueError`` in the words of every error here, unless ``condition`` holds."""
    if not condition:
        raise ValueError(f"{argument} must {rule}, got {value!r}.")


def read_document(path: Path, root: Path) -> dict[str, Any]:
    """Return the JSON object of a file, which must lie inside ``root``.

    Raises:
        ValueError: if it does not, or is no JSON object; NaN and infinity are no JSON.
    """
    name = path.relative_to(root).as_posix()
    inside = path.resolve().is_relative_to(root.resolve())
    require(inside, name, "lie inside the folder it is read from", str(path.resolve()))
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} must be a readable JSON file, got {str(error)!r}.") from error
    require(isinstance(document, dict), name, "be a JSON object", type(document).__name__)
    return document


def require_kinds(document: Mapping[str, Any], kinds: Mapping[str, tuple[type, ...]], name: str) -> None:
    """Refuse a document in which a key is missing or of another kind; ``name`` is said in the error."""
    for key, allowed in kinds.items():
        rule = f"be of kind {' or '.join(kind.__name__ for kind in allowed)}"
        require(key in document and isinstance(document[key], allowed), f"{key} of {name}", rule, document.get(key))


def numbers(values: Mapping[Any, Any], keys: Iterable[Any], where: str) -> dict[Any, Any]:
    """Return the named values; each must be there and be a finite number or ``None``."""
    for key in keys:
        require(key in values, where, f"have the value {key!r}", sorted(map(str, values)))
        value = values[key]
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        require(value is None or number, f"{key} in {where}", "be a finite number or null", value)
    return {key: values[key] for key in keys}


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON number; write null")

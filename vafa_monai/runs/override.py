"""Config ids that a run changes: which there are, what a typed value means, which cannot be."""

from __future__ import annotations

import ast
import io
import json
import math
import os
import re
import tokenize
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from inspect import Parameter, ismethod, signature
from numbers import Integral, Real
from pathlib import Path
from pydoc import ErrorDuringImport, locate
from typing import Any

import torch
from monai.bundle import ConfigComponent, ConfigParser

from vafa_monai.attacks.validation import AMOUNT
from vafa_monai.data.files import read_json

__all__ = [
    "checkpoint_file",
    "is_expression",
    "is_known",
    "is_text",
    "merged_config",
    "nearest",
    "parse_values",
    "refuse_impossible",
    "refuse_taken",
    "require_known",
    "truth",
]

PATH_NAMES = ("_dir", "_root", "_path", "resume_file", "pretrained_file", "datalist", "lpips_weights")
TEXT_NAMES = ("_name", "model_file")
COMPONENT_KEYS = ("_disabled_", "_requires_", "_desc_", "_mode_")  # that MONAI knows beside the arguments
REFERENCE = re.compile(r"@\w*(?:(?:#|::)\w*)*")
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
MISSING = object()


# The ids


def merged_config(paths: Iterable[Path]) -> dict[str, Any]:
    """Return what configs say together, each on those before it; it is read once as long as no file changes.

    Raises:
        ValueError: if a file is no JSON object.
    """
    return _merged(tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in paths))


@lru_cache(maxsize=256)
def _merged(files: tuple[tuple[str, int, int], ...]) -> dict[str, Any]:
    """Merge as MONAI does; time and size only tell a changed file from the one before."""
    for path, *_ in files:
        read_json(path, "config")
    return ConfigParser.load_config_files([path for path, *_ in files])


def is_known(config: Mapping[str, Any], name: str) -> bool:
    """Tell whether configs have an id; see :func:`require_known`."""
    try:
        require_known(config, [name])
    except ValueError:
        return False
    return True


def require_known(config: Mapping[str, Any], names: Iterable[str], also: Iterable[str] = ()) -> None:
    """Refuse config ids that the configs of a run do not have; MONAI would add them, and nothing would read them.

    An argument that a component takes and its config leaves out is known, too.

    Args:
        config: the merged configs.
        names: the ids.
        also: names that are offered beside the ids, because a command has them as options.

    Raises:
        ValueError: if there is no such id; the nearest ones are named.

    Example:
        >>> require_known({"eps": 0.1, "epochs": 3}, ["epss"])
        Traceback (most recent call last):
        ...
        ValueError: override must be a config id of this run, got 'epss'; nearest: eps, epochs.
    """
    for name in names:
        parent, found = config, ""
        for key in _keys(name):
            below, is_last = _child(parent, key), f"{found}{key}" == _plain(name)
            if below is MISSING and not (is_last and _takes(parent, key)):
                near = nearest(key, [*_children(parent), *_arguments_of(parent), *(() if found else also)], found)
                raise ValueError(f"override must be a config id of this run, got {name!r}{near}.")
            parent, found = below, f"{found}{key}#"


def refuse_taken(names: Iterable[str], taken: Sequence[str]) -> None:
    """Refuse ids that a chain of runs sets by itself or does not read, and what is below them.

    Raises:
        ValueError: if there is one.

    Example:
        >>> refuse_taken(["eps", "attack#steps"], ["attack"])
        Traceback (most recent call last):
        ...
        ValueError: overrides must leave attack to the command, got attack#steps.
    """
    for name in names:
        if (first := _keys(name)[0]) in taken:
            raise ValueError(f"overrides must leave {first} to the command, got {name}.")


def nearest(name: str, names: Iterable[str], above: str = "") -> str:
    """Return the nearest names, with what is above them in the id, as the end of a sentence; nothing if there are none.

    Example:
        >>> nearest("atack", ["attack", "attack_steps", "seed"])
        '; nearest: attack'
    """
    known = dict.fromkeys(names)
    inside = [one for one in known if len(name) > 3 and (name in one or one in name)]
    near = list(dict.fromkeys([*get_close_matches(name, known, n=3), *inside]))[:3]
    return f"; nearest: {', '.join(f'{above}{one}' for one in near)}" if near else ""


def _plain(name: str) -> str:
    """Write an id with ``#``."""
    return name.replace("::", "#")


def _keys(name: str) -> list[str]:
    return _plain(name).split("#")


def _children(parent: Any) -> Iterator[str]:
    """Yield the keys of an object or the numbers of a list."""
    if isinstance(parent, Mapping):
        yield from map(str, parent)
    elif isinstance(parent, Sequence) and not isinstance(parent, str):
        yield from map(str, range(len(parent)))


def _child(parent: Any, key: str) -> Any:
    """Return what is under a key, or ``MISSING``."""
    if key not in _children(parent):
        return MISSING
    return parent[key] if isinstance(parent, Mapping) else parent[int(key)]


def _present(config: Mapping[str, Any], name: str) -> Any:
    """Return what an id has now, references followed; ``MISSING`` for an argument that the config leaves out."""
    seen: list[str] = []
    while name not in seen:
        seen.append(name)
        value: Any = config
        for key in _keys(name):
            value = _child(value, key)
        name = value[1:] if isinstance(value, str) and REFERENCE.fullmatch(value) else name
    return value


def _takes(parent: Any, key: str) -> bool:
    """Tell whether a component takes an argument that its config leaves out."""
    return key in _arguments_of(parent) or (key in COMPONENT_KEYS and "_target_" in _children(parent))


def _arguments_of(parent: Any) -> frozenset[str]:
    """Return the names of the arguments of a component; none if it is none."""
    target = parent.get("_target_") if isinstance(parent, Mapping) else None
    return _arguments(target) if isinstance(target, str) else frozenset()


@lru_cache(maxsize=256)
def _arguments(target: str) -> frozenset[str]:
    """Return the names of the arguments of a target, those of the classes that it is made of among them."""
    try:
        found: Any = locate(str(ConfigComponent(config={"_target_": target}).resolve_module_name()))
    except ErrorDuringImport:  # what the run will say, too
        return frozenset()
    owner = found.__self__ if ismethod(found) else found
    classes = owner.__mro__ if isinstance(owner, type) else ()
    makers = [found, *(vars(one).get("__init__") for one in classes)] if callable(found) else []
    return frozenset(name for maker in makers for name in _named(maker)) - {"self"}


def _named(maker: Any) -> Iterator[str]:
    """Yield the arguments that can be given by name."""
    try:
        parameters = signature(maker).parameters.values()
    except (TypeError, ValueError):  # written in C
        return
    kinds = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    yield from (one.name for one in parameters if one.kind in kinds)


# The values


def parse_value(config: Mapping[str, Any], name: str, word: str | bool) -> Any:
    """Return what a typed word means for a config id: text for text and places, else JSON or Python.

    ``$…``, ``@…`` and ``%…`` are MONAI's expressions, but for places and names. A relative path is one of the working
    directory.

    Args:
        config: the merged configs.
        name: a known id.
        word: what was typed, or ``True`` for an id without a value.

    Raises:
        ValueError: if the word is of another kind than the value that is there now.

    Example:
        >>> config = {"eps": 0.1, "amp": False, "model_name": "a", "roi_size": [8, 8, 8]}
        >>> [parse_value(config, *pair) for pair in (("eps", "1"), ("amp", "FALSE"), ("model_name", "1e3"))]
        [1, False, '1e3']
        >>> parse_value(config, "roi_size", "16,16,8")
        [16, 16, 8]
    """
    now = _present(config, name)
    if isinstance(word, bool):
        if isinstance(now, (int, float, str, list, dict)) and not isinstance(now, bool) and not is_expression(now):
            raise ValueError(f"{name} must have a value, got none.")
        return word
    if is_text(name) and (now is None or now is MISSING or isinstance(now, str)):
        return _as_path(name, word) if _keys(name)[-1].endswith(PATH_NAMES) else word
    if is_expression(word):
        return word
    return _of_kind(name, word, now)


def parse_values(config: Mapping[str, Any], words: Mapping[str, Any], also: Iterable[str] = ()) -> dict[str, Any]:
    """Return what typed words mean for their ids; see :func:`require_known` and :func:`parse_value`.

    Args:
        config: the merged configs.
        words: ids with what was typed; what is no text is as it is.
        also: names that are offered beside the ids.

    Raises:
        ValueError: if an id is unknown or a word of another kind.
    """
    require_known(config, words, also)
    return {
        name: parse_value(config, name, word) if isinstance(word, (str, bool)) else word for name, word in words.items()
    }


def is_text(name: str) -> bool:
    """Tell whether an id is that of a place or a name, whose text stands for itself."""
    return _keys(name)[-1].endswith(PATH_NAMES + TEXT_NAMES)


def is_expression(value: Any) -> bool:
    """Tell whether MONAI would evaluate a text, look up what it refers to, or read another file."""
    return isinstance(value, str) and (value.startswith(("$", "%")) or REFERENCE.fullmatch(value) is not None)


def _as_path(name: str, word: str) -> str:
    """Return the absolute path."""
    if not word:
        raise ValueError(f"{name} must be a path, got {word!r}.")
    return os.path.abspath(word)  # noqa: PTH100 - links stay as they are


def _of_kind(name: str, word: str, now: Any) -> Any:
    """Read a word as JSON or Python, and refuse another kind than that of the present value."""
    if isinstance(now, bool):
        return truth(name, word)
    value = _literal(word)
    if isinstance(now, str) and not is_expression(now):
        return value if isinstance(value, (list, dict)) else word
    if isinstance(now, list) and isinstance(value, str) and "," in value and not value.startswith(("[", "(")):
        value = [_literal(one.strip()) for one in value.split(",")]
    for kinds, words in (((int, float), "a number"), ((list,), "a list"), ((dict,), "an object")):
        if isinstance(now, kinds) and isinstance(value, (str, bool)):
            raise ValueError(f"{name} must be {words}, got {word!r}.")
    return value


def truth(name: str, word: str) -> bool:
    """Return what a word says of yes or no.

    Raises:
        ValueError: if it says neither.

    Example:
        >>> truth("quick", "False")
        False
    """
    if word.lower() not in TRUTHS:
        raise ValueError(f"{name} must be true or false, got {word!r}.")
    return TRUTHS[word.lower()]


def _literal(word: str) -> Any:
    """Return the JSON or Python value that a word is, or the word."""
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if word.lower() in ("none", "null"):
        return None
    for read in (json.loads, _python):
        try:
            return _as_json(read(word))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError, tokenize.TokenError):
            continue
    return word


def _python(word: str) -> Any:
    """Read a Python literal; one with a comment is none, because ``5#6`` is not 5."""
    if "#" in word and any(
        one.type == tokenize.COMMENT for one in tokenize.generate_tokens(io.StringIO(word).readline)
    ):
        raise ValueError(word)
    return ast.literal_eval(word)


def _as_json(value: Any) -> Any:
    """Return a value with lists for tuples; refuse what JSON does not have, infinity and NaN among it."""
    if isinstance(value, (list, tuple)):
        return [_as_json(one) for one in value]
    if isinstance(value, dict):
        return {str(key): _as_json(one) for key, one in value.items()}
    if value is not None and not isinstance(value, (bool, int, float, str)):
        raise ValueError(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(value)
    return value


# What cannot be


def _whole(lowest: int, highest: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Integral) and not isinstance(value, bool) and lowest <= int(value) <= highest


def _number(holds: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: (
        isinstance(value, Real)
        and not isinstance(value, bool)
        and value == value  # not NaN
        and value not in (math.inf, -math.inf)
        and holds(value)
    )


def _is_overlap(value: Any) -> bool:
    below_one = _number(lambda one: 0 <= one < 1)
    return all(map(below_one, value)) if isinstance(value, (list, tuple)) else below_one(value)


def _is_strength(value: Any) -> bool:
    """Tell whether a value is a fraction of the range, or a number with a unit, which is the run's to know."""
    with_unit = AMOUNT.fullmatch(value) if isinstance(value, str) else None
    return _number(lambda one: one >= 0)(value if with_unit is None else float(with_unit[1]))


def _is_device(value: Any) -> bool:
    """Tell whether this machine has a device."""
    try:
        device = torch.device(value)
    except (RuntimeError, TypeError, ValueError, OverflowError):
        return False
    if device.type in ("cpu", "meta"):
        return True
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return here is not None and here.type == device.type and (device.index or 0) < torch.accelerator.device_count()


FROM_ONE = ("a whole number from 1 on", _whole(1))
FROM_NULL = ("a whole number from 0 on", _whole(0))
COUNTED: tuple[str, ...] = (
    "epochs",
    "batch_size",
    "val_batch_size",
    "sw_batch_size",
    "val_interval",
    "resume_interval",
)
COUNTED += ("windows_per_epoch", "windows_per_volume", "num_classes")
RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(COUNTED, FROM_ONE),
    "attack_steps": FROM_NULL,
    "cache_rate": ("a number from 0 to 1", _number(lambda value: 0 <= value <= 1)),
    "device": ("a device of this machine, such as cpu", _is_device),
    "eps": ("a number from 0 on, or with a unit, such as 8 gray", _is_strength),
    "learning_rate": ("a number above 0", _number(lambda value: value > 0)),
    "num_cases": ("a whole number from 1 on, or None for all", lambda value: value is None or _whole(1)(value)),
    "num_workers": FROM_NULL,
    "overlap": ("a number from 0 to below 1, or one an axis", _is_overlap),
    "seed": ("a whole number from 0 to 4294967295", _whole(0, 2**32 - 1)),
    "warmup_iterations": FROM_NULL,
}


def refuse_impossible(values: Mapping[str, Any]) -> None:
    """Refuse values that no run can have, before the work that they would end.

    Expressions are left to the run.

    Raises:
        ValueError: if a value cannot be.

    Example:
        >>> refuse_impossible({"overlap": 1.0})
        Traceback (most recent call last):
        ...
        ValueError: overlap must be a number from 0 to below 1, or one an axis, got 1.0.
    """
    for name, value in values.items():
        words, holds = RULES.get(_keys(name)[-1], ("", None))
        if holds is not None and not is_expression(value) and not holds(value):
            raise ValueError(f"{name} must be {words}, got {value!r}.")


def checkpoint_file(bundle: Path, name: str) -> Path:
    """Return the file of weights that a name means: relative to the working directory, or to the bundle.

    Args:
        bundle: folder of the bundle.
        name: path of the file.

    Raises:
        ValueError: if there is no such file, or a different one at either place.
    """
    there = [path for path in (Path(name), bundle / name) if name and path.is_file()]
    if not there:
        where = f"neither here nor in {str(bundle)!r}"
        raise ValueError(f"checkpoint must be an existing file, got {name!r}, which is {where}.")
    if len(there) == 2 and not there[0].samefile(there[1]):
        places = " and ".join(os.path.abspath(path) for path in there)  # noqa: PTH100
        raise ValueError(f"checkpoint must be one file, got {name!r}, which is {places}; give the whole path.")
    return Path(os.path.abspath(there[0]))  # noqa: PTH100

"""How words become the arguments of a command: every option is known, given once, and of its kind."""

from __future__ import annotations

import inspect
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import NoneType
from typing import Any, get_args, get_type_hints

import click

from vafa_monai import __version__
from vafa_monai.runs.override import nearest, parse_values, refuse_impossible, truth

__all__ = ["Commands", "number", "parsed", "whole"]

FLAG = re.compile(r"--|-[^\W\d]")  # -1 is a number
WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
ENTRY = re.compile(r" {4}(\*{0,2}\w+): (.*)")  # of the part Args in a docstring


class Kind(click.ParamType):
    """What an option takes.

    Args:
        name: what its value is called in the help.
        read: makes the value of option and word, or raises a ``ValueError``.
    """

    def __init__(self, name: str, read: Callable[[str, str], Any]) -> None:
        self.name = name
        self.read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a word; a default is as it is."""
        if not isinstance(value, str) or param is None or param.name is None:
            return value
        found = self.read(param.name, value)
        refuse_impossible({param.name: found})
        return found


def _text(name: str, word: str) -> str:
    if not word:
        raise ValueError(f"{name} must not be empty, got {word!r}.")
    return word


def whole(name: str, word: str) -> int:
    """Return the whole number that a word is; refuse any other."""
    if not WHOLE.fullmatch(word):
        raise ValueError(f"{name} must be a whole number, got {word!r}.")
    return int(word)


def number(name: str, word: str) -> float:
    """Return the number that a word is; refuse any other."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a number, got {word!r}.")
    return value


KINDS = {
    str: Kind("text", _text),
    int: Kind("number", whole),
    float: Kind("number", number),
    bool: Kind("true|false", truth),
}


class Command(click.Command):
    """A function as a command.

    Its arguments are the options, ``--name value`` or ``--name=value``, with hyphens or underscores; those without a
    default may be given by their place. ``--flag`` alone is true. Where the function takes ``**`` words, any other name
    goes there as it was typed, ``True`` without a value: the function knows which names there are.

    Args:
        function: the function, with type hints and a docstring that describes each argument.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        summary, about = describe(function)
        parameters = inspect.signature(function).parameters
        hints = get_type_hints(function)
        self.others = next((one.name for one in parameters.values() if one.kind is one.VAR_KEYWORD), None)
        self.about_others = about.get(f"**{self.others}", "")
        named = [one for one in parameters.values() if one.name != self.others]
        self.places = [one.name for one in named if one.default is one.empty]
        options = [option(one, hints[one.name], about[one.name]) for one in named]
        super().__init__(function.__name__, callback=function, params=list(options), help=summary)

    @property
    def options(self) -> dict[str, click.Parameter]:
        """The options by name."""
        return {str(one.name): one for one in self.params}

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show what can be given by place first."""
        return [*(name.upper() for name in self.places), "[OPTIONS]"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the options, and what else is taken."""
        super().format_options(ctx, formatter)
        if self.others:
            with formatter.section("Others"):
                formatter.write_dl([("--ID VALUE", self.about_others)])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Make the arguments of words; nothing unknown, given twice or left over is let through.

        Raises:
            ValueError: if there is such a word, or a value is missing or of another kind.
        """
        if set(args) & set(self.get_help_option_names(ctx)):
            return super().parse_args(ctx, ["--help"])
        given, placed = self._given(args)
        self._place(given, placed)
        known = self.options.keys()
        others = {name: word for name, word in given.items() if name not in known}
        if others and not self.others:
            name = next(iter(others))
            raise ValueError(f"option must be one of {self.name}, got {f'--{name}'!r}{nearest(name, known)}.")
        missing = [name for name in self.places if name not in given]
        if missing:
            raise ValueError(f"{missing[0]} must be given, got none; see vafa-monai {self.name} --help.")
        words = [f"--{name}={word}" for name, word in given.items() if name in known]
        super().parse_args(ctx, words)
        ctx.params.update(others)
        return []

    def _given(self, args: Sequence[str]) -> tuple[dict[str, str | bool], list[str]]:
        """Return what was given by name, and what by place."""
        given: dict[str, str | bool] = {}
        placed, words = [], deque(args)
        while words:
            word = words.popleft()
            if not FLAG.match(word):
                placed.append(word)
                continue
            flag, equals, value = word.partition("=")
            name = self._named(flag)
            if name in given:
                raise ValueError(f"option must be given once, got {flag!r} twice.")
            given[name] = value if equals else self._value(name, words)
        return given, placed

    def _named(self, flag: str) -> str:
        """Return the name of an option or id that a flag means."""
        name = flag[2:] if flag.startswith("--") else flag
        plain = name.replace("-", "_")
        return plain if flag.startswith("--") and (plain in self.options or self.others) else name

    def _value(self, name: str, words: deque[str]) -> str | bool:
        """Take the value of an option from the words that are left."""
        found, follows = self.options.get(name), bool(words) and not FLAG.match(words[0])
        if found is not None and found.type is KINDS[bool]:
            try:
                truth(name, words[0] if follows else "")
            except ValueError:  # the next word is something else
                return "true"
            return words.popleft()
        if follows:
            return words.popleft()
        if found is not None:
            raise ValueError(f"{name} must have a value, got none.")
        return True

    def _place(self, given: dict[str, str | bool], placed: list[str]) -> None:
        """Give what came by place to the arguments without default that are left, in their order."""
        free = [name for name in self.places if name not in given]
        if len(placed) > len(free):
            raise ValueError(f"{self.name} must be given options by name, got {placed[len(free)]!r} without one.")
        given.update(zip(free, placed, strict=False))


class Commands(click.Group):
    """All commands, in chapters.

    Args:
        chapters: the functions of each.
    """

    def __init__(self, chapters: Mapping[str, Sequence[Callable[..., None]]]) -> None:
        self.chapters = {title: [Command(function) for function in functions] for title, functions in chapters.items()}
        commands = [command for chapter in self.chapters.values() for command in chapter]
        super().__init__("vafa-monai", commands={str(command.name): command for command in commands})
        self.help = (
            "Attack, harden and audit 3D medical segmentation networks; 'vafa-monai COMMAND --help' has the options."
        )
        click.version_option(__version__, message="%(version)s")(self)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help where nothing is asked for."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; a mistyped name is refused with the nearest ones."""
        name = args[0].replace("-", "_")
        if name not in self.commands:
            near = nearest(name, self.commands) or f"; there are {', '.join(self.commands)}"
            raise ValueError(f"command must be one of vafa-monai, got {args[0]!r}{near}.")
        return name, self.commands[name], args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Show the commands chapter by chapter."""
        for title, commands in self.chapters.items():
            with formatter.section(title):
                formatter.write_dl([(str(one.name), one.get_short_help_str(limit=200)) for one in commands])


def option(parameter: inspect.Parameter, hint: Any, about: str) -> click.Option:
    """Return an argument of a function as an option."""
    kinds = [one for one in get_args(hint) or [hint] if one is not NoneType]
    needed = parameter.default is parameter.empty
    default = {} if needed else {"default": parameter.default, "show_default": parameter.default is not None}
    return click.Option(
        [f"--{parameter.name}"], type=KINDS[kinds[0]], required=needed, is_flag=False, help=about, **default
    )


def parsed(config: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was typed for config ids; a mistyped one may be meant for an option of the command that runs."""
    context = click.get_current_context(silent=True)
    return parse_values(config, words, also=[str(one.name) for one in context.command.params] if context else ())


def describe(function: Callable[..., None]) -> tuple[str, dict[str, str]]:
    """Return what a docstring says of a function, and of each argument.

    Example:
        >>> describe(option)[0]
        'Return an argument of a function as an option.'
    """
    summary, _, rest = (inspect.getdoc(function) or "").replace("``", "").partition("\n\nArgs:\n")
    about: dict[str, str] = {}
    for name, text in _entries(rest.splitlines()):
        about[name] = f"{about[name]} {text}" if name in about else text
    return " ".join(summary.split()), about


def _entries(lines: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the lines of each argument with its name."""
    name = ""
    for line in lines:
        if line and not line.startswith(" "):  # the next part
            return
        entry = ENTRY.fullmatch(line)
        name, text = entry.groups() if entry else (name, line.strip())
        if text:
            yield name, text

"""Config dataclasses from command lines and from JSON."""

from __future__ import annotations

import argparse
import dataclasses
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeVar

from audionet.errors import UsageError

Config = TypeVar("Config")

OTHER_FLAGS = "other flags"
"""Title of the group of flags that a command's short help leaves out."""


def path_flag(text: str) -> Path:
    """Parse a path from the command line; reject an empty one, as an unset shell variable gives."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def add_flags(parser: argparse.ArgumentParser, config: type, optional: bool = False) -> None:
    """Give a parser one flag for each setting of a config dataclass, with its default and help.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    config : type
        Fields that are no `setting` have no flag.
    optional : bool
        Whether parsed flags hold only those that were given, for `from_flags` to leave the others at their defaults.
    """
    types = typing.get_type_hints(config)
    wanted = setting_names(config)
    for item in dataclasses.fields(config):
        if item.name not in wanted:
            continue
        kind, text = types[item.name], item.metadata["help"]
        names = [f"--{name}" for name in (item.name, item.metadata["alias"]) if name]
        group = flag_group(parser, item.metadata["group"])
        default = argparse.SUPPRESS if optional else item.default
        if kind is bool:
            group.add_argument(*names, dest=item.name, action="store_true", default=default, help=text)
            continue
        options: dict[str, Any] = {"default": default}
        if typing.get_origin(kind) is tuple:
            group.add_argument(*names, dest=item.name, action="append", default=[], metavar="TEXT", help=text)
            continue
        choices = next(
            (option for option in (kind, *typing.get_args(kind)) if typing.get_origin(option) is Literal), None
        )
        if choices is not None:
            options["choices"] = typing.get_args(choices)
        else:
            options |= {"type": _parser_of(kind), "metavar": _metavar_of(kind)}
        if item.metadata["bare"] is not None:
            options |= {"nargs": "?", "const": item.metadata["bare"]}
        if item.default is not None:
            text += f" (default: {_shown(item.default)})"
        group.add_argument(*names, dest=item.name, help=text.replace("%", "%%"), **options)


def flag_group(parser: argparse.ArgumentParser, title: str | None) -> argparse._ArgumentGroup:
    """Return a parser's group of flags with this title, by default `OTHER_FLAGS`; a new one if there is none."""
    wanted = title or OTHER_FLAGS
    found = (group for group in parser._action_groups if group.title == wanted)
    return next(found, None) or parser.add_argument_group(wanted)


def _metavar_of(kind: Any) -> str:
    kinds = {kind, *typing.get_args(kind)}
    return "PATH" if Path in kinds else "N" if kinds & {int, float} else "TEXT"


def _shown(default: object) -> str:
    """Return a default as help shows it: a path from the current folder, where it lies inside."""
    if isinstance(default, Path) and default.is_relative_to(here := Path.cwd()):
        return str(default.relative_to(here))
    return str(default)


def setting_names(config: type) -> set[str]:
    """Return the names of the fields of a config dataclass that are a `setting`, and so have a flag."""
    return {item.name for item in dataclasses.fields(config) if "help" in item.metadata}


def _parser_of(kind: Any) -> Callable[[str], Any]:
    """Return the function that parses a flag's value; an optional number may be ``none``."""
    if kind is Path:
        return path_flag
    if not typing.get_args(kind):
        return typing.cast("Callable[[str], Any]", kind)
    inner = next(option for option in typing.get_args(kind) if option is not type(None))
    parse = _parser_of(inner)

    def parse_optional(text: str) -> Any:
        return None if text.lower() == "none" and inner in (int, float) else parse(text)

    parse_optional.__name__ = getattr(inner, "__name__", "value")  # argparse names it in its complaint
    return parse_optional


def from_flags(config: type[Config], flags: argparse.Namespace) -> Config:
    """Create a config dataclass from parsed flags; its own checks may raise UsageError."""
    names = [item.name for item in dataclasses.fields(config) if hasattr(flags, item.name)]  # type: ignore[arg-type]
    values = {name: getattr(flags, name) for name in names}
    return config(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def from_json(config: type[Config], settings: Any) -> Config:
    """Create a config dataclass from a JSON object.

    Raises
    ------
    UsageError
        If a setting is missing, unknown, of the wrong type or out of its range.
    """
    types = typing.get_type_hints(config)
    if not isinstance(settings, dict) or set(settings) != set(types):
        raise UsageError("they are those of another version")
    for name, value in settings.items():
        if not _fits(value, types[name]):
            raise UsageError(f"{name} is {value!r}")
    return config(**settings)


def from_parameters(function: str, parameters: Mapping[str, Any], *configs: type) -> list[Any]:
    """Create config dataclasses from the keyword arguments of a function.

    Parameters
    ----------
    function : str
        Name of the function, for error messages.
    parameters : mapping of str to object
        Each goes to the dataclass that has a field of this name; a string becomes a path where a path is wanted.
    *configs : type

    Returns
    -------
    list of dataclass
        One of each of `configs`.

    Raises
    ------
    TypeError
        If no dataclass has a field of that name, or a value is of another type.
    UsageError
        If a value is out of its range.
    """
    types = [typing.get_type_hints(config) for config in configs]
    known = {name for hints in types for name in hints}
    for name in parameters:
        if name not in known:
            import difflib  # takes milliseconds, and is for mistakes alone

            close = difflib.get_close_matches(name, known, 1)
            raise TypeError(f"{function}() has no parameter '{name}'" + (f": is it '{close[0]}'?" if close else ""))
    return [
        config(**{name: _as_field(name, parameters[name], hints[name]) for name in hints if name in parameters})
        for config, hints in zip(configs, types, strict=True)
    ]


def _as_field(name: str, value: Any, kind: Any) -> Any:
    """Return an argument as the field takes it."""
    if typing.get_origin(kind) is tuple:
        return (value,) if isinstance(value, str) else tuple(value)
    if Path in (kind, *typing.get_args(kind)) and isinstance(value, str | os.PathLike):
        return Path(value)
    if not _fits(value, kind):
        wanted = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
        raise TypeError(f"{name} is {value!r}: it must be of type {wanted}")
    return value


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if options := typing.get_args(kind):
        return any(_fits(value, option) for option in options)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def setting(default: Any, text: str, bare: Any = None, alias: str | None = None, group: str | None = None) -> Any:
    """Return a config field with its default and its help.

    Parameters
    ----------
    default : object
    text : str
        Help.
    bare : object, optional
        Value of a flag that is given without one.
    alias : str, optional
        Older name of the flag.
    group : str, optional
        Title in the command's short help, such as ``input``, of a flag in everyday use. Others are in
        ``--help-all`` alone.
    """
    return field(default=default, metadata={"help": text, "bare": bare, "alias": alias, "group": group})


def require(condition: bool, flag: str, value: object, rule: str) -> None:
    if not condition:
        raise UsageError(f"--{flag} is {value}: it must be {rule}")

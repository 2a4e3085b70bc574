"""Config dataclasses from command lines and from JSON."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, TypeVar

from audionet.errors import UsageError

Config = TypeVar("Config")


def path_flag(text: str) -> Path:
    """A path from the command line; an empty one, as an unset shell variable gives, is a mistake."""
    if not text:
        raise argparse.ArgumentTypeError("the path is empty")
    return Path(text)


def add_flags(parser: argparse.ArgumentParser, config: type) -> None:
    """Give a parser one flag for each field of a config dataclass, with its default and help."""
    types = typing.get_type_hints(config)
    for item in dataclasses.fields(config):
        kind, text = types[item.name], item.metadata["help"]
        if kind is bool:
            parser.add_argument(f"--{item.name}", action="store_true", default=item.default, help=text)
            continue
        options: dict[str, Any] = {"default": item.default}
        if typing.get_origin(kind) is tuple:
            parser.add_argument(f"--{item.name}", action="append", default=[], help=text)
            continue
        choices = next(
            (option for option in (kind, *typing.get_args(kind)) if typing.get_origin(option) is Literal), None
        )
        if choices is not None:
            options["choices"] = typing.get_args(choices)
        else:
            options["type"] = _parser_of(kind)
        if item.metadata["bare"] is not None:
            options |= {"nargs": "?", "const": item.metadata["bare"]}
        if item.default is not None:
            text += f" (default: {item.default})"
        parser.add_argument(f"--{item.name}", help=text.replace("%", "%%"), **options)


def _parser_of(kind: Any) -> Callable[[str], Any]:
    """What turns a flag's value into its type; an optional number may be ``none``."""
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
    """The config dataclass that parsed flags describe; its own checks may raise UsageError."""
    names = [item.name for item in dataclasses.fields(config)]  # type: ignore[arg-type]
    values = {name: getattr(flags, name) for name in names}
    return config(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def from_json(config: type[Config], settings: Any) -> Config:
    """The config dataclass that a JSON object describes.

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


def _fits(value: Any, kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if options := typing.get_args(kind):
        return any(_fits(value, option) for option in options)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def setting(default: Any, text: str, bare: Any = None) -> Any:
    """A setting with its default and help; `bare` is what the flag means when no value follows it."""
    return field(default=default, metadata={"help": text, "bare": bare})


def require(condition: bool, flag: str, value: object, rule: str) -> None:
    if not condition:
        raise UsageError(f"--{flag} is {value}: it must be {rule}")

"""One way in for stored JSON: an object of plain, finite values, or one error; and its fields with their types."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from audionet.errors import AudioNetError, DamagedError
from audionet.utils.text import escape, first_line

Kind = TypeVar("Kind")

_DEEPEST = 32
_LOWEST_INT, _HIGHEST_INT = -(2**63), 2**63 - 1


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is no finite number")
    return value


def _int64(text: str) -> int:
    value = int(text)
    if not _LOWEST_INT <= value <= _HIGHEST_INT:
        raise ValueError(f"{text[:20]} is too large")
    return value


# Made once: `json.loads` would make a decoder for every line of a journal.
_DECODER = json.JSONDecoder(parse_float=_finite, parse_int=_int64, parse_constant=_finite)
_DECODER_OF_ANY_FLOAT = json.JSONDecoder(parse_int=_int64)


def parse_json(data: bytes, finite: bool = True) -> dict[str, Any]:
    """Parse a stored JSON object.

    Parameters
    ----------
    data : bytes
        Content of the file or line.
    finite : bool
        Whether to refuse NaN and infinities, which JSON does not have and Python writes.

    Raises
    ------
    DamagedError
        If it is no JSON object, a number in it exceeds 64 bits, or it is nested more than 32 deep.
    """
    decoder = _DECODER if finite else _DECODER_OF_ANY_FLOAT
    try:
        content = decoder.decode(data.decode(json.detect_encoding(data), "surrogatepass"))
    except (ValueError, RecursionError) as why:
        raise DamagedError(first_line(why)) from None
    if not isinstance(content, dict):
        raise DamagedError("it holds no JSON object")
    if _is_too_deep(content):
        raise DamagedError("it is nested too deeply")
    return content


def _is_too_deep(content: dict[str, Any]) -> bool:
    level: list[Any] = [content]
    for _ in range(_DEEPEST):
        level = [
            child
            for value in level
            for child in (value.values() if isinstance(value, dict) else value)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


@contextlib.contextmanager
def damage_as(error: type[AudioNetError], path: Path, remedy: str) -> Iterator[None]:
    """Raise damage that is found within the block as `error`, naming the file and the way out."""
    try:
        yield
    except DamagedError as why:
        raise error(f"{escape(path)} is damaged: {remedy} ({first_line(why)})") from None


def field(content: Any, name: str, kind: type[Kind]) -> Kind:
    """Return a field of a JSON object.

    Raises
    ------
    DamagedError
        If `content` is no object, or has no field of this name and type; a bool is no int.
    """
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise DamagedError(f"'{name}' is missing or no {kind.__name__}")
    return value


def optional_field(content: Any, name: str, kind: type[Kind]) -> Kind | None:
    """Return a field of a JSON object as `field` does; None where it is missing or null."""
    return None if isinstance(content, dict) and content.get(name) is None else field(content, name, kind)


def nullable_field(content: Any, name: str, kind: type[Kind]) -> Kind | None:
    """Return a field of a JSON object as `field` does; None where it is null."""
    return None if isinstance(content, dict) and content.get(name, 0) is None else field(content, name, kind)


def real(content: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a number from a JSON object, integer or not, as a float.

    Raises
    ------
    DamagedError
        If there is none of this name from `low` to `high`; NaN never is.
    """
    value = content.get(name) if isinstance(content, dict) else None
    return checked_real(value, name, low, high)


def checked_real(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """Return a parsed value as a float; raise DamagedError unless it is a number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise DamagedError(f"'{name}' is no number from {low:g} to {high:g}")
    return float(value)


def whole(content: Any, name: str, low: int = 0, high: int = _HIGHEST_INT) -> int:
    """Return an integer from a JSON object; raise DamagedError unless it is one from `low` to `high`."""
    value = content.get(name) if isinstance(content, dict) else None
    return checked_whole(value, name, low, high)


def checked_whole(value: Any, name: str, low: int = 0, high: int = _HIGHEST_INT) -> int:
    """Return a parsed value; raise DamagedError unless it is an integer from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise DamagedError(f"'{name}' is no integer from {low} to {high}")
    return value


def file_name(content: Any, name: str) -> str:
    """Return the name of a file from a JSON object; raise DamagedError unless it is one, without a folder."""
    value = field(content, name, str)
    if value in ("", ".", "..") or not value.isprintable() or re.search(r"[/\\]", value):
        raise DamagedError(f"'{name}' is no name of a file")
    return value


def texts(content: Any, name: str) -> list[str]:
    """Return a list of strings from a JSON object; raise DamagedError unless it is one."""
    values = field(content, name, list)
    if not all(isinstance(value, str) for value in values):
        raise DamagedError(f"'{name}' holds something else than strings")
    return values


def objects(content: Any, name: str) -> Mapping[str, dict[str, Any]]:
    """Return an object of objects from a JSON object; raise DamagedError unless it is one."""
    values: dict[str, Any] = field(content, name, dict)
    if not all(isinstance(value, dict) for value in values.values()):
        raise DamagedError(f"'{name}' holds something else than objects")
    return values

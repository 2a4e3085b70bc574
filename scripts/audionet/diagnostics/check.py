"""Result of one check of an installation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple

from audionet.utils.text import first_line

State = Literal["ok", "missing", "broken"]
"""``missing`` is an optional part that is not there; ``broken`` is anything that AudioNet needs and cannot use."""


class Check(NamedTuple):
    """Result of one check.

    Attributes
    ----------
    name : str
    state : State
    detail : str
        Version, size, time or error.
    remedy : str
        How to repair or to add it, in one line; empty if there is nothing to do.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""


def guarded(name: str, checks: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Yield the results of a group of checks; one that fails in an unexpected way is a result too, named `name`."""
    try:
        yield from checks()
    except Exception as error:  # whatever a damaged installation raises
        remedy = "pip install --force-reinstall audionet"
        yield Check(name, "broken", f"{type(error).__name__}: {first_line(error)}", remedy)

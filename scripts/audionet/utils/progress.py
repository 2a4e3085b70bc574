"""Progress reports of long work: the library reports, the caller decides how to show them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

Advance = Callable[[float], object]
"""Takes the amount of work done since the last call."""

Reporter = Callable[[str, str, float], AbstractContextManager[Advance]]
"""Takes the work's name, its unit and its total amount; shows the progress of the work within the block."""

ProgressCallback = Callable[[str, float, float], object]
"""Takes the work's name, the amount done so far and the total."""


@contextlib.contextmanager
def _silent(what: str, unit: str, total: float) -> Iterator[Advance]:
    yield lambda amount: None


_reporter: ContextVar[Reporter] = ContextVar("reporter", default=_silent)


@contextlib.contextmanager
def reporting_to(reporter: Reporter) -> Iterator[None]:
    """Report the progress of all work within the block to `reporter`."""
    token = _reporter.set(reporter)
    try:
        yield
    finally:
        _reporter.reset(token)


def calling(callback: ProgressCallback | None) -> AbstractContextManager[None]:
    """Report the progress of all work within the block to a callback; with None, keep the current reporter."""
    if callback is None:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def reporter(what: str, unit: str, total: float) -> Iterator[Advance]:
        done = 0.0

        def advance(amount: float) -> None:
            nonlocal done
            done += amount
            callback(what, done, total)

        yield advance

    return reporting_to(reporter)


def progress(what: str, unit: str, total: float) -> AbstractContextManager[Advance]:
    """Report the progress of some work; call what it yields with the amount done.

    Parameters
    ----------
    what : str
        Name of the work, such as ``Rendering``.
    unit : str
        Unit of the amount; ``B`` for bytes.
    total : float
        Amount of work in all.
    """
    return _reporter.get()(what, unit, total)


def tracked(items: Iterable[Item], what: str, unit: str, total: int) -> Iterator[Item]:
    """Yield items unchanged, and report the number consumed."""
    with progress(what, unit, total) as advance:
        for item in items:
            yield item
            advance(1)

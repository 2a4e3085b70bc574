"""Ctrl-C and SIGTERM: one line and exit code 130, whatever the process is doing."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

INTERRUPTED = 130
"""Exit code of an interrupted command."""

_line: Callable[[], str] | None = None


def exit_when_interrupted(line: Callable[[], str]) -> None:
    """Have signals end the process at once, with one line that a function returns: while modules are imported.

    Nothing has been written yet that needs an end, and an exception would not be safe: extension modules of other
    packages turn one that is raised during their import into an ImportError, or crash at exit when half imported.
    """
    global _line
    _line = line

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        os.write(2, f"{line()}\n".encode(errors="backslashreplace"))
        os._exit(INTERRUPTED)

    _handle(leave)


@contextlib.contextmanager
def exiting_when_interrupted() -> Iterator[None]:
    """Have signals end the process at once within the block, as `exit_when_interrupted` did: for late imports."""
    if _line is None:  # the command is called as a function
        yield
        return
    exit_when_interrupted(_line)
    try:
        yield
    finally:
        raise_when_interrupted()


def raise_when_interrupted() -> None:
    """Have signals raise KeyboardInterrupt, so that work in progress is ended in order.

    SIGTERM does the same; raising SIGINT for it would not stop a background job, whose shell has it ignored.
    """
    _handle(signal.default_int_handler)  # none of our own: asyncio replaces this one alone


def die_when_interrupted() -> None:
    """Have a further signal end the process at once and without a word, as the command is about to exit."""
    _handle(signal.SIG_DFL)


def _handle(handler: object) -> None:
    signal.signal(signal.SIGTERM, handler)  # type: ignore[arg-type]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as the shell has it for a background job
        signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]

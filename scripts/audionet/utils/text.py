"""Words for one line of output: names made printable, counts, tables."""

from __future__ import annotations

import os
from collections.abc import Sequence


def pluralise(number: int, noun: str) -> str:
    """``1 chunk``, ``2 chunks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of aligned columns: the first to the left, the others to the right."""
    lines = [list(map(escape, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def escape(name: str | os.PathLike[str]) -> str:
    """A name for one line of output: control characters and broken UTF-8 are escaped."""
    text = os.fspath(name)
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def os_error_reason(error: OSError) -> str:
    """Why a file could not be read or written; NumPy reports a full disk with neither errno nor strerror."""
    return error.strerror or (str(error.args[0]) if error.args else "input or output error")


def first_line(error: BaseException) -> str:
    """What another library's error says, short enough for a line of ours."""
    lines = str(error).strip().splitlines()
    return escape(lines[0])[:200] if lines else type(error).__name__

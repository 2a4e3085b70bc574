"""Text for terminal output: escaped names, counts, sizes, tables."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from collections.abc import Iterable, Sequence


def pluralise(number: int, noun: str) -> str:
    """Format a count with its noun: ``1 chunk``, ``2 chunks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def format_size(size: float) -> str:
    """Format a number of bytes, in powers of a thousand: ``182.1 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if size < 999.95 or (unit == "bytes" and size < 1000):
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format aligned columns: the first flush left, the others flush right."""
    lines = [list(map(escape, line)) for line in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        )
        for line in lines
    )


def escape(name: str | os.PathLike[str]) -> str:
    """Escape control characters and invalid UTF-8 in a name, for one line of output."""
    text = os.fspath(name)
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii") for char in text
    )


def utf8_name(name: str) -> str:
    """Return a name of a file or from the command line as UTF-8 has it, where a locale has decoded it otherwise.

    Under ``LC_ALL=C``, an é in it is two escaped bytes, which many programs refuse in JSON, and which are no label's.
    """
    with contextlib.suppress(UnicodeError):  # it is in the locale's encoding
        return os.fsencode(name).decode("utf-8")
    return name


def composed(name: str) -> str:
    """Return a name with its accents composed (NFC): names that are equal so look equal, whatever computer wrote them.

    A Mac may write é as an e and an accent, others write it as one character.
    """
    return unicodedata.normalize("NFC", name)


def find_name(name: str, names: Iterable[str]) -> str | None:
    """Return the name among `names` that is the same but for the encoding of its accents, as it is spelled there."""
    wanted = composed(name)
    return next((other for other in names if composed(other) == wanted), None)


def os_error_reason(error: OSError) -> str:
    """Return the reason of a failed read or write; NumPy reports a full disk with neither errno nor strerror."""
    return error.strerror or (str(error.args[0]) if error.args else "input or output error")


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error message, at most 200 characters."""
    lines = str(error).strip().splitlines()
    return escape(lines[0])[:200] if lines else type(error).__name__

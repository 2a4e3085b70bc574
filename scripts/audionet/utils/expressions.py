"""Regular expressions from flags and files, searched for a limited time.

Python's own module takes for ever over some expressions, such as ``(a|aa)+$``, and cannot be stopped.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

from audionet.errors import AudioNetError
from audionet.utils.text import escape

_BRACE = re.compile(
    r"(\\.|\[\^?\]?(?:\\.|[^\]\\])*\])"  # an escape or a set, to be left alone; else
    r"|\{(?!\d+(?:,\d*)?\}|,\d*\})",  # a brace that opens no repetition: to regex, it would allow for misspelling
    re.DOTALL,
)

SEARCH_SECONDS = 1.0
"""Processor time for one search, a hundred thousand times what one usually takes."""


@dataclass(frozen=True)
class Expression:
    """A regular expression in Python's syntax.

    Raises
    ------
    ValueError
        If it is none; the message says why.
    """

    text: str

    def __post_init__(self) -> None:
        _compiled(self.text)

    @property
    def names(self) -> frozenset[str]:
        """Names of its named groups."""
        return frozenset(_compiled(self.text).groupindex)

    def search(self, name: str, setting: str, error: type[AudioNetError]) -> Any:
        """Search the expression in a file's name; return the match, or None.

        Parameters
        ----------
        name : str
        setting : str
            Setting that the expression is from, for the error message.
        error : type
            Raised if the search takes longer than SEARCH_SECONDS.
        """
        try:
            return _compiled(self.text).search(name, timeout=SEARCH_SECONDS)
        except TimeoutError:
            raise error(
                f"{setting} {escape(self.text)}: its search in {escape(name)} takes for ever: simplify repetitions "
                "inside of repetitions"
            ) from None


@functools.lru_cache(maxsize=64)
def _compiled(text: str) -> Any:
    import regex  # part of an extra

    try:
        re.compile(text)  # regex has more syntax, which nobody else could read
        return regex.compile(_BRACE.sub(lambda found: found[1] or r"\{", text))
    except (re.error, regex.error, RecursionError, OverflowError) as why:
        raise ValueError(str(why)) from None

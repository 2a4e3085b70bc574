"""Columns of label tables, by their usual names."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from audionet.errors import DatasetError
from audionet.utils.text import escape

log = logging.getLogger(__name__)

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "file name", "path", "filepath", "file path", "recording", "audio", "audio file"),
        *("audio path", "audio filepath", "audio filename", "wav", "clip", "begin file", "begin path"),
        *("slice file name", "uri"),
    ),
    "start": ("start", "begin", "onset", "start time", "begin time", "tmin", "t start", "tstart", "from"),
    "end": ("end", "stop", "end time", "stop time", "tmax", "t end", "tend", "offset", "to"),
    "duration": ("duration", "dur", "length"),
    "label": (
        *("label", "class", "category", "species", "tier", "annotation", "tag", "speaker", "speaker id", "name"),
        *("word", "event label", "event", "common name", "text", "transcription", "target"),
    ),
    "group": ("group", "session", "src file", "fsid"),
    "channel": ("channel", "channel number"),
    "split": ("split", "set", "subset", "fold", "partition"),
}
"""Usual names of each column, the most telling first; in lower case, without units and punctuation."""

_TIMES = ("start", "end", "duration")
SLICE = "slice file name"
"""Name of UrbanSound8K's column of files, whose times are those of the source."""

_OFFSET_IN_FILE = "file offset"  # Raven's, where its other times run on through several files
_TIME_WORDS = frozenset(["start", "begin", "onset", "end", "stop", "offset", "time", "duration", "tmin", "tmax"])
_SECONDS = ("s", "sec", "secs", "second", "seconds", "ss msec", "hh mm ss ms", "hh mm ss")
_UNITS = dict.fromkeys(_SECONDS, 1.0) | dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3)
_UNITS |= dict.fromkeys(("min", "minute", "minutes"), 60.0)
_OTHER_UNITS = frozenset(("sample", "samples", "frame", "frames", "hz", "date", "utc", "datetime"))
_BY_LENGTH = sorted({*_UNITS, *_OTHER_UNITS}, key=len, reverse=True)


class Columns(NamedTuple):
    """Columns of a table that are read.

    Attributes
    ----------
    names : dict of str to str
        Name in the header, by that in `COLUMNS`.
    seconds : dict of str to float
        Seconds that a one in each column of times means.
    """

    names: dict[str, str]
    seconds: dict[str, float]


def choose_columns(header: Sequence[str], path: Path, columns: Mapping[str, str]) -> Columns:
    """Choose a table's columns by their names, and log them.

    Parameters
    ----------
    header : sequence of str
    path : Path
        Of the table, for messages.
    columns : mapping of str to str
        Names that the user has given, by those in `COLUMNS`.

    Raises
    ------
    DatasetError
        If a column that the user named does not exist, none is the label, or times cannot be read.
    """
    plain = {_plain(name)[0]: name for name in reversed(header)}
    chosen: dict[str, str] = {}
    for name, usual in COLUMNS.items():
        if name in columns:
            found = columns[name] if columns[name] in header else plain.get(_plain(columns[name])[0])
            if found is None:
                raise DatasetError(
                    f"{escape(path)}: has no column '{escape(columns[name])}': --label_columns takes one of "
                    f"{', '.join(map(escape, header))}"
                )
        else:
            found = find_column(header, usual)
        if found is not None:
            chosen[name] = found
    if "label" not in chosen:
        raise DatasetError(
            f"{escape(path)}: no column is named like a label; say which is one, --label_columns label=NAME, of "
            f"{', '.join(map(escape, header))}"
        )
    is_slice = _plain(chosen.get("file", ""))[0] == SLICE
    if is_slice:
        for name in set(_TIMES) - set(columns):
            chosen.pop(name, None)
    elif "start" not in chosen and "duration" in chosen and _plain(chosen.get("end", ""))[0] == "offset":
        chosen["start"] = chosen.pop("end")
    elif _OFFSET_IN_FILE in plain and "start" not in columns and {"start", "end"} <= set(chosen):
        chosen["offset"] = plain[_OFFSET_IN_FILE]
    seconds = _seconds(chosen, path)
    if not (is_slice or set(_TIMES) & set(chosen)):
        _warn_of_times(header, path)
    log.info(f"{escape(path)}: " + ", ".join(f"{name} from '{escape(column)}'" for name, column in chosen.items()))
    return Columns(chosen, seconds)


def find_column(header: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the column that has the first of some usual names; None if there is none.

    Parameters
    ----------
    header : sequence of str
    usual : sequence of str
        In lower case, without units and punctuation, the most telling first.
    """
    plain = {_plain(name)[0]: name for name in reversed(header)}
    return next((plain[alias] for alias in usual if alias in plain), None)


def _seconds(chosen: Mapping[str, str], path: Path) -> dict[str, float]:
    """Return the unit of each column of times, in seconds."""
    seconds: dict[str, float] = {}
    for name in (*_TIMES, "offset"):
        if name not in chosen:
            continue
        unit = _plain(chosen[name])[1]
        if unit in _OTHER_UNITS:
            raise DatasetError(
                f"{escape(path)}: the column '{escape(chosen[name])}' is no time in seconds: convert it, or name "
                f"another, --label_columns {name}=NAME"
            )
        seconds[name] = _UNITS.get(unit, 1.0)
    if "start" in chosen and not {"end", "duration"} & set(chosen):
        raise DatasetError(
            f"{escape(path)}: has starts ('{escape(chosen['start'])}'), but no ends or durations: add a column, or "
            "name it, --label_columns end=NAME"
        )
    return seconds


def _warn_of_times(header: Sequence[str], path: Path) -> None:
    """Warn of columns that look like times in a table that is read as labels of whole recordings."""
    if unused := [column for column in header if _TIME_WORDS & set(_plain(column)[0].split())]:
        log.warning(
            f"{path}: labels whole recordings; if {', '.join(map(escape, unused))} are the times of parts, name them: "
            "--label_columns start=NAME,end=NAME"
        )


def _plain(name: str) -> tuple[str, str]:
    """Return a column's name in lower case, with single blanks for punctuation, and its unit; empty if it has none."""
    bracketed = re.search(r"[(\[](.*?)[)\]]", name)
    words = _words(re.sub(r"[(\[].*?[)\]]", "", name))
    if bracketed:
        return words, _words(bracketed[1])
    for unit in _BY_LENGTH:
        if words.endswith(f" {unit}"):
            return words.removesuffix(f" {unit}"), unit
    return words, ""


def _words(text: str) -> str:
    separated = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)  # StartTime
    return " ".join(re.sub(r"[\W_]+", " ", separated).lower().split())

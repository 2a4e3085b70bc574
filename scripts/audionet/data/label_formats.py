"""Rows of label files: CSV and TSV, JSON lines, RTTM, Audacity label tracks, Raven selection tables, ELAN exports."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audionet.errors import DatasetError
from audionet.utils.text import escape, os_error_reason

LABEL_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".rttm", ".jsonl", ".lab", ".labels"})
"""Endings of label files that are looked for in a folder of them."""

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "file": (
        *("file", "filename", "file name", "path", "filepath", "file path", "recording", "audio", "audio file"),
        *("audio path", "wav", "clip", "begin file", "begin path", "slice file name", "uri"),
    ),
    "start": (
        *("start", "begin", "onset", "start time", "begin time", "start s", "start seconds", "onset s", "tmin"),
        *("begin time ss msec", "begin time hh mm ss ms", "start ms", "begin time msec", "from"),
    ),
    "end": (
        *("end", "stop", "offset", "end time", "stop time", "end s", "end seconds", "offset s", "tmax"),
        *("end time ss msec", "end time hh mm ss ms", "end ms", "end time msec", "to"),
    ),
    "duration": ("duration", "dur", "length", "duration s", "duration seconds", "duration ss msec", "duration ms"),
    "label": (
        *("label", "class", "category", "species", "tier", "annotation", "tag", "speaker", "speaker id", "name"),
        *("word", "event label", "event", "common name", "text", "transcription", "target"),
    ),
    "group": ("group", "session", "src file", "fsid"),
    "split": ("split", "set", "subset", "fold", "partition"),
}
"""Usual names of each column, the most telling first; in lower case, without units and punctuation."""

_MILLISECONDS = re.compile(r"(?<!\bss )\b(ms|msec)$")
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,3}):(\d{1,2}(?:[.,]\d+)?)")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")
_RTTM_FIELDS = 8
_OTHER_RTTM = frozenset(
    {"SPKR-INFO", "LEXEME", "NON-LEX", "NON-SPEECH", "NOSCORE", "NO_RT_METADATA", "SEGMENT", "A/P", "CB", "IP", "SU"}
)
_LONGEST_LINE = 1 << 20


class Row(NamedTuple):
    """Labelled part of a recording.

    Attributes
    ----------
    line : int
        Number of the line, from 1.
    file : str or None
        Recording, as written; None where the label file is about the recording of its own name.
    start, end : float
        Seconds; 0 and infinity where the row does not say.
    label : str
    group, split : str or None
    """

    line: int
    file: str | None
    start: float
    end: float
    label: str
    group: str | None = None
    split: str | None = None


class BadRow(NamedTuple):
    """Line that is left out, and the reason."""

    line: int
    reason: str


def read_rows(path: Path, columns: Mapping[str, str] | None = None) -> Iterator[Row | BadRow]:
    """Read a label file; its format is found from its content.

    Parameters
    ----------
    path : Path
    columns : mapping of str to str, optional
        Name of the column in the file, by its name in `COLUMNS`, where it is not a usual one.

    Yields
    ------
    Row or BadRow

    Raises
    ------
    DatasetError
        If it cannot be read, or is in none of the formats.
    """
    try:
        encoding = _encoding(path)
        with path.open(encoding=encoding, errors="replace", newline="") as lines:
            yield from _rows(lines, path, columns or {})
    except OSError as error:
        raise DatasetError(f"{escape(path)}: cannot be read ({os_error_reason(error)}); check --labels") from None
    except csv.Error as error:
        raise DatasetError(f"{escape(path)}: is no table ({error}); save it as CSV in UTF-8") from None


def _encoding(path: Path) -> str:
    """Find a text file's encoding: by its byte order mark, UTF-8, or else Windows' Western European."""
    with path.open("rb") as stream:
        first = stream.read(4)
        if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            block = first
            while block:
                decoder.decode(block)
                block = stream.read(1 << 20)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8-sig"


def _rows(stream: Iterator[str], path: Path, columns: Mapping[str, str]) -> Iterator[Row | BadRow]:
    lines = enumerate(stream, 1)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return
    everything = itertools.chain([first], lines)
    text = first[1].strip()
    kind = text.split(maxsplit=1)[0]
    if "\0" in text or len(text) > _LONGEST_LINE:
        raise DatasetError(f"{escape(path)}: is no text file; --labels takes CSV, RTTM, Audacity, Raven or ELAN files")
    if kind in {"SPEAKER", *_OTHER_RTTM} or text.startswith(";;"):
        yield from _rttm(everything)
    elif text.startswith("{"):
        yield from _json_lines(everything, path, columns)
    else:
        yield from _delimited(everything, path, columns)


def _rttm(lines: Iterator[tuple[int, str]]) -> Iterator[Row | BadRow]:
    """Read NIST's Rich Transcription Time Marked format (RT-09 plan, 2009): its SPEAKER lines."""
    for number, line in lines:
        fields = line.split()
        if not fields or fields[0].startswith(";") or fields[0] in _OTHER_RTTM:
            continue
        if fields[0] != "SPEAKER" or len(fields) < _RTTM_FIELDS:
            yield BadRow(number, "is no SPEAKER line of RTTM")
            continue
        start, duration = (parse_time(text) for text in fields[3:5])
        if start is None or duration is None:
            yield BadRow(number, f"has no time and duration ('{fields[3]} {fields[4]}')")
            continue
        yield _row(number, _unquoted(fields[1]), start, start + duration, _unquoted(fields[7]))


def _unquoted(text: str) -> str:
    from urllib.parse import unquote

    return "" if text == "<NA>" else unquote(text, errors="surrogateescape")


def _json_lines(lines: Iterator[tuple[int, str]], path: Path, columns: Mapping[str, str]) -> Iterator[Row | BadRow]:
    """Read JSON lines, as a ``metadata.jsonl`` of an audio folder has them."""
    chosen: dict[str, str] = {}
    scales: dict[str, float] = {}
    for number, line in lines:
        if not line.strip():
            continue
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            yield BadRow(number, "is no JSON")
            continue
        if not isinstance(content, dict):
            yield BadRow(number, "is no JSON object")
            continue
        if not chosen:
            chosen = choose_columns(list(content), path, columns)
            scales = _scales(chosen)
        yield _from_cells(number, {name: _text(content.get(column)) for name, column in chosen.items()}, scales)


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _delimited(lines: Iterator[tuple[int, str]], path: Path, columns: Mapping[str, str]) -> Iterator[Row | BadRow]:
    first = next(lines)
    delimiter = _delimiter(first[1])
    numbers: list[int] = []

    def text() -> Iterator[str]:
        for number, line in itertools.chain([first], lines):
            numbers[:] = [number]
            yield line

    # A tab-separated file holds quotes as they are: programs that write it do not quote.
    table = (
        csv.reader(text(), "excel-tab", quoting=csv.QUOTE_NONE)
        if delimiter == "\t"
        else csv.reader(text(), delimiter=delimiter)
    )
    header = next(table)
    if not any(_is_time(cell) for cell in header):
        yield from _with_header(table, numbers, header, path, columns)
    elif delimiter == "\t":
        read = _audacity if all(map(_is_time, header[:2])) else _elan
        for cells in itertools.chain([header], table):
            if any(cell.strip() for cell in cells) and cells[0] != "\\":  # a label track's line of frequencies
                yield read(numbers[0], cells)
    else:
        raise DatasetError(
            f"{escape(path)}: has no header: give its columns names in the first line, such as file,start,end,label"
        )


def _delimiter(header: str) -> str:
    return max("\t;,", key=lambda char: (header.count(char) > 0, char == "\t", header.count(char)))


def _is_time(cell: str) -> bool:
    return parse_time(cell) is not None


def _audacity(number: int, cells: Sequence[str]) -> Row | BadRow:
    """Read a line of an Audacity label track: start, end and label."""
    start, end = (parse_time(cell) for cell in [*cells, ""][:2])
    if start is None or end is None:
        return BadRow(number, "has no start and end")
    return _row(number, None, start, end, "\t".join(cells[2:]))


def _elan(number: int, cells: Sequence[str]) -> Row | BadRow:
    """Read a line of ELAN's tab-delimited export without header: tier, participant, times, annotation."""
    times = [cell for cell in cells if _CLOCK.fullmatch(cell.strip())] or [cell for cell in cells if _is_time(cell)]
    if len(times) < 2:
        return BadRow(number, "has no start and end")
    start, end = (parse_time(cell) for cell in times[:2])
    if start is None or end is None:
        return BadRow(number, "has no start and end")
    return _row(number, None, start, end, cells[0])


def _with_header(
    table: Iterator[list[str]], numbers: list[int], header: list[str], path: Path, columns: Mapping[str, str]
) -> Iterator[Row | BadRow]:
    names = [cell.strip() for cell in header]
    chosen = choose_columns(names, path, columns)
    places, scales = {name: names.index(column) for name, column in chosen.items()}, _scales(chosen)
    width = max(places.values()) + 1
    for cells in table:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) < width:
            yield BadRow(numbers[0], f"has {len(cells)} columns, not {len(names)}")
            continue
        yield _from_cells(numbers[0], {name: cells[place] for name, place in places.items()}, scales)


def choose_columns(header: Sequence[str], path: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """Choose a table's columns by their names.

    Parameters
    ----------
    header : sequence of str
    path : Path
        Of the table, for the error message.
    columns : mapping of str to str
        Names that the user has given, by those in `COLUMNS`.

    Returns
    -------
    dict of str to str
        Name in the header, by that in `COLUMNS`; those that the table has.

    Raises
    ------
    DatasetError
        If a column that the user named does not exist, or none is the label.
    """
    plain = {_plain(name): name for name in reversed(header)}
    chosen: dict[str, str] = {}
    for name, usual in COLUMNS.items():
        if name in columns:
            found = columns[name] if columns[name] in header else plain.get(_plain(columns[name]))
            if found is None:
                raise DatasetError(
                    f"{escape(path)}: has no column '{escape(columns[name])}': --label_columns takes one of "
                    f"{', '.join(map(escape, header))}"
                )
        else:
            found = next((plain[alias] for alias in usual if alias in plain), None)
        if found is not None:
            chosen[name] = found
    if "label" not in chosen:
        raise DatasetError(
            f"{escape(path)}: no column is named like a label; say which is one, --label_columns label=NAME, of "
            f"{', '.join(map(escape, header))}"
        )
    if _plain(chosen.get("file", "")) == "slice file name":  # UrbanSound8K: its times are those of the source
        for name in {"start", "end", "duration"} - set(columns):
            chosen.pop(name, None)
    return chosen


def _plain(name: str) -> str:
    """Return a column's name in lower case, without its unit in brackets and with single blanks for punctuation."""
    return " ".join(re.sub(r"[\W_]+", " ", re.sub(r"[(\[].*?[)\]]", "", name)).lower().split())


def _scales(columns: Mapping[str, str]) -> dict[str, float]:
    """Return the seconds that a one is in each of the chosen columns: milliseconds have their unit in the name."""
    return {name: 1e-3 if _MILLISECONDS.search(_plain(column)) else 1.0 for name, column in columns.items()}


def _from_cells(number: int, cells: Mapping[str, str], scales: Mapping[str, float]) -> Row | BadRow:
    times: dict[str, float | None] = {}
    for name in ("start", "end", "duration"):
        text = cells.get(name, "").strip()
        time = parse_time(text) if text else None
        if text and time is None:
            return BadRow(number, f"has the {name} '{escape(text)[:40]}', which is no time")
        times[name] = None if time is None else time * scales[name]
    start = times["start"] or 0.0
    end = times["end"]
    if end is None:
        end = math.inf if times["duration"] is None else start + times["duration"]
    file = cells.get("file", "").strip() or None
    if file is None and "file" in scales:
        return BadRow(number, "names no recording")
    row = _row(number, file, start, end, cells["label"])
    if isinstance(row, BadRow):
        return row
    group, split = (cells.get(name, "").strip() or None for name in ("group", "split"))
    return row._replace(group=group, split=split)


def _row(number: int, file: str | None, start: float, end: float, label: str) -> Row | BadRow:
    """Return a row, or why it is left out."""
    label = label.strip()
    if label in ("", "<unknown>"):  # the latter in a timeline of our own
        return BadRow(number, "has no label")
    if start < 0:
        return BadRow(number, f"starts before the recording, at {start:g} s")
    if end == start:
        return BadRow(number, f"has no length: it starts and ends at {start:g} s")
    if end < start:
        return BadRow(number, f"ends at {end:g} s, before its start at {start:g} s")
    return Row(number, file, start, end, label)


def parse_time(text: str) -> float | None:
    """Parse seconds, ``12.5`` or ``12,5``, or ``1:02:03.5``; None if it is no time."""
    text = text.strip()
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text.replace(",", "."))
    return value if math.isfinite(value) else None

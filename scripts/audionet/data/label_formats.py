"""Rows of label files: CSV and TSV, JSON lines, RTTM, Audacity label tracks, Raven selection tables, ELAN exports."""

from __future__ import annotations

import codecs
import csv
import itertools
import json
import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audionet.data.label_columns import Columns, choose_columns
from audionet.data.naming import join_labels
from audionet.errors import DatasetError
from audionet.utils.text import composed, escape, os_error_reason

log = logging.getLogger(__name__)

LABEL_SUFFIXES = frozenset({".csv", ".tsv", ".txt", ".rttm", ".jsonl", ".lab", ".labels"})
"""Endings of label files that are looked for in a folder of them."""

_CLOCK = re.compile(r"(?:(\d{1,4}):)?(\d{1,3}):(\d{1,2}(?:[.,]\d{1,9})?)")
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d{1,3})?")
_CHANNEL = re.compile(r"(\d{1,4})(?:\.0)?")
_CHANNEL_LETTERS = frozenset("ABCDEFGH")
_LONGEST_SECONDS = 1e7
_SHORTEST_SECONDS = 0.05
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
        Empty if it has none.
    group, split : str or None
    channel : int or None
        Channel of the recording, from 1; None where the row does not say.
    """

    line: int
    file: str | None
    start: float
    end: float
    label: str
    group: str | None = None
    split: str | None = None
    channel: int | None = None


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
        with path.open(encoding=text_encoding(path), errors="replace", newline="") as lines:
            yield from _rows(lines, path, columns or {})
    except OSError as error:
        raise DatasetError(f"{escape(path)}: cannot be read ({os_error_reason(error)}); check --labels") from None


def text_encoding(path: Path) -> str:
    """Find a text file's encoding: by its byte order mark, UTF-8, or else Windows' Western European."""
    with path.open("rb") as stream:
        block = stream.read(1 << 20)
        if block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return "utf-16"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while block:
                decoder.decode(block)
                block = stream.read(1 << 20)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            log.warning(f"{path}: is not in UTF-8; read as Windows' Western European: check names with accents")
            return "cp1252"
    return "utf-8-sig"


def _rows(stream: Iterator[str], path: Path, columns: Mapping[str, str]) -> Iterator[Row | BadRow]:
    lines = enumerate(stream, 1)
    first = next(((number, line) for number, line in lines if not _says_nothing(line)), None)
    if first is None:
        return
    everything = itertools.chain([first], lines)
    text = first[1].strip()
    if "\0" in text or len(text) > _LONGEST_LINE:
        raise DatasetError(f"{escape(path)}: is no text file; --labels takes CSV, RTTM, Audacity, Raven or ELAN files")
    if _is_rttm(text):
        yield from _rttm(everything)
    elif text.startswith("{"):
        yield from _json_lines(everything, path, columns)
    else:
        yield from _delimited(everything, path, columns)


def _says_nothing(line: str) -> bool:
    """Return whether a line before the first row is empty, a comment, or what some programs put there.

    An Audacity track may begin with a line of frequencies, an Excel export with ``sep=;``. A number sign may also begin
    a header, as the name of its first column, or a row of an ELAN export without one, as the name of a tier.
    """
    if line.startswith("#"):
        cells = line.rstrip().split("\t")
        return line[1:2] not in ("\t", ",", ";") and sum(map(_is_time, cells)) < 2
    return not line.strip() or line.startswith((";;", "\\\t", "sep="))


def _is_rttm(line: str) -> bool:
    fields = line.split()
    return fields[0] in _OTHER_RTTM or (
        fields[0] == "SPEAKER" and len(fields) >= _RTTM_FIELDS and parse_time(fields[3]) is not None
    )


def _rttm(lines: Iterator[tuple[int, str]]) -> Iterator[Row | BadRow]:
    """Read NIST's Rich Transcription Time Marked format (RT-09 plan, 2009): its SPEAKER lines."""
    for number, line in lines:
        fields = line.split()
        if not fields or fields[0].startswith((";", "#")) or fields[0] in _OTHER_RTTM:
            continue
        if fields[0] != "SPEAKER" or len(fields) < _RTTM_FIELDS:
            yield BadRow(number, "is no SPEAKER line of RTTM")
            continue
        start, duration = (parse_time(text) for text in fields[3:5])
        if start is None or duration is None:
            yield BadRow(number, f"has no time and duration ('{fields[3]} {fields[4]}')")
            continue
        row = _row(number, _unquoted(fields[1]), start, start + duration, _unquoted(fields[7]))
        yield row._replace(channel=parse_channel_cell(fields[2])) if isinstance(row, Row) else row


def _unquoted(text: str) -> str:
    from urllib.parse import unquote

    return "" if text == "<NA>" else unquote(text, errors="surrogateescape")


def _json_lines(lines: Iterator[tuple[int, str]], path: Path, columns: Mapping[str, str]) -> Iterator[Row | BadRow]:
    """Read JSON lines, as a ``metadata.jsonl`` of an audio folder has them; a line may leave out what others have."""
    known: dict[tuple[str, ...], Columns] = {}
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
        keys = tuple(content)
        if keys not in known:
            try:
                known[keys] = choose_columns(keys, path, columns)
            except DatasetError:
                if not known:
                    raise
                yield BadRow(number, "has no label")
                continue
        chosen = known[keys]
        cells = {name: content[column] for name, column in chosen.names.items()}
        cells["label"] = _label_of(cells["label"])
        odd = [name for name, cell in cells.items() if isinstance(cell, dict | list)]
        if odd:
            yield BadRow(number, f"has a {odd[0]} that is neither text nor a number")
            continue
        yield row_from_cells(number, {name: "" if cell is None else str(cell) for name, cell in cells.items()}, chosen)


def _label_of(cell: Any) -> Any:
    """Join a list of labels as a cell of a table does."""
    if not isinstance(cell, list) or any(isinstance(item, dict | list) for item in cell):
        return cell
    return join_labels(str(item).strip() for item in cell if item is not None)


def _delimited(lines: Iterator[tuple[int, str]], path: Path, columns: Mapping[str, str]) -> Iterator[Row | BadRow]:
    first = next(lines)
    delimiter = max("\t;,", key=lambda char: (char in first[1], char == "\t", first[1].count(char)))
    numbers: list[int] = []

    def text() -> Iterator[str]:
        for number, line in itertools.chain([first], lines):
            numbers[:] = [number]
            yield line

    # A tab-separated file may hold quotes as they are; cells that are in quotes are taken out of them.
    table: Iterator[list[str]] = csv.reader(text(), delimiter=delimiter, strict=True)
    if delimiter == "\t":
        table = map(_without_quotes, csv.reader(text(), "excel-tab", quoting=csv.QUOTE_NONE))
    try:
        header = next(table)
        if not any(_is_time(cell) for cell in header):
            yield from _with_header(table, numbers, header, path, columns)
        elif delimiter == "\t":
            if columns:
                raise DatasetError(f"{escape(path)}: has no header, so no column that --label_columns could name")
            read = _audacity if all(map(_is_time, header[:2])) else _elan
            for cells in itertools.chain([header], table):
                if any(cell.strip() for cell in cells) and cells[0] != "\\":  # a label track's line of frequencies
                    yield read(numbers[0], cells)
        else:
            raise DatasetError(
                f"{escape(path)}: has no header: give its columns names in the first line, such as file,start,end,label"
            )
    except csv.Error as error:
        place = f"{escape(path)}:{numbers[0] if numbers else 1}"
        raise DatasetError(f"{place}: is no row of a table ({error}): look for a quote too many") from None


def _without_quotes(cells: list[str]) -> list[str]:
    return [cell[1:-1].replace('""', '"') if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell for cell in cells]


def _is_time(cell: str) -> bool:
    return parse_time(cell) is not None


def _audacity(number: int, cells: Sequence[str]) -> Row | BadRow:
    """Read a line of an Audacity label track: start, end and label."""
    start, end = (parse_time(cell) for cell in [*cells, ""][:2])
    if start is None or end is None:
        return BadRow(number, "has no start and end")
    return _row(number, None, start, end, "\t".join(cells[2:]))


def _elan(number: int, cells: Sequence[str]) -> Row | BadRow:
    """Read a line of ELAN's tab-delimited export without header: tier, participant, times, annotation.

    Times are known by their form, hours, minutes and seconds, or by being the only two or three numbers: seconds, or
    milliseconds without a fraction.
    """
    clocks = [cell for cell in cells if _CLOCK.fullmatch(cell.strip())]
    numbers = [cell for cell in cells[1:-1] if _is_time(cell)]
    if len(clocks) < 2 and len(numbers) not in (2, 3):
        return BadRow(number, "has no start and end that can be distinguished: export with the columns' names")
    times = clocks if len(clocks) >= 2 else numbers
    start, end = (parse_time(cell) for cell in times[:2])
    if start is None or end is None:
        return BadRow(number, "has no start and end")
    scale = 1e-3 if times is numbers and all(cell.strip().isdigit() for cell in numbers) else 1.0
    return _row(number, None, start * scale, end * scale, cells[0])


def _with_header(
    table: Iterator[list[str]], numbers: list[int], header: list[str], path: Path, columns: Mapping[str, str]
) -> Iterator[Row | BadRow]:
    names = [cell.strip() for cell in header]
    chosen = choose_columns(names, path, columns)
    places = {name: names.index(column) for name, column in chosen.names.items()}
    width = max(places.values()) + 1
    for cells in table:
        if not any(cell.strip() for cell in cells) or (len(cells) == 1 < width and cells[0].startswith("#")):
            continue  # a comment; a row may begin so as well, as recordings may be named #1.wav
        if len(cells) < width:
            yield BadRow(numbers[0], f"has {len(cells)} columns, not {len(names)}")
            continue
        yield row_from_cells(numbers[0], {name: cells[place] for name, place in places.items()}, chosen)


def row_from_cells(number: int, cells: Mapping[str, str], columns: Columns) -> Row | BadRow:
    """Return the row that a table's cells say, or why it is left out.

    Parameters
    ----------
    number : int
        Of the line, from 1.
    cells : mapping of str to str
        By the names in `COLUMNS`; a label, at least.
    columns : Columns
        Columns that they are of.
    """
    times: dict[str, float | None] = {}
    for name, scale in columns.seconds.items():
        text = cells[name].strip()
        time = parse_time(text) if text else None
        if text and time is None:
            return BadRow(number, f"has the {name} '{escape(text)[:40]}', which is no time")
        times[name] = None if time is None else (time if ":" in text else time * scale)
    start, end = times.get("start") or 0.0, times.get("end")
    if end is None:
        duration = times.get("duration")
        end = math.inf if duration is None else start + duration
    if (offset := times.get("offset")) is not None:
        start, end = offset, offset + end - start
    file = cells.get("file") or None  # whether blanks are its name's, the recordings decide
    if (file is None or not file.strip()) and "file" in columns.names:
        return BadRow(number, "names no recording")
    row = _row(number, file, start, end, cells["label"])
    if isinstance(row, BadRow):
        return row
    group, split = (cells.get(name, "").strip() or None for name in ("group", "split"))
    return row._replace(group=group, split=split, channel=parse_channel_cell(cells.get("channel", "")))


def _row(number: int, file: str | None, start: float, end: float, label: str) -> Row | BadRow:
    """Return a row, or why it is left out."""
    label = composed(label.strip())
    if start < 0:
        return BadRow(number, f"starts before the recording, at {start:g} s")
    if end < start:
        return BadRow(number, f"ends at {end:g} s, before its start at {start:g} s")
    if end - start < _SHORTEST_SECONDS:
        return BadRow(number, f"has no length: it starts at {start:g} s and ends at {end:g} s")
    return Row(number, file, start, end, "" if label == "<unknown>" else label)  # of a timeline of our own


def parse_channel_cell(text: str) -> int | None:
    """Parse a channel: its number, from 1, or A, B ... as in NIST's formats; None for anything else."""
    text = text.strip()
    if match := _CHANNEL.fullmatch(text):
        return int(match[1])
    return ord(text) - ord("A") + 1 if text in _CHANNEL_LETTERS else None


def parse_time(text: str) -> float | None:
    """Parse seconds, ``12.5`` or ``12,5``, or ``1:02:03.5``; None if it is no time."""
    text = text.strip()
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = match.groups()
        return 3600 * int(hours or 0) + 60 * int(minutes) + float(seconds.replace(",", "."))
    if len(text) > 40 or not _NUMBER.fullmatch(text):
        return None
    value = float(text.replace(",", "."))
    return value if abs(value) <= _LONGEST_SECONDS else None

"""Rows of trial lists and of tables of enrolments: the forms of VoxCeleb, Kaldi and NIST, and CSV."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from audionet.data.label_columns import find_column
from audionet.data.label_formats import BadRow, text_encoding
from audionet.errors import DatasetError
from audionet.utils.text import escape, os_error_reason, pluralise

_TARGET = ("1", "target", "tgt", "true", "same")
_NONTARGET = ("0", "nontarget", "non-target", "imp", "impostor", "false", "different")
_LABELS = dict.fromkeys(_TARGET, True) | dict.fromkeys(_NONTARGET, False)
_COLUMNS = {
    "model": ("model", "modelid", "model id"),
    "enrol": ("enrol", "enroll", "enrolment", "enrollment", "enrol file", "enroll file", "file", "file1", "wav1"),
    "test": ("test", "test file", "segment", "segmentid", "segment id", "file2", "wav2"),
    "label": ("label", "target", "targettype", "target type", "key", "same"),
}
_FIELDS = 3


class TrialRow(NamedTuple):
    """Row of a trial list.

    Attributes
    ----------
    line : int
        Number of the line, from 1.
    model : str
        Speaker model: the name in a column of its own, or that of the file.
    file : str or None
        Recording that the model is enrolled from; None if the row names the model alone.
    test : str
    target : bool
    """

    line: int
    model: str
    file: str | None
    test: str
    target: bool


def _read_fields(path: Path, flag: str) -> Iterator[tuple[int, list[str]]]:
    """Yield a table's lines, numbered: their fields between tabs, semicolons, commas, or else blanks."""
    try:
        with path.open(encoding=text_encoding(path), errors="replace", newline="") as stream:
            lines = ((number, line) for number, line in enumerate(stream, 1) if line.strip())
            first = next(lines, None)
            if first is None:
                return
            if "\0" in first[1]:
                raise DatasetError(f"{escape(path)}: is no text file: {flag} takes a list of trials, or CSV")
            delimiter = next((char for char in "\t;," if char in first[1]), None)
            for number, line in itertools.chain([first], lines):
                yield number, line.split() if delimiter is None else next(csv.reader([line], delimiter=delimiter))
    except csv.Error as error:
        raise DatasetError(f"{escape(path)}: is no table ({error}); check {flag}") from None
    except OSError as error:
        raise DatasetError(f"{escape(path)}: cannot be read ({os_error_reason(error)}); check {flag}") from None


def read_rows(path: Path) -> Iterator[TrialRow | BadRow]:
    """Read a trial list; its form is found from its content.

    Raises
    ------
    DatasetError
        If it cannot be read, or is no text.
    """
    header: dict[str, int] | None = None
    width = _FIELDS
    for place, (line, fields) in enumerate(_read_fields(path, "--trials")):
        if place == 0 and (header := _header(fields)) is not None:
            width = len(fields)
            continue
        if len(fields) != width:
            hint = "; names with blanks need CSV" if len(fields) > width else ""
            yield BadRow(line, f"has {pluralise(len(fields), 'column')}, not {width}{hint}")
        elif header is None:
            yield _plain_row(line, fields)
        else:
            cells = {name: fields[column].strip() for name, column in header.items()}
            yield _row(line, cells.get("model"), cells.get("enrol"), cells["test"], cells["label"])


def _header(fields: Sequence[str]) -> dict[str, int] | None:
    """Return the place of each column; None if the fields are no header."""
    chosen = {name: find_column(fields, usual) for name, usual in _COLUMNS.items()}
    if chosen["test"] is None or chosen["label"] is None or (chosen["enrol"] or chosen["model"]) is None:
        return None
    return {name: fields.index(column) for name, column in chosen.items() if column is not None}


def _plain_row(line: int, fields: Sequence[str]) -> TrialRow | BadRow:
    """Return a row without a header: the label is first (VoxCeleb) or last (Kaldi)."""
    first, second, third = map(str.strip, fields)
    if _parse_label(first) is None and _parse_label(third) is not None:
        return _row(line, None, first, second, third)
    return _row(line, None, second, third, first)


def _row(line: int, model: str | None, enrol: str | None, test: str, label: str) -> TrialRow | BadRow:
    target, name = _parse_label(label), model or enrol
    if target is None:
        return BadRow(line, f"has the label '{escape(label)[:40]}': it must be 1 or 0, target or nontarget")
    if not name or not test:
        return BadRow(line, "lacks a name")
    return TrialRow(line, name, enrol or None, test, target)


def _parse_label(text: str) -> bool | None:
    """Return whether a label says that a trial is a target; None if it is no label."""
    return _LABELS.get(text.casefold())


def read_enrolments(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Read a table of models and their files, one or more a row.

    Raises
    ------
    DatasetError
        If it cannot be read, or a row names no file.
    """
    for place, (line, fields) in enumerate(_read_fields(path, "--enrolments")):
        if place == 0 and find_column(fields[:1], _COLUMNS["model"]):
            continue
        model, *files = [field.strip() for field in fields]
        if not any(files):
            raise DatasetError(f"{escape(path)}:{line}: has {pluralise(len(fields), 'column')}: a model and a file")
        yield model, list(filter(None, files))

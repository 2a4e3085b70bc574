"""Recordings of public datasets: which files they are, and the fields that names and lists give of each."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from audionet.errors import DamagedError, DatasetError
from audionet.utils.text import escape, first_line

Fields = Mapping[str, str]
"""What is known of a recording, such as ``speaker`` and ``digit``."""

Reader = Callable[[Path], dict[str, Fields]]
"""Reads a file of a dataset, and returns fields of recordings by their places."""


def _nothing(fields: Fields) -> Fields:
    return {}


@dataclass(frozen=True)
class Metadata:
    """File of a dataset that says something of its recordings.

    Attributes
    ----------
    file : str
        Its name.
    read : callable
        See `Reader`.
    names_all : bool
        Whether it must name every recording.
    optional : bool
        Whether the dataset can be used without it.
    """

    file: str
    read: Reader
    names_all: bool = True
    optional: bool = False


@dataclass(frozen=True)
class Rows:
    """Files of a dataset that are recordings, and their fields.

    Attributes
    ----------
    pattern : str
        Expression of the end of a recording's path, whatever folders are above it. What it matches is the recording's
        place in the dataset; its named groups are fields.
    metadata : tuple of Metadata
    derive : callable
        Takes the fields of a recording; returns more, or others.
    """

    pattern: str
    metadata: tuple[Metadata, ...] = ()
    derive: Callable[[Fields], Fields] = _nothing

    def place(self, path: str) -> str | None:
        """Return a recording's place in the dataset; None if the file of this path is none.

        Parameters
        ----------
        path : str
            With slashes, below any folder.
        """
        match = re.fullmatch(rf"(?:.*/)?(?P<place>{self.pattern})", path, re.ASCII | re.DOTALL)
        return match["place"] if match else None

    def fields(self, places: list[str], files: Mapping[str, Path]) -> Iterator[tuple[str, Fields]]:
        """Yield the fields of recordings.

        Parameters
        ----------
        places : list of str
            See `place`.
        files : mapping of str to Path
            Files of `metadata`, by name.

        Yields
        ------
        tuple of str and mapping of str to str
            Place and fields.

        Raises
        ------
        DatasetError
            If a file that is needed is missing or damaged, or does not name a recording.
        """
        known: list[tuple[Metadata, dict[str, Fields]]] = []
        for item in self.metadata:
            if item.file in files:
                known.append((item, _read(item, files[item.file])))
            elif not item.optional:
                raise DatasetError(f"{item.file} is missing, which comes with the dataset: it says what is heard where")
        for place in places:
            match = re.fullmatch(self.pattern, place, re.ASCII)
            found = {name: value or "" for name, value in (match.groupdict() if match else {}).items()}
            for item, of in known:
                if place in of:
                    found |= of[place]
                elif item.names_all:
                    raise DatasetError(
                        f"{escape(files[item.file])}: does not name {escape(place)}: is it another version?"
                    )
            yield place, {**found, **self.derive(found)}


def _read(item: Metadata, path: Path) -> dict[str, Fields]:
    try:
        return item.read(path)
    except (csv.Error, UnicodeDecodeError, DamagedError) as error:
        raise DatasetError(f"{escape(path)}: cannot be read ({first_line(error)}): fetch it again") from None


def by_column(name: str, folder: str = "") -> Reader:
    """Return a reader of a CSV file.

    Parameters
    ----------
    name : str
        Column of the recordings' names.
    folder : str
        What goes before a name, with other columns in braces, such as ``fold{fold}/``.
    """

    def read(path: Path) -> dict[str, Fields]:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream, restval="", restkey="", strict=True)
            if name not in (table.fieldnames or ()):
                raise DamagedError(f"it has no column {name}")
            try:
                return {folder.format(**row) + row[name]: row for row in table}
            except KeyError as error:
                raise DamagedError(f"it has no column {error.args[0]}") from None

    return read


def listed(name: str) -> Reader:
    """Return a reader of the list of a set's recordings, one a line."""
    return lambda path: {line.strip(): {"set": name} for line in path.read_text("utf-8").splitlines() if line.strip()}


def sets_by_number(path: Path) -> dict[str, Fields]:
    """Read VoxCeleb1's ``iden_split.txt``: lines of 1, 2 or 3, for training, validation and test, and a recording."""
    names = {"1": "training", "2": "validation", "3": "testing"}
    sets: dict[str, Fields] = {}
    for line in path.read_text("utf-8").split("\n"):
        number, _, place = line.strip().partition(" ")
        if number and number not in names:
            raise DamagedError("a line begins with neither 1, 2 nor 3")
        if number:
            sets[place.strip()] = {"set": names[number]}
    return sets

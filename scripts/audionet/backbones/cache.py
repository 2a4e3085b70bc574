"""Bottlenecks on disk: each computed once, kept in few files, read row by row as training wants them.

The cache of a backbone is a folder of ``.npy`` files, each one array of records (key, image size, network
features in fp16, band statistics, MFCC statistics), written whole. NumPy opens them, and any row is read at its
place. Arrow and Parquet were the alternatives: Parquet has to be decoded before a row can be had, and Arrow's column of
lists would be read just like this, for one dependency more.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import threading
import uuid
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from audionet.audio.network_input import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH
from audionet.errors import DatasetError
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.text import escape

CACHE_FORMAT = 2
"""Part of the folder's name: another version's cache is left alone, and its bottlenecks computed again."""

KEY_BYTES = 16

_LARGEST_FILE = 1 << 30
_ROWS_AT_ONCE = 128


def content_key(jpg: bytes) -> bytes:
    """Sixteen bytes that stand for an image's content."""
    return hashlib.blake2b(jpg, digest_size=KEY_BYTES).digest()


class Bottleneck(NamedTuple):
    """What is kept of one image.

    Attributes
    ----------
    size : (int, int)
        Width and height of the image, pixels.
    network : ndarray of float32, shape (width,)
        The backbone's features; empty where there is no backbone.
    band_statistics, mfcc_statistics : ndarray of float32
    """

    size: tuple[int, int]
    network: FloatArray
    band_statistics: FloatArray
    mfcc_statistics: FloatArray


class Rows(Protocol):
    """Some records that can be had by number and field."""

    def __len__(self) -> int: ...

    def take(self, field: str, rows: IntArray) -> NDArray[Any]:
        """One field of some rows, shape (len(rows), ...)."""
        ...


class Part:
    """One file of records, read where it is wanted.

    Not mapped into memory: of a mapped file, every page that was touched, and all that Linux maps around it, counts
    as this process's memory, and a file that grows shorter ends the process.

    Parameters
    ----------
    path : Path
    dtype : dtype
        What its records must be.

    Raises
    ------
    ValueError
        If it is cut short, damaged, or holds something else.
    OSError
        If it cannot be read.
    """

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path = path
        self._dtype = dtype
        self._lock = threading.Lock()
        self._file = io.FileIO(path)
        weakref.finalize(self, self._file.close)
        with path.open("rb") as stream:
            if np.lib.format.read_magic(stream) != (1, 0):
                raise ValueError("not the version of .npy that is written here")
            shape, _, found = np.lib.format.read_array_header_1_0(stream)
            self._begin = stream.tell()
        self._length = shape[0] if len(shape) == 1 else -1
        if found != dtype or path.stat().st_size != self._begin + self._length * dtype.itemsize:
            raise ValueError("not whole, or not these records")

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Bytes of records."""
        return self._length * self._dtype.itemsize

    def take(self, field: str, rows: IntArray) -> NDArray[Any]:
        assert self._dtype.fields is not None
        column, place = self._dtype.fields[field][:2]
        values: NDArray[Any] = np.empty((len(rows), *column.shape), column.base)
        breaks = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, end in itertools.pairwise(breaks):
            if end - start == 1:
                self._read(values[start:end], int(rows[start]), place)
                continue
            for first in range(start, end, _ROWS_AT_ONCE):
                records = np.empty(min(_ROWS_AT_ONCE, end - first), self._dtype)
                self._read(records, int(rows[first]), 0)
                values[first : first + len(records)] = records[field]
        return values

    def _read(self, into: NDArray[Any], row: int, place: int) -> None:
        with self._lock:
            self._file.seek(self._begin + row * self._dtype.itemsize + place)
            if self._file.readinto(into.view(np.uint8).reshape(-1).data) != into.nbytes:
                raise DatasetError(f"{escape(self.path)} has changed while it was in use: run again")

    def whole(self) -> NDArray[Any]:
        """All records."""
        records = np.empty(self._length, self._dtype)
        self._read(records, 0, 0)
        return records


class Records:
    """Rows of a cache, in an order of their own and read only when asked for.

    Parameters
    ----------
    parts : sequence of Rows
    part, row : ndarray of int64, shape (n,)
        Where each record lies.
    """

    def __init__(self, parts: Sequence[Rows], part: IntArray, row: IntArray) -> None:
        self._parts = parts
        self._part = part
        self._row = row

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, which: IntArray) -> Records:
        """Some of these records."""
        return Records(self._parts, self._part[which], self._row[which])

    def take(self, field: str, which: IntArray | slice = slice(None)) -> NDArray[Any]:
        """One field of some records, shape (n, ...)."""
        part, row = self._part[which], self._row[which]
        numbers = np.unique(part)
        if len(numbers) == 1:
            only: NDArray[Any] = self._parts[numbers[0]].take(field, row)
            return only
        none = self._parts[0].take(field, row[:0]) if self._parts else np.empty(0)
        values: NDArray[Any] = np.empty((len(row), *none.shape[1:]), none.dtype)
        for number in numbers:
            here = np.flatnonzero(part == number)
            values[here] = self._parts[number].take(field, row[here])
        return values


class Cache:
    """The bottlenecks of one backbone on disk.

    Parameters
    ----------
    folder : Path
        Made if it is not there. A file in it that is damaged or of another version is passed over, and its
        bottlenecks are computed again.
    width : int
        Numbers in the network's features.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.dtype = np.dtype(
            [
                ("key", f"V{KEY_BYTES}"),
                ("size", "<u2", (2,)),
                ("network", "<f2", (width,)),
                ("bands", "<f4", (BAND_STATISTICS_WIDTH,)),
                ("mfcc", "<f4", (MFCC_STATISTICS_WIDTH,)),
            ]
        )
        make_folder(folder)
        self._parts: list[Part] = []
        for path in sorted(folder.glob("part-*.npy")):
            with contextlib.suppress(OSError, ValueError, EOFError):
                self._parts.append(Part(path, self.dtype))
        self._indexed = False

    def _index(self) -> None:
        """Sort the keys, so that a million of them are found without a million Python objects."""
        self._indexed = True
        every = [part.take("key", np.arange(len(part))) for part in self._parts]
        keys = np.concatenate([np.empty(0, self.dtype["key"]), *every])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        lengths = [len(part) for part in self._parts]
        self._part = np.repeat(np.arange(len(lengths)), lengths)[order]
        self._row = np.concatenate([np.empty(0, np.int64), *map(np.arange, lengths)])[order]

    def _find(self, keys: NDArray[np.void]) -> tuple[IntArray, NDArray[np.bool_]]:
        """Where each key is in the index, and whether it is there at all."""
        if not self._indexed:
            self._index()
        place = np.searchsorted(self._keys, keys)
        inside = place < len(self._keys)
        found = np.zeros(len(keys), bool)
        found[inside] = self._keys[place[inside]] == keys[inside]
        return place, found

    def missing(self, keys: NDArray[np.void]) -> NDArray[np.bool_]:
        """Which of these keys the cache lacks."""
        return ~self._find(keys)[1]

    def records(self, keys: NDArray[np.void]) -> Records:
        """The records of these keys, in their order.

        Raises
        ------
        KeyError
            If the cache lacks one.
        """
        place, found = self._find(keys)
        if not found.all():
            raise KeyError(keys[~found][0].tobytes().hex())
        return Records(self._parts, self._part[place], self._row[place])

    def add(self, rows: Sequence[tuple[bytes, Bottleneck]]) -> None:
        """Write rows as a file of their own."""
        part = np.empty(len(rows), self.dtype)
        for place, (key, bottleneck) in enumerate(rows):
            part[place] = (key, *bottleneck)
        self._write(part)

    def _write(self, part: NDArray[Any]) -> None:
        path = self.folder / f"part-{uuid.uuid4().hex}.npy"
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, part, allow_pickle=False)
        self._parts.append(Part(path, self.dtype))
        self._indexed = False

    def compact(self) -> None:
        """Join small files into large ones."""
        batches: list[list[int]] = [[]]
        for i, part in enumerate(self._parts):
            if part.nbytes > _LARGEST_FILE // 2:
                continue
            if sum(self._parts[j].nbytes for j in batches[-1]) + part.nbytes > _LARGEST_FILE:
                batches.append([])
            batches[-1].append(i)
        joined = [batch for batch in batches if len(batch) > 1]
        for batch in joined:
            self._write(np.concatenate([self._parts[i].whole() for i in batch]))
        gone = {i for batch in joined for i in batch}
        for i in gone:
            self._parts[i].path.unlink(missing_ok=True)
        self._parts = [part for i, part in enumerate(self._parts) if i not in gone]
        self._indexed = False

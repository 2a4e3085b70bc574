"""Bottleneck cache on disk: each bottleneck is computed once, kept in few files, and read row by row in training.

The cache of a backbone is a folder of ``.npy`` files, each one array of records (key, image size, network
features in fp16, band statistics, MFCC statistics, activity, checksum), written whole. NumPy opens them, and any
row is read at its offset. Arrow and Parquet were the alternatives: Parquet has to be decoded before a row can be read,
and Arrow's column of lists would be read just like this, for one more dependency.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import logging
import threading
import uuid
import weakref
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from audionet.audio.network_input import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH
from audionet.errors import DamagedError, DatasetError
from audionet.utils.array_files import read_header
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

CACHE_FORMAT = 4
"""Part of the folder's name: the cache of another version is not read, and its bottlenecks are computed again."""

KEY_BYTES = 16

_LARGEST_FILE = 1 << 30
_ROWS_AT_ONCE = 128
_CHECKSUM, _CHECKSUM_BYTES = "checksum", 4
_UNKNOWN, _WHOLE, _DAMAGED = 0, 1, 2


def content_key(jpg: bytes) -> bytes:
    """Hash an image's content, 16 bytes."""
    return hashlib.blake2b(jpg, digest_size=KEY_BYTES).digest()


class Bottleneck(NamedTuple):
    """Bottleneck of one image.

    Attributes
    ----------
    size : (int, int)
        Width and height of the image, pixels.
    network : ndarray of float32, shape (width,)
        The backbone's features; empty without a backbone.
    band_statistics, mfcc_statistics : ndarray of float32
    activity : float
        Share of the frames with sound, 0 to 1.
    """

    size: tuple[int, int]
    network: FloatArray
    band_statistics: FloatArray
    mfcc_statistics: FloatArray
    activity: float


class Rows(Protocol):
    """Records that can be read by row and field."""

    def __len__(self) -> int: ...

    def take(self, field: str, rows: IntArray) -> NDArray[Any]:
        """Read one field of some rows, shape (len(rows), ...)."""
        ...


class Part:
    """One file of records, read on demand.

    It is not memory-mapped: every page read from a mapped file, and the pages Linux maps around it, counts as this
    process's memory, and a file truncated while in use kills the process.

    Parameters
    ----------
    path : Path
    dtype : dtype
        Required type of its records.

    Raises
    ------
    DamagedError
        If it is truncated, damaged, or contains something else.
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
            header = read_header(stream)
            size = stream.seek(0, io.SEEK_END)
        self._data_start = header.size
        self._length = header.shape[0] if len(header.shape) == 1 else -1
        if header.dtype != dtype or size != header.size + self._length * dtype.itemsize:
            raise DamagedError("truncated, or records of another type")
        self._state = np.full(self._length, _UNKNOWN, np.uint8)

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Size of the records, bytes."""
        return self._length * self._dtype.itemsize

    def take(self, field: str, rows: IntArray) -> NDArray[Any]:
        assert self._dtype.fields is not None
        column, offset = self._dtype.fields[field][:2]
        values: NDArray[Any] = np.empty((len(rows), *column.shape), column.base)
        breaks = [0, *(np.flatnonzero(np.diff(rows) != 1) + 1).tolist(), len(rows)]
        for start, end in itertools.pairwise(breaks):
            if end - start == 1:
                self._read(values[start:end], int(rows[start]), offset)
                continue
            for first in range(start, end, _ROWS_AT_ONCE):
                records = np.empty(min(_ROWS_AT_ONCE, end - first), self._dtype)
                self._read(records, int(rows[first]), 0)
                values[first : first + len(records)] = records[field]
        return values

    def _read(self, into: NDArray[Any], row: int, offset: int) -> None:
        with self._lock:
            self._file.seek(self._data_start + row * self._dtype.itemsize + offset)
            if self._file.readinto(into.view(np.uint8).reshape(-1).data) != into.nbytes:
                raise DatasetError(f"{escape(self.path)} has changed while it was in use: run again")

    def whole(self) -> NDArray[Any]:
        """Read all records that are not damaged."""
        records = np.empty(self._length, self._dtype)
        self._read(records, 0, 0)
        whole: NDArray[Any] = records[checksums(records) == records[_CHECKSUM]]
        return whole

    def verify(self, rows: IntArray) -> NDArray[np.bool_]:
        """Return a mask of the damaged ones among some rows; the checksum of each is computed once."""
        unknown = np.sort(rows[self._state[rows] == _UNKNOWN])
        for run in np.split(unknown, np.flatnonzero(np.diff(unknown) != 1) + 1):
            for start in range(0, len(run), _ROWS_AT_ONCE):
                block = run[start : start + _ROWS_AT_ONCE]
                records = np.empty(len(block), self._dtype)
                self._read(records, int(block[0]), 0)
                self._state[block] = np.where(checksums(records) == records[_CHECKSUM], _WHOLE, _DAMAGED)
        damaged: NDArray[np.bool_] = self._state[rows] == _DAMAGED
        return damaged

    @property
    def usable(self) -> IntArray:
        """Rows of the records that are not known to be damaged."""
        return np.flatnonzero(self._state != _DAMAGED)


def checksums(records: NDArray[Any]) -> NDArray[np.uint32]:
    """Compute the CRC-32 of each record, of all its bytes before the checksum."""
    size = records.dtype.itemsize
    content = memoryview(records.view(np.uint8).data)
    ends = range(size, len(content) + 1, size)
    return np.array([zlib.crc32(content[end - size : end - _CHECKSUM_BYTES]) for end in ends], np.uint32)


class Records:
    """Rows of a cache in any order, read on demand.

    Parameters
    ----------
    parts : sequence of Rows
    part, row : ndarray of int64, shape (n,)
        File and row of each record.
    """

    def __init__(self, parts: Sequence[Rows], part: IntArray, row: IntArray) -> None:
        self._parts = parts
        self._part = part
        self._row = row

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, indices: IntArray) -> Records:
        """Select some of these records."""
        return Records(self._parts, self._part[indices], self._row[indices])

    def take(self, field: str, indices: IntArray | slice = slice(None)) -> NDArray[Any]:
        """Read one field of some records, shape (n, ...)."""
        part, row = self._part[indices], self._row[indices]
        numbers = np.unique(part)
        if len(numbers) == 1:
            only: NDArray[Any] = self._parts[numbers[0]].take(field, row)
            return only
        empty = self._parts[0].take(field, row[:0]) if self._parts else np.empty(0)
        values: NDArray[Any] = np.empty((len(row), *empty.shape[1:]), empty.dtype)
        for number in numbers:
            selected = np.flatnonzero(part == number)
            values[selected] = self._parts[number].take(field, row[selected])
        return values


class Cache:
    """Bottlenecks of one backbone on disk.

    Parameters
    ----------
    folder : Path
        Created if it does not exist. A file in it that is damaged or of another version is ignored, and its
        bottlenecks are computed again.
    width : int
        Width of the network's features.
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
                ("activity", "<f4"),
                (_CHECKSUM, "<u4"),
            ]
        )
        make_folder(folder)
        self._parts: list[Part] = []
        for path in sorted(folder.glob("part-*.npy")):
            with contextlib.suppress(OSError, DamagedError):
                self._parts.append(Part(path, self.dtype))
        self._indexed = False

    def _index(self) -> None:
        """Sort the keys, so that a million keys can be looked up without a million Python objects."""
        self._indexed = True
        rows = [part.usable for part in self._parts]
        part_keys = [part.take("key", chosen) for part, chosen in zip(self._parts, rows, strict=True)]
        keys = np.concatenate([np.empty(0, self.dtype["key"]), *part_keys])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._part = np.repeat(np.arange(len(rows)), list(map(len, rows)))[order]
        self._row = np.concatenate([np.empty(0, np.int64), *rows])[order]

    def _find(self, keys: NDArray[np.void]) -> tuple[IntArray, NDArray[np.bool_]]:
        """Look up keys; return their positions in the index and whether each was found."""
        if not self._indexed:
            self._index()
        position = np.searchsorted(self._keys, keys)
        inside = position < len(self._keys)
        found = np.zeros(len(keys), bool)
        found[inside] = self._keys[position[inside]] == keys[inside]
        return position, found

    def missing(self, keys: NDArray[np.void]) -> NDArray[np.bool_]:
        """Return a mask of the keys that the cache lacks.

        The records of the others are verified, each once. A damaged one is dropped: if there is another of its key,
        that is used, otherwise the key is missing.
        """
        while True:
            position, found = self._find(keys)
            wanted = np.unique(position[found])
            damaged = self._damaged(wanted)
            if not damaged.any():
                return ~found
            log.warning(
                f"{self.folder}: damaged and computed again: {pluralise(int(damaged.sum()), 'bottleneck')} of the cache"
            )
            dropped = wanted[damaged]
            self._keys, self._part, self._row = (
                np.delete(of_index, dropped) for of_index in (self._keys, self._part, self._row)
            )

    def _damaged(self, positions: IntArray) -> NDArray[np.bool_]:
        """Verify the records at positions of the index; return a mask of the damaged ones."""
        damaged = np.zeros(len(positions), bool)
        of_part, rows = self._part[positions], self._row[positions]
        for number in np.unique(of_part):
            chosen = of_part == number
            damaged[chosen] = self._parts[number].verify(rows[chosen])
        return damaged

    def records(self, keys: NDArray[np.void]) -> Records:
        """Return the records of keys, in their order.

        Raises
        ------
        KeyError
            If the cache lacks one.
        """
        position, found = self._find(keys)
        if not found.all():
            raise KeyError(keys[~found][0].tobytes().hex())
        return Records(self._parts, self._part[position], self._row[position])

    def add(self, rows: Sequence[tuple[bytes, Bottleneck]]) -> None:
        """Write rows to a new file."""
        part = np.empty(len(rows), self.dtype)
        for i, (key, bottleneck) in enumerate(rows):
            part[i] = (key, *bottleneck, 0)
        part[_CHECKSUM] = checksums(part)
        self._write(part)

    def _write(self, part: NDArray[Any]) -> None:
        path = self.folder / f"part-{uuid.uuid4().hex}.npy"
        with atomic_path(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, part, allow_pickle=False)
        self._parts.append(Part(path, self.dtype))
        self._indexed = False

    def compact(self) -> None:
        """Join small files into large ones, without damaged rows."""
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
        replaced = {i for batch in joined for i in batch}
        for i in replaced:
            self._parts[i].path.unlink(missing_ok=True)
        self._parts = [part for i, part in enumerate(self._parts) if i not in replaced]
        self._indexed = False

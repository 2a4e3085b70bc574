"""Bottlenecks on disk: each computed once, kept in few files, read row by row as training wants them.

The cache of a backbone is a folder of ``.npy`` files, each one array of records (key, picture size, network
features in fp16, band statistics, MFCC statistics), written whole. NumPy maps them into memory as they are. Arrow
and Parquet were the alternatives: Parquet has to be decoded before a row can be had, and Arrow's column of lists
would be mapped just like this, for one dependency more.
"""

from __future__ import annotations

import contextlib
import mmap
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .features import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH
from .files import atomic_path, make_folder
from .spectrogram import FloatArray

CACHE_FORMAT = 2
"""Part of the folder's name: another version's cache is left alone, and its bottlenecks computed again."""

KEY_BYTES = 16

IntArray = NDArray[np.int64]

_LARGEST_FILE = 1 << 30
_MOST_RESIDENT = 1 << 27  # bytes of mapped pages that are kept before they are handed back
_MAPPED_AT_ONCE = 1 << 16  # bytes that Linux maps around each row touched
_ROWS_AT_ONCE = 4096


class Bottleneck(NamedTuple):
    """What is kept of one picture.

    Attributes
    ----------
    size : (int, int)
        Width and height of the picture, pixels.
    network : ndarray of float32, shape (width,)
        The backbone's features; empty where there is no backbone.
    band_statistics, mfcc_statistics : ndarray of float32
    """

    size: tuple[int, int]
    network: FloatArray
    band_statistics: FloatArray
    mfcc_statistics: FloatArray


class Records:
    """Rows of a cache, in an order of their own and read only when asked for.

    A million bottlenecks are gigabytes; no more of them than a few hundred megabytes is in memory at a time.

    Parameters
    ----------
    parts : sequence of structured ndarray
        Memory-mapped files, or arrays.
    part, row : ndarray of int64, shape (n,)
        Where each record lies.
    """

    def __init__(self, parts: Sequence[NDArray[Any]], part: IntArray, row: IntArray) -> None:
        self._parts = parts
        self._part = part
        self._row = row
        self._touched = 0

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, which: IntArray) -> Records:
        """Some of these records."""
        return Records(self._parts, self._part[which], self._row[which])

    def take(self, field: str, which: IntArray | slice = slice(None)) -> NDArray[Any]:
        """One field of some records, shape (n, ...)."""
        part, row = self._part[which], self._row[which]
        column = self._parts[0][field] if self._parts else np.empty(0)
        values = np.empty((len(row), *column.shape[1:]), column.dtype)
        for start in range(0, len(row), _ROWS_AT_ONCE):
            some = slice(start, start + _ROWS_AT_ONCE)
            for number in np.unique(part[some]):
                here = start + np.flatnonzero(part[some] == number)
                values[here] = self._parts[number][field][row[here]]
            self._touched += len(row[some]) * _MAPPED_AT_ONCE
            if self._touched > _MOST_RESIDENT:
                self._touched = 0
                _hand_back(self._parts)
        return values


def _hand_back(parts: Sequence[NDArray[Any]]) -> None:
    """Let go of the pages read so far: they count as this process's memory as long as they are mapped."""
    for part in parts:
        if isinstance(part.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            part.base.madvise(mmap.MADV_DONTNEED)


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
        self._files: list[Path] = []
        self._parts: list[NDArray[Any]] = []
        for path in sorted(folder.glob("part-*.npy")):
            with contextlib.suppress(OSError, ValueError, EOFError):
                part = np.load(path, mmap_mode="r", allow_pickle=False)
                if part.dtype == self.dtype and part.ndim == 1:
                    self._files.append(path)
                    self._parts.append(part)
        self._indexed = False

    def _index(self) -> None:
        """Sort the keys, so that a million of them are found without a million Python objects."""
        self._indexed = True
        keys = np.empty(sum(map(len, self._parts)), self.dtype["key"])
        start = 0
        for part in self._parts:
            keys[start : start + len(part)] = part["key"]
            start += len(part)
            _hand_back([part])
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
        self._files.append(path)
        self._parts.append(np.load(path, mmap_mode="r", allow_pickle=False))
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
            self._write(np.concatenate([self._parts[i] for i in batch]))
        gone = {i for batch in joined for i in batch}
        for i in gone:
            self._files[i].unlink(missing_ok=True)
        self._files = [path for i, path in enumerate(self._files) if i not in gone]
        self._parts = [part for i, part in enumerate(self._parts) if i not in gone]
        self._indexed = False

"""Pictures to bottleneck features, each computed once and kept.

The cache of a backbone is a folder of ``.npy`` files, each one array of records (key, network features, band
statistics, MFCC statistics), written whole. Any NumPy opens them, memory-mapped if need be; a columnar format
would add a dependency and give nothing here, as every reader wants whole rows.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .backbones import Backbone
from .console import progress, warn
from .dataset import Picture
from .errors import DatasetError
from .executors import WorkerDied, map_unordered, worker_pool
from .features import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH, PictureFeatures, picture_features
from .files import atomic_path, make_folder
from .litert import BatchRunner
from .spectrogram import FloatArray

_FORMAT = 1
_BATCH = 32
_AT_A_TIME = 8  # pictures in one run of the network; more gain nothing
_SAVE_SECONDS = 10.0  # what a killed run loses at most
_LARGEST_FILE = 1 << 30


class Bottleneck(NamedTuple):
    """What is kept of one picture."""

    network: FloatArray
    band_statistics: FloatArray
    mfcc_statistics: FloatArray


@dataclass(frozen=True)
class Bottlenecks:
    """Features of pictures, row for row.

    Attributes
    ----------
    pictures : list of Picture
        Those that could be read.
    records : structured ndarray, shape (len(pictures),)
        Fields ``network`` (fp16), ``bands`` and ``mfcc`` (fp32).
    computed, cached : int
        How many different pictures were computed, and how many were in the cache.
    seconds : float
        Time spent computing them.
    """

    pictures: list[Picture]
    records: NDArray[Any]
    computed: int
    cached: int
    seconds: float


def bottlenecks_of(
    pictures: Sequence[Picture], backbone: Backbone, cache_dir: Path, workers: int, scheduler: str | None = None
) -> Bottlenecks:
    """Features of all pictures, from the cache where it has them. Unreadable pictures are said and left out.

    Parameters
    ----------
    pictures : sequence of Picture
    backbone : Backbone
    cache_dir : Path
        Every backbone gets a folder of its own in it.
    workers : int
        Processes to compute with.
    scheduler : str, optional
        Address of the Dask cluster to compute with instead.

    Raises
    ------
    DatasetError
        If no picture can be read.
    """
    cache = Cache(cache_dir / f"{backbone.name}-{backbone.identity[:12]}-v{_FORMAT}", backbone.width)
    readable: list[Picture] = []
    keys: list[bytes] = []
    missing: dict[bytes, Picture] = {}
    for picture in pictures:
        try:
            key = content_key(picture.path.read_bytes())
        except OSError as error:
            warn(f"{picture.path}: cannot be read ({error.strerror}); left out")
            continue
        readable.append(picture)
        keys.append(key)
        if key not in cache:
            missing.setdefault(key, picture)
    started = time.perf_counter()
    unreadable = _compute(missing, backbone, cache, workers, scheduler) if missing else set()
    kept = [(picture, key) for picture, key in zip(readable, keys, strict=True) if key not in unreadable]
    if not kept:
        raise DatasetError("none of the pictures can be read: make them again with data_maker.py --force")
    records = cache.rows([key for _, key in kept])
    seconds = time.perf_counter() - started
    return Bottlenecks([p for p, _ in kept], records, len(missing), len(set(keys)) - len(missing), seconds)


def content_key(jpg: bytes) -> bytes:
    """Sixteen bytes that stand for a picture's content."""
    return hashlib.blake2b(jpg, digest_size=16).digest()


class Cache:
    """The bottlenecks of one backbone on disk.

    Parameters
    ----------
    folder : Path
        Made if it is not there. A file in it that is damaged is left out and its pictures computed again.
    width : int
        Numbers in the network's features.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder = folder
        self.dtype = np.dtype(
            [
                ("key", "V16"),
                ("network", "<f2", (width,)),
                ("bands", "<f4", (BAND_STATISTICS_WIDTH,)),
                ("mfcc", "<f4", (MFCC_STATISTICS_WIDTH,)),
            ]
        )
        make_folder(folder)
        self._files: list[Path] = []
        self._parts: list[NDArray[Any]] = []
        self._place: dict[bytes, tuple[int, int]] = {}
        for path in sorted(folder.glob("part-*.npy")):
            with contextlib.suppress(OSError, ValueError, EOFError):
                part = np.load(path, mmap_mode="r", allow_pickle=False)
                if part.dtype == self.dtype and part.ndim == 1:
                    self._register(path, part)

    def __contains__(self, key: bytes) -> bool:
        return key in self._place

    def _register(self, path: Path, part: NDArray[Any]) -> None:
        for row, key in enumerate(part["key"]):
            self._place[key.tobytes()] = (len(self._parts), row)
        self._files.append(path)
        self._parts.append(part)

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
        self._register(path, np.load(path, mmap_mode="r", allow_pickle=False))

    def compact(self) -> None:
        """Join small files into large ones."""
        batch: list[int] = []
        for i, part in enumerate(tuple(self._parts)):
            if part.nbytes > _LARGEST_FILE // 2:
                continue
            if sum(self._parts[j].nbytes for j in batch) + part.nbytes > _LARGEST_FILE:
                self._join(batch)
                batch = []
            batch.append(i)
        self._join(batch)

    def _join(self, batch: Sequence[int]) -> None:
        if len(batch) < 2:
            return
        self._write(np.concatenate([self._parts[i] for i in batch]))
        for i in batch:
            self._files[i].unlink(missing_ok=True)

    def rows(self, keys: Sequence[bytes]) -> NDArray[Any]:
        """The records of these keys, in their order."""
        records = np.empty(len(keys), self.dtype)
        places = np.array([self._place[key] for key in keys])
        for number, part in enumerate(self._parts):
            here = np.flatnonzero(places[:, 0] == number)
            records[here] = part[places[here, 1]]
        return records


class Task(NamedTuple):
    """Pictures for one worker to compute, and the network to do it with."""

    pictures: list[Path]
    network: Path
    input_size: tuple[int, int]


def compute(task: Task) -> list[Bottleneck | str]:
    """The features of each picture, or why it has none."""
    # All pictures first, then the network on all: taking turns, each would push the other out of the cache.
    found = [_features(path, task.input_size) for path in task.pictures]
    readable = [features for features in found if not isinstance(features, str)]
    if not readable:
        return [features for features in found if isinstance(features, str)]
    network = iter(_runner(task.network)(np.concatenate([features.pixels for features in readable])))
    return [
        features
        if isinstance(features, str)
        else Bottleneck(next(network), features.band_statistics, features.mfcc_statistics)
        for features in found
    ]


def _features(path: Path, input_size: tuple[int, int]) -> PictureFeatures | str:
    try:
        return picture_features(path.read_bytes(), input_size)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except DatasetError as error:
        return str(error)


def _split(task: Task) -> list[Task]:
    return [task._replace(pictures=[path]) for path in task.pictures]


_of_thread = threading.local()  # a Dask worker may run several tasks at a time; a network runs one


def _runner(network: Path) -> BatchRunner:
    """The network of this worker."""
    if getattr(_of_thread, "network", None) != network:
        _of_thread.network, _of_thread.runner = network, BatchRunner(network, _AT_A_TIME)
    runner: BatchRunner = _of_thread.runner
    return runner


def _compute(
    missing: dict[bytes, Picture], backbone: Backbone, cache: Cache, workers: int, scheduler: str | None
) -> set[bytes]:
    """Fill the cache; returns the keys of pictures that cannot be read."""
    place = {picture.path.absolute(): key for key, picture in missing.items()}
    paths = list(place)
    network = backbone.path.absolute()
    tasks = [Task(paths[i : i + _BATCH], network, backbone.input_size) for i in range(0, len(paths), _BATCH)]
    unreadable: set[bytes] = set()
    unsaved: list[tuple[bytes, Bottleneck]] = []
    saved_at = time.monotonic()
    folders = sorted({path.parent.parent for path in paths} | {network.parent})
    with (
        worker_pool(min(workers, len(tasks)), scheduler, folders) as pool,
        progress("Bottlenecks", "pictures", len(paths)) as advance,
    ):
        for task, rows in map_unordered(pool, compute, tasks, _split):
            if isinstance(rows, WorkerDied):
                rows = ["ended the worker process, twice" for _ in task.pictures]
            for path, bottleneck in zip(task.pictures, rows, strict=True):
                if isinstance(bottleneck, str):
                    unreadable.add(place[path])
                    warn(f"{path}: {bottleneck}; left out")
                else:
                    unsaved.append((place[path], bottleneck))
            advance(len(rows))
            if unsaved and time.monotonic() - saved_at > _SAVE_SECONDS:
                cache.add(unsaved)
                unsaved, saved_at = [], time.monotonic()
    if unsaved:
        cache.add(unsaved)
    cache.compact()
    return unreadable

"""Prepared sounds: all recordings of a dataset in one memory-mapped file, resampled and brought to one level.

Decoding and resampling a recording takes longer than rendering the views of one of its segments. Done once, it leaves
both cores to the training, and the worker processes share the file's pages instead of holding a copy each.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import open_sound
from audionet.audio.resampling import resampled
from audionet.audio.samples import to_int16
from audionet.errors import DamagedError, RecordingError
from audionet.utils.array_files import Expected, pack_npy, read_npy
from audionet.utils.arrays import Int16Array, IntArray
from audionet.utils.files import atomic_path, make_folder, write_bytes
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress

log = logging.getLogger(__name__)

SPECTROGRAM = SpectrogramConfig()
LONGEST_SECONDS = 30
"""Seconds used of a recording, from its start: more of one voice in one room adds little."""

_PEAK = 16_384  # half of the full scale: noise and rooms may be added without clipping
_RECORDINGS_PER_TASK = 8


class PreparedSound(NamedTuple):
    """Place of a prepared recording.

    Attributes
    ----------
    file : Path
    start, stop : int
        Its samples in the file; equal if it could not be decoded.
    """

    file: Path
    start: int
    stop: int

    def samples(self) -> Int16Array:
        """Return its samples, mono, at the spectrogram's sample rate, shape (n,); read-only."""
        return _mapped(self.file)[self.start : self.stop]


@functools.lru_cache(maxsize=32)
def _mapped(path: Path) -> Int16Array:
    with path.open("rb") as file:
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.int16)


def decode(path: Path) -> Int16Array:
    """Decode a recording's first 30 s, mono, at the spectrogram's sample rate.

    Raises
    ------
    RecordingError
        If it cannot be decoded.
    """
    blocks, wanted = [np.zeros(0, np.float32)], LONGEST_SECONDS * SPECTROGRAM.sample_rate
    with open_sound(path) as sound:
        for block in resampled(sound, SPECTROGRAM.sample_rate):
            blocks.append(block[:wanted])
            wanted -= len(blocks[-1])
            if not wanted:
                break
    return to_int16(np.concatenate(blocks))


def to_one_level(samples: Int16Array) -> Int16Array:
    """Scale samples to a peak of half the full scale; silence stays as it is."""
    peak = int(np.abs(samples.astype(np.int32)).max(initial=0))
    return samples if peak == 0 else np.round(samples * (_PEAK / peak)).astype(np.int16)


def prepare_sounds(paths: Sequence[Path], folder: Path, workers: int) -> list[PreparedSound]:
    """Prepare recordings, or find them prepared by an earlier run.

    Parameters
    ----------
    paths : sequence of Path
    folder : Path
        Folder of the prepared files.
    workers : int
        Number of worker processes.

    Returns
    -------
    list of PreparedSound
        One for each path; without samples where a recording cannot be decoded, which is logged.
    """
    request = "\n".join(f"{path} {path.stat().st_size}" for path in paths)
    digest = hashlib.sha256(request.encode("utf-8", "surrogateescape")).hexdigest()
    make_folder(folder)
    file, edges = folder / f"{digest[:16]}.int16", folder / f"{digest[:16]}.npy"
    bounds = _read_bounds(file, edges, len(paths))
    if bounds is None:
        bounds, complete = _prepare(paths, file, workers)
        if complete:
            write_bytes(edges, pack_npy(bounds))
    return [PreparedSound(file, int(start), int(stop)) for start, stop in bounds]


def _read_bounds(file: Path, edges: Path, count: int) -> IntArray | None:
    try:
        bounds = read_npy(edges.read_bytes(), Expected(np.int64, (count, 2)))
        size = file.stat().st_size // 2
    except (OSError, DamagedError):
        return None
    fits = (bounds[:, 0] >= 0) & (bounds[:, 0] <= bounds[:, 1]) & (bounds[:, 1] <= size)
    return bounds if fits.all() else None


def _prepare(paths: Sequence[Path], file: Path, workers: int) -> tuple[IntArray, bool]:
    """Write the file; return where each recording lies in it, and whether no process crashed."""
    complete = True
    bounds = np.zeros((len(paths), 2), np.int64)
    tasks = [range(i, min(i + _RECORDINGS_PER_TASK, len(paths))) for i in range(0, len(paths), _RECORDINGS_PER_TASK)]
    end = 0
    with (
        atomic_path(file) as temporary,
        temporary.open("wb") as output,
        local_processes(workers) as pool,
        progress("Preparing", "recordings", len(paths)) as advance,
    ):
        requests = [_Request([paths[i] for i in task], task.start) for task in tasks]
        for request, found in map_unordered(pool, _decode_all, requests, _split):
            for i, path in enumerate(request.paths):
                samples = None if isinstance(found, WorkerDied) else found[i]
                if samples is None:
                    died = isinstance(found, WorkerDied)
                    complete = complete and not died
                    why = "crashed the process that read it" if died else "cannot be decoded"
                    log.warning(f"{path}: {why}; left out")
                    continue
                output.write(samples.tobytes())
                bounds[request.first + i] = end, end + len(samples)
                end += len(samples)
            advance(len(request.paths))
        if not end:
            output.write(bytes(2))  # an empty file cannot be mapped
    return bounds, complete


class _Request(NamedTuple):
    paths: list[Path]
    first: int


def _split(request: _Request) -> list[_Request]:
    return [_Request([path], request.first + i) for i, path in enumerate(request.paths)]


def _decode_all(request: _Request) -> list[Int16Array | None]:
    return [_decode_or_none(path) for path in request.paths]


def _decode_or_none(path: Path) -> Int16Array | None:
    try:
        return to_one_level(decode(path))
    except RecordingError:
        return None

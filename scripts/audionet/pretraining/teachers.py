"""Teachers for distillation: published networks whose embeddings the backbone learns to predict from images.

Only training needs them.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.audio.resampling import perturb_speed
from audionet.audio.samples import to_float
from audionet.backbones.resemblyzer import voice_encoder
from audionet.errors import DamagedError, RecordingError
from audionet.pretraining.views import SPECTROGRAM, SPEED_FACTORS, samples_of
from audionet.utils.array_files import Expected, pack_npy, read_npy
from audionet.utils.arrays import FloatArray, Int16Array
from audionet.utils.files import make_folder, write_bytes
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress

log = logging.getLogger(__name__)

_LONGEST_SECONDS = 15
_RECORDINGS_PER_TASK = 4


@dataclass(frozen=True)
class Teacher:
    """A published network.

    Attributes
    ----------
    name, licence, url : str
        For the model card.
    width : int
        Dimensions of its embedding, which has unit length.
    load : callable
        Returns the function that maps samples at 16 kHz, -1 to 1, to the embedding. Called once in each worker process.
    """

    name: str
    licence: str
    url: str
    width: int
    load: Callable[[], Callable[[FloatArray], FloatArray]]


def _resemblyzer() -> Callable[[FloatArray], FloatArray]:
    encoder = voice_encoder()

    def embedding(samples: FloatArray) -> FloatArray:
        peak = float(np.abs(samples).max())
        result: FloatArray = encoder.embed_utterance(samples / max(peak, 1e-4) * 0.5)
        return result.astype(np.float32)

    return embedding


TEACHERS = {
    "resemblyzer": Teacher(
        "Resemblyzer 0.1.4", "Apache-2.0", "https://github.com/resemble-ai/Resemblyzer", 256, _resemblyzer
    )
}


class _Task(NamedTuple):
    teacher: str
    paths: list[Path]


def teacher_embeddings(teacher: str, paths: Sequence[Path], folder: Path, workers: int) -> FloatArray:
    """Compute a teacher's embeddings of recordings at each speed factor, or load them from the cache.

    Parameters
    ----------
    teacher : str
        A key of TEACHERS.
    paths : sequence of Path
    folder : Path
        Folder of the cache.
    workers : int
        Number of worker processes.

    Returns
    -------
    ndarray of float32, shape (len(paths), len(SPEED_FACTORS), width)
        Zeros where a recording cannot be decoded.

    Raises
    ------
    UsageError
        If the teacher is not installed.
    """
    request = "\n".join([teacher, *map(str, SPEED_FACTORS), *(f"{path} {path.stat().st_size}" for path in paths)])
    digest = hashlib.sha256(request.encode("utf-8", "surrogateescape")).hexdigest()
    make_folder(folder)
    cache = folder / f"{teacher}-{digest[:16]}.npy"
    shape = (len(paths), len(SPEED_FACTORS), TEACHERS[teacher].width)
    if (cached := _load_cache(cache, shape)) is not None:
        return cached
    TEACHERS[teacher].load()  # report a missing package here, not in a worker
    embeddings = np.zeros(shape, np.float32)
    row_of = {path: row for row, path in enumerate(paths)}
    starts = range(0, len(paths), _RECORDINGS_PER_TASK)
    tasks = [_Task(teacher, list(paths[i : i + _RECORDINGS_PER_TASK])) for i in starts]
    with local_processes(workers) as pool, progress(teacher, "recordings", len(paths)) as advance:
        for task, found in map_unordered(pool, _embed_task, tasks, _split_task):
            for i, path in enumerate(task.paths):
                embedding = None if isinstance(found, WorkerDied) else found[i]
                if embedding is None:
                    log.warning(f"{path}: cannot be decoded; left out")
                else:
                    embeddings[row_of[path]] = embedding
            advance(len(task.paths))
    write_bytes(cache, pack_npy(embeddings.astype(np.float16)))
    return embeddings


def _load_cache(path: Path, shape: tuple[int, ...]) -> FloatArray | None:
    try:
        return read_npy(path.read_bytes(), Expected(np.float32, shape))
    except (OSError, DamagedError):
        return None


def _split_task(task: _Task) -> list[_Task]:
    return [_Task(task.teacher, [path]) for path in task.paths]


def _embed_task(task: _Task) -> list[FloatArray | None]:
    """Return each recording's embeddings, (speeds, width); None for a recording that cannot be decoded."""
    return [_embed_recording(path, _loaded_teacher(task.teacher)) for path in task.paths]


@functools.lru_cache(maxsize=1)
def _loaded_teacher(teacher: str) -> Callable[[FloatArray], FloatArray]:
    return TEACHERS[teacher].load()


def _embed_recording(path: Path, embed: Callable[[FloatArray], FloatArray]) -> FloatArray | None:
    try:
        samples: Int16Array = samples_of(path)[: _LONGEST_SECONDS * SPECTROGRAM.sample_rate]
    except RecordingError:
        return None
    return np.stack([embed(to_float(perturb_speed(samples, speed))) for speed in SPEED_FACTORS])

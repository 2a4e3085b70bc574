"""Teachers: published networks whose answers the backbone learns to give from images. Needed for training alone."""

from __future__ import annotations

import functools
import hashlib
import logging
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.audio.resampling import perturb_speed
from audionet.audio.samples import to_float
from audionet.backbones.resemblyzer import voice_encoder
from audionet.errors import RecordingError
from audionet.pretraining.views import SPECTROGRAM, SPEED_FACTORS, samples_of
from audionet.utils.arrays import FloatArray, Int16Array
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress

log = logging.getLogger(__name__)


_LONGEST_SECONDS = 15
_RECORDINGS_A_TASK = 4


@dataclass(frozen=True)
class Teacher:
    """A published network.

    Attributes
    ----------
    name, licence, url : str
        For the model card.
    width : int
        Numbers in its answer, a vector of unit length.
    load : callable
        Gives the function from samples at 16 kHz, of -1 to 1, to the answer. Run once in each worker process.
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
    """What a teacher says of recordings at each speed, kept from run to run.

    Parameters
    ----------
    teacher : str
        A name out of TEACHERS.
    paths : sequence of Path
    folder : Path
        Where the answers are kept.
    workers : int
        Processes to ask it with.

    Returns
    -------
    ndarray of float32, shape (len(paths), len(SPEEDS), width)
        Zeros where a recording cannot be decoded.

    Raises
    ------
    UsageError
        If the teacher is not installed.
    """
    asked = "\n".join([teacher, *map(str, SPEED_FACTORS), *(f"{path} {path.stat().st_size}" for path in paths)])
    digest = hashlib.sha256(asked.encode("utf-8", "surrogateescape")).hexdigest()
    make_folder(folder)
    kept = folder / f"{teacher}-{digest[:16]}.npy"
    shape = (len(paths), len(SPEED_FACTORS), TEACHERS[teacher].width)
    if (found := _kept(kept, shape)) is not None:
        return found
    TEACHERS[teacher].load()  # what is missing is said here, not in a worker
    answers = np.zeros(shape, np.float32)
    place = {path: row for row, path in enumerate(paths)}
    tasks = [_Task(teacher, list(paths[i : i + _RECORDINGS_A_TASK])) for i in range(0, len(paths), _RECORDINGS_A_TASK)]
    with local_processes(workers) as pool, progress(teacher, "recordings", len(paths)) as advance:
        for task, rows in map_unordered(pool, _ask, tasks, lambda task: [_Task(teacher, [p]) for p in task.paths]):
            for i, path in enumerate(task.paths):
                row = None if isinstance(rows, WorkerDied) else rows[i]
                if row is None:
                    log.warning(f"{path}: cannot be decoded; left out")
                else:
                    answers[place[path]] = row
            advance(len(task.paths))
    with atomic_path(kept) as temporary, temporary.open("wb") as stream:
        np.save(stream, answers.astype(np.float16), allow_pickle=False)
    return answers


def _kept(path: Path, shape: tuple[int, ...]) -> FloatArray | None:
    try:
        found = np.load(path, allow_pickle=False).astype(np.float32)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    return found if found.shape == shape else None


def _ask(task: _Task) -> list[FloatArray | None]:
    """The answers to each recording at each speed, (speeds, width); None where it cannot be decoded."""
    return [_answers(path, _loaded(task.teacher)) for path in task.paths]


@functools.lru_cache(maxsize=1)
def _loaded(teacher: str) -> Callable[[FloatArray], FloatArray]:
    return TEACHERS[teacher].load()


def _answers(path: Path, ask: Callable[[FloatArray], FloatArray]) -> FloatArray | None:
    try:
        samples: Int16Array = samples_of(path)[: _LONGEST_SECONDS * SPECTROGRAM.sample_rate]
    except RecordingError:
        return None
    return np.stack([ask(to_float(perturb_speed(samples, speed))) for speed in SPEED_FACTORS])

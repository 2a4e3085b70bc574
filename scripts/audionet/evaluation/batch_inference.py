"""Held-out recordings through a model, on all cores: what it makes of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.audio.spectrogram import FloatArray
from audionet.backbones.cache import KEY_BYTES, IntArray, content_key
from audionet.classifier.calibration import tempered
from audionet.classifier.model_files import short_keys
from audionet.data.dataset import Picture, is_chunk_name, label_folders, parse_chunk_name
from audionet.errors import DatasetError, RecordingError
from audionet.inference.predictor import PICTURE_SUFFIXES, Clip, Predictor, look_through
from audionet.utils.console import progress
from audionet.utils.files import walk
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered

LENGTHS = (1, 2, 4)
"""Chunks in the clips that a recording is also cut into, to see how much length helps."""

_AT_ONCE = 8


@dataclass(frozen=True)
class Recorded:
    """A held-out recording: one file of sound, or its chunks or their pictures.

    Attributes
    ----------
    label, name : str
    paths : tuple of Path
    starts : tuple of float
        Seconds into the recording at which each picture begins; empty for a file of sound.
    """

    label: str
    name: str
    paths: tuple[Path, ...]
    starts: tuple[float, ...] = ()


@dataclass(frozen=True)
class Judged:
    """What a model makes of a recording.

    Attributes
    ----------
    recorded : Recorded
    starts : ndarray of float64, shape (chunks,)
        When each chunk that is not silent begins, seconds.
    given : ndarray of int64, shape (chunks,)
        The most probable label of each.
    sure : ndarray of float32, shape (chunks,)
        Its probability.
    probabilities, uncalibrated, scores : ndarray of float32, shape (labels,)
        Means over the chunks; of probabilities also as they were before calibration.
    by_length : dict of int to ndarray of int64
        The most probable label of each of the clips of so many chunks that the recording can be cut into.
    baseline : ndarray of int64, shape (chunks + 1,), or None
        What the MFCC statistics make of each chunk, and of the whole.
    seen : bool
        Whether a chunk of it took part in training or validation.
    remark : str or None
        What is wrong with it, where part of it could be judged.
    """

    recorded: Recorded
    starts: NDArray[np.float64]
    given: IntArray
    sure: FloatArray
    probabilities: FloatArray
    uncalibrated: FloatArray
    scores: FloatArray
    by_length: dict[int, IntArray]
    baseline: IntArray | None
    seen: bool
    remark: str | None = None


class Task(NamedTuple):
    """Recordings for one worker, and the model to ask."""

    graph: Path
    recordings: tuple[Recorded, ...]


def recordings_below(folder: Path, step_seconds: float) -> list[Recorded]:
    """Every recording in a folder of labels, be it whole, or in chunks or pictures as data_maker.py writes them.

    Raises
    ------
    DatasetError
        If the folder does not exist.
    """
    found: list[Recorded] = []
    for label in label_folders(folder):
        chunks = []
        for inside, path in walk(folder / label):
            suffix, stem = path.suffix.lower(), os.path.splitext(inside)[0]
            if suffix in PICTURE_SUFFIXES or (suffix in AUDIO_SUFFIXES and is_chunk_name(stem)):
                name, index, variant = parse_chunk_name(stem)
                if not variant:
                    chunks.append(Picture(label, name, index, path.parent, path.name))
            elif suffix in AUDIO_SUFFIXES:
                found.append(Recorded(label, inside, (path,)))
        found += recordings_of(chunks, step_seconds)
    return found


def recordings_of(pictures: Sequence[Picture], step_seconds: float) -> list[Recorded]:
    """Pictures, gathered by recording."""
    ordered = sorted(pictures, key=lambda p: (p.label, p.recording, p.index))
    recordings = []
    for (label, name), group in groupby(ordered, key=lambda p: (p.label, p.recording)):
        chunks = list(group)
        starts = tuple(chunk.index * step_seconds for chunk in chunks)
        recordings.append(Recorded(label, name, tuple(chunk.path for chunk in chunks), starts))
    return recordings


def judged(graph: Path, recordings: Sequence[Recorded], workers: int) -> Iterator[Judged | tuple[Recorded, str]]:
    """Ask a model about recordings, in no particular order; those that cannot be judged come with the reason."""
    tasks = [Task(graph, tuple(recordings[i : i + _AT_ONCE])) for i in range(0, len(recordings), _AT_ONCE)]
    with (
        progress("Judging", "recordings", len(recordings)) as advance,
        local_processes(min(workers, max(1, len(tasks)))) as pool,
    ):
        for task, results in map_unordered(pool, judge, tasks, _split):
            if isinstance(results, WorkerDied):
                results = [(recorded, "ended the process reading it, twice") for recorded in task.recordings]
            yield from results
            advance(len(results))


def judge(task: Task) -> list[Judged | tuple[Recorded, str]]:
    """What a worker does."""
    predictor = _predictor(task.graph)
    results: list[Judged | tuple[Recorded, str]] = []
    for recorded in task.recordings:
        try:
            results.append(_judge(predictor, recorded))
        except (RecordingError, DatasetError) as error:
            results.append((recorded, str(error)))
    return results


def _split(task: Task) -> Sequence[Task]:
    return [task._replace(recordings=(recorded,)) for recorded in task.recordings]


_predictors: dict[Path, Predictor] = {}


def _predictor(graph: Path) -> Predictor:
    """The model of this worker."""
    if graph not in _predictors:
        _predictors[graph] = Predictor(graph, threads=1, with_enrolled=False)
    return _predictors[graph]


def _judge(predictor: Predictor, recorded: Recorded) -> Judged:
    seen, remark = look_through(
        _pictures(predictor, recorded), lambda start, jpg: (start, content_key(jpg), predictor.look(jpg))
    )
    starts, keys, looks = zip(*seen, strict=True)
    probabilities = np.stack([look.probabilities for look in looks])
    scores = predictor.voices.scores(np.stack([look.embedding for look in looks])).mean(axis=0)
    given = probabilities.argmax(axis=1)
    arrays, baseline = predictor.arrays, None
    if arrays.baseline is not None:
        found = arrays.baseline.probabilities(np.stack([look.features.mfcc_statistics for look in looks]))
        baseline = np.append(found.argmax(axis=1), found.mean(axis=0).argmax())
    content = short_keys(np.frombuffer(b"".join(keys), f"V{KEY_BYTES}"))
    return Judged(
        recorded,
        np.array(starts),
        given,
        probabilities[np.arange(len(given)), given],
        probabilities.mean(axis=0),
        tempered(probabilities, 1 / predictor.card["calibration"]["temperature"]).mean(axis=0),
        scores,
        {length: _of_length(probabilities, length) for length in LENGTHS},
        baseline,
        arrays.has_seen(content),
        remark,
    )


def _pictures(predictor: Predictor, recorded: Recorded) -> Iterator[tuple[float, bytes | None]]:
    if not recorded.starts:
        yield from Clip(recorded.paths[0], predictor.picture)
        return
    for start, path in zip(recorded.starts, recorded.paths, strict=True):
        for _, jpg in Clip(path, predictor.picture):
            yield start, jpg


def _of_length(probabilities: FloatArray, length: int) -> IntArray:
    whole = len(probabilities) // length
    clips = probabilities[: whole * length].reshape(whole, length, probabilities.shape[1]).mean(axis=1)
    labels: IntArray = clips.argmax(axis=1)
    return labels


def picture_at(predictor: Predictor, recorded: Recorded, start: float) -> bytes | None:
    """The picture of the chunk that begins `start` seconds into a recording."""
    try:
        for begin, jpg in _pictures(predictor, recorded):
            if abs(begin - start) < 1e-3:
                return jpg
    except (RecordingError, DatasetError):
        pass
    return None

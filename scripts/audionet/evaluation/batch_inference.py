"""Held-out recordings through a model, on all cores: what it makes of each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.cache import KEY_BYTES, content_key
from audionet.classifier.calibration import apply_temperature
from audionet.classifier.model_files import short_keys
from audionet.data.naming import UNKNOWN
from audionet.errors import DatasetError, RecordingError
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.recordings import HeldOutRecording, held_out_recordings
from audionet.inference.clip import Clip, process_images
from audionet.inference.predictor import Predictor
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)


DURATIONS_IN_CHUNKS = (1, 2, 4)
"""Chunks in the clips that a recording is also cut into, to see how much length helps."""

_AT_ONCE = 8


@dataclass(frozen=True)
class RecordingPrediction:
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

    recorded: HeldOutRecording
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


class PredictionTask(NamedTuple):
    """Recordings for one worker, and the model to ask."""

    graph: Path
    recordings: tuple[HeldOutRecording, ...]


def predict_recordings(
    graph: Path, recordings: Sequence[HeldOutRecording], workers: int
) -> Iterator[RecordingPrediction | tuple[HeldOutRecording, str]]:
    """Ask a model about recordings, in no particular order; those that cannot be judged come with the reason."""
    tasks = [PredictionTask(graph, tuple(recordings[i : i + _AT_ONCE])) for i in range(0, len(recordings), _AT_ONCE)]
    with (
        progress("Judging", "recordings", len(recordings)) as advance,
        local_processes(min(workers, max(1, len(tasks)))) as pool,
    ):
        for task, results in map_unordered(pool, predict_task, tasks, _split):
            if isinstance(results, WorkerDied):
                results = [(recorded, "ended the process reading it, twice") for recorded in task.recordings]
            yield from results
            advance(len(results))


def predict_task(task: PredictionTask) -> list[RecordingPrediction | tuple[HeldOutRecording, str]]:
    """What a worker does."""
    predictor = _predictor(task.graph)
    results: list[RecordingPrediction | tuple[HeldOutRecording, str]] = []
    for recorded in task.recordings:
        try:
            results.append(_predict_recording(predictor, recorded))
        except (RecordingError, DatasetError) as error:
            results.append((recorded, str(error)))
    return results


def _split(task: PredictionTask) -> Sequence[PredictionTask]:
    return [task._replace(recordings=(recorded,)) for recorded in task.recordings]


_predictors: dict[Path, Predictor] = {}


def _predictor(graph: Path) -> Predictor:
    """The model of this worker."""
    if graph not in _predictors:
        _predictors[graph] = Predictor(graph, threads=1, with_enrolled=False)
    return _predictors[graph]


def _predict_recording(predictor: Predictor, recorded: HeldOutRecording) -> RecordingPrediction:
    seen, remark = process_images(
        _images(predictor, recorded), lambda start, jpg: (start, content_key(jpg), predictor.predict_image(jpg))
    )
    starts, keys, outputs = zip(*seen, strict=True)
    probabilities = np.stack([output.probabilities for output in outputs])
    scores = predictor.voices.scores(np.stack([output.embedding for output in outputs])).mean(axis=0)
    given = probabilities.argmax(axis=1)
    arrays, baseline = predictor.arrays, None
    if arrays.baseline is not None:
        found = arrays.baseline.probabilities(np.stack([output.features.mfcc_statistics for output in outputs]))
        baseline = np.append(found.argmax(axis=1), found.mean(axis=0).argmax())
    content = short_keys(np.frombuffer(b"".join(keys), f"V{KEY_BYTES}"))
    return RecordingPrediction(
        recorded,
        np.array(starts),
        given,
        probabilities[np.arange(len(given)), given],
        probabilities.mean(axis=0),
        apply_temperature(probabilities, 1 / predictor.card["calibration"]["temperature"]).mean(axis=0),
        scores,
        {length: _of_length(probabilities, length) for length in DURATIONS_IN_CHUNKS},
        baseline,
        arrays.has_seen(content),
        remark,
    )


def _images(predictor: Predictor, recorded: HeldOutRecording) -> Iterator[tuple[float, bytes | None]]:
    if not recorded.starts:
        yield from Clip(recorded.paths[0], predictor.spectrogram)
        return
    for start, path in zip(recorded.starts, recorded.paths, strict=True):
        for _, jpg in Clip(path, predictor.spectrogram):
            yield start, jpg


def _of_length(probabilities: FloatArray, length: int) -> IntArray:
    whole = len(probabilities) // length
    clips = probabilities[: whole * length].reshape(whole, length, probabilities.shape[1]).mean(axis=1)
    labels: IntArray = clips.argmax(axis=1)
    return labels


def image_at(predictor: Predictor, recorded: HeldOutRecording, start: float) -> bytes | None:
    """The image of the chunk that begins `start` seconds into a recording."""
    try:
        for begin, jpg in _images(predictor, recorded):
            if abs(begin - start) < 1e-3:
                return jpg
    except (RecordingError, DatasetError):
        pass
    return None


_MOST_NAMED = 10


@dataclass(frozen=True)
class HeldOutPredictions:
    """The held-out recordings that could be judged, and those that could not.

    Attributes
    ----------
    source : str
        Where they come from, for people.
    recordings : list of Judged
        Of labels that the model knows, by label and name.
    unknown : list of Judged
        Of none of the labels.
    skipped : list of (Recorded, str)
        With the reason.
    seen : int
        How many recordings were left out because training had heard them; if all had, none was left out.
    all_seen : bool
    missing_labels : list of str
        The model's labels without a recording.
    foreign_labels : list of str
        Folders that are no label of the model's; their recordings are unknown voices.
    """

    source: str
    recordings: list[RecordingPrediction]
    unknown: list[RecordingPrediction]
    skipped: list[tuple[HeldOutRecording, str]]
    seen: int
    all_seen: bool
    missing_labels: list[str]
    foreign_labels: list[str]


def predict_held_out(predictor: Predictor, config: EvaluateConfig) -> HeldOutPredictions:
    """Ask the model about the held-out recordings. Those that it was trained on are left out.

    Raises
    ------
    DatasetError
        If none can be judged.
    """
    source, recordings = held_out_recordings(predictor, config)
    found, skipped = predict_and_report(predictor, config, recordings)
    if not found:
        raise DatasetError(f"{source}: none of {pluralise(len(recordings), 'recording')} could be judged")
    unseen = [one for one in found if not one.seen]
    seen, all_seen = len(found) - len(unseen), not unseen
    if all_seen:
        log.warning("every one of these recordings took part in training: the numbers say what the model remembers")
    elif seen:
        log.warning(f"{pluralise(seen, 'recording')} of {len(found)} took part in training or validation; left out")
    kept = found if all_seen else unseen
    known = set(predictor.labels)
    folders = {one.recorded.label for one in kept}
    foreign = sorted(folders - known - {UNKNOWN})
    if foreign:
        some = ", ".join(map(escape, foreign[:_MOST_NAMED])) + (", ..." if len(foreign) > _MOST_NAMED else "")
        log.warning(f"the model has no label {some}: counted as unknown voices")
    return HeldOutPredictions(
        source,
        [one for one in kept if one.recorded.label in known],
        [one for one in kept if one.recorded.label not in known],
        skipped,
        seen,
        all_seen,
        [label for label in predictor.labels if label not in folders],
        foreign,
    )


def predict_and_report(
    predictor: Predictor, config: EvaluateConfig, recordings: Sequence[HeldOutRecording]
) -> tuple[list[RecordingPrediction], list[tuple[HeldOutRecording, str]]]:
    """What the model makes of recordings, by label and name, and those that could not be judged, which are said."""
    found: list[RecordingPrediction] = []
    skipped: list[tuple[HeldOutRecording, str]] = []
    for result in predict_recordings(predictor.graph, recordings, config.workers):
        if isinstance(result, RecordingPrediction):
            found.append(result)
        else:
            skipped.append(result)
    for recorded, reason in skipped:
        log.warning(f"{recorded.paths[0]}: {reason}; left out")
    for one in found:
        if one.remark:
            log.warning(f"{one.recorded.paths[0]}: {one.remark}; judged by what came before")
    found.sort(key=lambda one: (one.recorded.label, one.recorded.name))
    return found, skipped

"""Inference on held-out recordings, in parallel worker processes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.cache import KEY_BYTES, content_key
from audionet.classifier.calibration import apply_temperature
from audionet.classifier.model_files import short_keys
from audionet.data.naming import UNKNOWN, separate_labels
from audionet.errors import DatasetError, RecordingError
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.recordings import HeldOutRecording, held_out_recordings
from audionet.inference.answer import ChunkAnswer, find_pauses
from audionet.inference.clip import Clip, ClipChunk, process_images
from audionet.inference.predictor import ImageOutput, Predictor
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

DURATIONS_IN_CHUNKS = (1, 2, 4)
"""Lengths in chunks of the clips that a recording is also cut into, to measure accuracy by clip length."""

_RECORDINGS_PER_TASK = 8


@dataclass(frozen=True)
class RecordingPrediction:
    """Predictions of a model for one recording.

    Attributes
    ----------
    recorded : HeldOutRecording
    starts : ndarray of float64, shape (chunks,)
        Start of each chunk that counts, seconds.
    given : ndarray of int64, shape (chunks,)
        Most probable label of each chunk.
    sure : ndarray of float32, shape (chunks,)
        Probability of that label.
    probabilities, uncalibrated, scores : ndarray of float32, shape (labels,)
        Means over the chunks, weighted by their activity: of the calibrated probabilities, of the classifier head's
        own before calibration, and of the scores. Where several labels may be present, probabilities are pooled.
    by_length : dict of int to ndarray of int64
        For each clip length in chunks, the most probable label of each clip that the recording is cut into.
    baseline : ndarray of int64, shape (chunks + 1,), or None
        Label that the MFCC baseline predicts for each chunk, and last for the whole recording.
    seen : bool
        True if training or validation used a chunk of it.
    remark : str or None
        Reason why only the first part of the recording could be scored.
    fold : int or None
        Fold that tested it, where the predictions are those of a cross-validation.
    seconds : float or None
        Where the recording ends, None for chunks and images.
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
    fold: int | None = None
    seconds: float | None = None


class PredictionTask(NamedTuple):
    """Recordings for one worker, and the model that scores them."""

    graph: Path
    recordings: tuple[HeldOutRecording, ...]


def predict_recordings(
    graph: Path, recordings: Sequence[HeldOutRecording], workers: int
) -> Iterator[RecordingPrediction | tuple[HeldOutRecording, str]]:
    """Score recordings with a model, in no particular order; failed ones are returned with the reason."""
    tasks = [
        PredictionTask(graph, tuple(recordings[i : i + _RECORDINGS_PER_TASK]))
        for i in range(0, len(recordings), _RECORDINGS_PER_TASK)
    ]
    with (
        progress("Evaluating", "recordings", len(recordings)) as advance,
        local_processes(min(workers, max(1, len(tasks)))) as pool,
    ):
        for task, results in map_unordered(pool, predict_task, tasks, _split):
            if isinstance(results, WorkerDied):
                results = [(recorded, "crashed the process that read it, twice") for recorded in task.recordings]
            yield from results
            advance(len(results))


def predict_task(task: PredictionTask) -> list[RecordingPrediction | tuple[HeldOutRecording, str]]:
    """Score the recordings of a task, in a worker process."""
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


@functools.cache
def _predictor(graph: Path) -> Predictor:
    """Return this worker process's copy of the model, loaded once."""
    return Predictor(graph, threads=1, with_enrolled=False)


def _predict_recording(predictor: Predictor, recorded: HeldOutRecording) -> RecordingPrediction:
    chunks = chunks_of(predictor, recorded)
    found, _, remark = process_images(chunks, lambda chunk, jpg: _predict_chunk(predictor, chunk, jpg))
    pause = find_pauses([one.answer for one in found])
    counted = [one for one, is_pause in zip(found, pause, strict=True) if not is_pause]
    answers = [one.answer for one in counted]
    probabilities = np.stack([answer.probabilities for answer in answers])
    mean, scores = predictor.decider.combine(answers)
    weights = [answer.activity for answer in answers]
    given = probabilities.argmax(axis=1)
    arrays, baseline = predictor.arrays, None
    if arrays.baseline is not None:
        by_mfcc = arrays.baseline.probabilities(np.stack([one.output.features.mfcc_statistics for one in counted]))
        baseline = np.append(by_mfcc.argmax(axis=1), np.average(by_mfcc, axis=0, weights=weights).argmax())
    head = np.stack([one.output.probabilities for one in counted])
    uncalibrated = apply_temperature(head, 1 / predictor.calibration.temperature)
    content = short_keys(np.frombuffer(b"".join(one.key for one in found), f"V{KEY_BYTES}"))
    return RecordingPrediction(
        recorded,
        np.array([answer.start for answer in answers]),
        given,
        probabilities[np.arange(len(given)), given],
        mean,
        np.average(uncalibrated, axis=0, weights=weights).astype(np.float32),
        scores,
        {length: most_probable_of_clips(probabilities, length) for length in DURATIONS_IN_CHUNKS},
        baseline,
        arrays.has_seen(content),
        remark,
        seconds=chunks.seconds if isinstance(chunks, Clip) else None,
    )


class _PredictedChunk(NamedTuple):
    key: bytes
    output: ImageOutput
    answer: ChunkAnswer


def _predict_chunk(predictor: Predictor, chunk: ClipChunk, jpg: bytes) -> _PredictedChunk:
    output = predictor.predict_image(jpg)
    return _PredictedChunk(content_key(jpg), output, predictor.chunk_answer(chunk, output))


def chunks_of(predictor: Predictor, recorded: HeldOutRecording) -> Iterable[ClipChunk]:
    """Return the chunks of a recording, with their images."""
    if recorded.starts:
        return _stored_chunks(predictor, recorded)
    return Clip(recorded.source or recorded.paths[0], predictor.spectrogram)


def _stored_chunks(predictor: Predictor, recorded: HeldOutRecording) -> Iterator[ClipChunk]:
    for start, path in zip(recorded.starts, recorded.paths, strict=True):
        for chunk in Clip(path, predictor.spectrogram):
            yield chunk._replace(start=start)


def most_probable_of_clips(probabilities: FloatArray, length: int) -> IntArray:
    """Cut a recording's chunks into clips of equal length, and return the most probable label of each."""
    whole = len(probabilities) // length
    clips = probabilities[: whole * length].reshape(whole, length, probabilities.shape[1]).mean(axis=1)
    labels: IntArray = clips.argmax(axis=1)
    return labels


_MAX_LABELS_NAMED = 10


@dataclass(frozen=True)
class HeldOutPredictions:
    """Predictions for the held-out recordings, and the recordings that could not be scored.

    Attributes
    ----------
    source : str
        Description of their origin, for messages and the report.
    recordings : list of RecordingPrediction
        Of labels that the model knows, by label and name.
    unknown : list of RecordingPrediction
        Of none of the model's labels (open-set impostors).
    skipped : list of (HeldOutRecording, str)
        Recordings that could not be scored, with the reason.
    seen : int
        Number of recordings that training or validation used. They are excluded, unless all were used.
    all_seen : bool
        True if training or validation used every recording; then none is excluded.
    missing_labels : list of str
        Labels of the model that have no recording.
    foreign_labels : list of str
        Folders that are no label of the model's; their recordings count as unknown voices.
    cross_validated : bool
        True if each prediction is by a model that was not trained on the recording, while the published one was.
    """

    source: str
    recordings: list[RecordingPrediction]
    unknown: list[RecordingPrediction]
    skipped: list[tuple[HeldOutRecording, str]]
    seen: int
    all_seen: bool
    missing_labels: list[str]
    foreign_labels: list[str]
    cross_validated: bool = False


def as_held_out(
    predictor: Predictor, config: EvaluateConfig, recordings: list[RecordingPrediction]
) -> HeldOutPredictions:
    """Return cross-validated predictions, all by models that were not trained on the recording, as held-out ones."""
    present = {label for one in recordings for label in labels_of(predictor, one.recorded.label)}
    missing = [label for label in predictor.labels if label not in present]
    source = f"the cross-validation on {escape(config.image_dir)}"
    return HeldOutPredictions(source, recordings, [], [], 0, False, missing, [], cross_validated=True)


def predict_held_out(predictor: Predictor, config: EvaluateConfig) -> HeldOutPredictions:
    """Score the held-out recordings; those that training or validation used are excluded.

    Raises
    ------
    DatasetError
        If none can be scored.
    """
    source, recordings = held_out_recordings(predictor, config)
    found, skipped = predict_and_report(predictor, config, recordings)
    if not found:
        raise DatasetError(
            f"{source}: none of {pluralise(len(recordings), 'recording')} could be used: see the reasons above"
        )
    unseen = [one for one in found if not one.seen]
    seen, all_seen = len(found) - len(unseen), not unseen
    if all_seen:
        log.warning(
            "all of these recordings took part in training: the results do not hold for new recordings; "
            "name a folder of others with --test_dir"
        )
    elif seen:
        log.warning(f"{pluralise(seen, 'recording')} of {len(found)} took part in training or validation; left out")
    kept = found if all_seen else unseen
    known = set(predictor.labels)
    folders = {label for one in kept for label in labels_of(predictor, one.recorded.label)}
    foreign = sorted(folders - known - {UNKNOWN})
    several = predictor.thresholds is not None
    if foreign:
        some = ", ".join(map(escape, foreign[:_MAX_LABELS_NAMED]))
        some += ", ..." if len(foreign) > _MAX_LABELS_NAMED else ""
        log.warning(f"the model has no label {some}: counted as {'no label' if several else 'unknown voices'}")
    return HeldOutPredictions(
        source,
        [one for one in kept if several or one.recorded.label in known],
        [one for one in kept if not several and one.recorded.label not in known],
        skipped,
        seen,
        all_seen,
        [label for label in predictor.labels if label not in folders],
        foreign,
    )


def labels_of(predictor: Predictor, folder: str) -> Sequence[str]:
    """Return the labels of a folder's recordings: its name, or those that it joins where several may be present."""
    return [folder] if predictor.thresholds is None else separate_labels(folder)


def predict_and_report(
    predictor: Predictor, config: EvaluateConfig, recordings: Sequence[HeldOutRecording]
) -> tuple[list[RecordingPrediction], list[tuple[HeldOutRecording, str]]]:
    """Score recordings, sorted by label and name, and log a warning for each that could not be scored.

    Returns
    -------
    list of RecordingPrediction
    list of (HeldOutRecording, str)
        Recordings that could not be scored, with the reason.
    """
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
            log.warning(f"{one.recorded.paths[0]}: {one.remark}; the rest was scored")
    found.sort(key=lambda one: (one.recorded.label, one.recorded.name))
    return found, skipped

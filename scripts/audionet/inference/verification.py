"""Speaker enrolment without training, and speaker verification."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audionet._paths import enrolled_path
from audionet.audio.decoding import Source
from audionet.classifier.enrolment import enrol, forget
from audionet.classifier.prototypes import false_acceptance_rate, fit_speaker_model, unit_length
from audionet.data.naming import UNKNOWN, label_problem
from audionet.errors import DatasetError, ModelError, RecordingError, UsageError
from audionet.inference.answer import ChunkAnswer, find_pauses
from audionet.inference.clip import Clip, ClipChunk, process_images
from audionet.inference.predictor import Predictor
from audionet.utils.arrays import FloatArray
from audionet.utils.text import escape, find_name

RELIABLE_SECONDS = 10.0
"""Least duration of speech from which a speaker can be recognised reliably."""

RELIABLE_NORM = 0.5
"""Norm below which a speaker is so unlike all training data that others recorded alike may be accepted."""

_LEAST_CHUNKS = 2  # of each of two speakers in a clip
_MOST_LISTED = 10  # speakers in a message
_LOAD_AGAIN = "load the new model first"


class Verification(NamedTuple):
    """Result of verifying that a clip is of a speaker.

    Attributes
    ----------
    accepted : bool
        Whether the rate is at most the one set at training.
    score : float
    rate : float
        False acceptance rate at this score: upper estimate of the share of other speakers that score as high.
    nearer, trials : int
        Number of impostor trials that scored as high, and number of all impostor trials.
    """

    accepted: bool
    score: float
    rate: float
    nearer: int
    trials: int


class Enrolment(NamedTuple):
    """Result of enrolling a speaker.

    Attributes
    ----------
    seconds : float
        Duration of the sound that was used.
    norm : float
        Mean norm of the embeddings: 1 for a speaker like those in training, less for one unlike all of them.
    resembles : str or None
        Label or other enrolled speaker that the clips would have been accepted as without this enrolment.
    accepted : bool
        Whether the model accepts one half of the clips as the speaker that it knows from the other half.
    several : bool
        Whether the clips seem to be of several speakers.
    replaced : bool
        Whether a speaker of the same name was replaced.
    failed, in_part : dict of Path to str
        Clips that could not be read, or only in part, with the reasons.
    """

    seconds: float
    norm: float
    resembles: str | None
    accepted: bool
    several: bool
    replaced: bool
    failed: dict[Source, str]
    in_part: dict[Source, str]


def _require_voices(predictor: Predictor) -> None:
    """Raise UsageError if the model answers with several labels at a time, and so compares no speakers."""
    if predictor.thresholds is not None:
        raise UsageError(
            f"{escape(predictor.graph)} answers with several labels at a time: speakers are verified and enrolled with "
            "a model of one label at a time"
        )


def check_name(predictor: Predictor, name: str, setting: str = "--enrol") -> None:
    """Raise UsageError, which names the flag or parameter, if a new speaker cannot have this name."""
    if find_name(name, predictor.labels):
        raise UsageError(
            f"{setting} {escape(name)}: the model was trained on a label of that name: choose another name"
        )
    if name in (UNKNOWN, "unknown") or label_problem(name) or not _can_be_read(name):
        raise UsageError(f"{setting} {escape(name)}: that is not a valid name for a speaker: choose another")
    if name != name.strip():
        raise UsageError(
            f"{setting} {escape(repr(name))}: the name begins or ends with a blank, which nobody sees: leave it out"
        )


def _can_be_read(name: str) -> bool:
    """Return whether a name holds a visible character, and none that controls a terminal."""
    is_visible = any(char.isprintable() and not char.isspace() for char in name)
    return is_visible and not any(unicodedata.category(char) == "Cc" for char in name)


def enrol_from_clips(predictor: Predictor, name: str, clips: Sequence[Source]) -> Enrolment:
    """Enrol a speaker from clips.

    Raises
    ------
    RecordingError
        If no clip has sound that can be used.
    UsageError
        If the speaker cannot have this name.
    """
    _require_voices(predictor)
    check_name(predictor, name)
    embeddings: list[FloatArray] = []
    seconds = 0.0
    failed: dict[Source, str] = {}
    in_part: dict[Source, str] = {}
    for source in clips:
        try:
            found, length, remark = _embed_clip(predictor, source)
        except (RecordingError, DatasetError) as error:
            failed[source] = str(error)
            continue
        if remark is not None:
            in_part[source] = remark
        embeddings += found
        seconds += length
    if not embeddings:
        reasons = "; ".join(f"{escape(str(source))} {reason}" for source, reason in failed.items())
        raise RecordingError(f"no clip can be used to enrol {escape(name)}: {reasons}")
    return enrol_from_embeddings(predictor, name, np.stack(embeddings), seconds)._replace(
        failed=failed, in_part=in_part
    )


def enrol_from_embeddings(predictor: Predictor, name: str, embeddings: FloatArray, seconds: float) -> Enrolment:
    """Enrol a speaker, under a name that `check_name` accepts, from the embeddings of chunks.

    Parameters
    ----------
    predictor : Predictor
    name : str
    embeddings : ndarray of float32, shape (chunks, dimensions)
        Of the chunks that count, in the order of time.
    seconds : float
        Duration of the sound that they come from.

    Raises
    ------
    ModelError
        If the model has been trained again since it was loaded, or its enrolled speakers cannot be read.
    RecordingError
        If the embeddings make no speaker.
    """
    name = find_name(name, predictor.enrolled) or name
    resembles = _resembles(predictor, name, embeddings)
    halves = embeddings[: len(embeddings) // 2], embeddings[len(embeddings) // 2 :]
    predictor.unchanged_card(_LOAD_AGAIN)
    replaced = enrol(enrolled_path(predictor.graph), predictor.card["graph_sha256"], name, embeddings, seconds)
    return Enrolment(
        seconds,
        fit_speaker_model(embeddings).norm,
        resembles,
        _are_one_speaker(predictor, *(halves if len(halves[0]) else (embeddings, embeddings))),
        not _are_one_speaker(predictor, *_two_clusters(embeddings)),
        replaced,
        {},
        {},
    )


def _embed_clip(predictor: Predictor, source: Source) -> tuple[list[FloatArray], float, str | None]:
    """Return the embeddings of the chunks of a clip that count, their duration in seconds, and remarks on it."""

    def embed(chunk: ClipChunk, jpg: bytes) -> tuple[FloatArray, ChunkAnswer]:
        output = predictor.predict_image(jpg)
        return output.embedding, predictor.chunk_answer(chunk, output)

    clip = Clip(source, predictor.spectrogram)
    found, _, damage = process_images(clip, embed)
    length = None if clip.seconds is None else clip.seconds - clip.start
    return *counted_sound(predictor, found, length), clip.remark(damage)


def counted_sound(
    predictor: Predictor, chunks: Sequence[tuple[FloatArray, ChunkAnswer]], length: float | None
) -> tuple[list[FloatArray], float]:
    """Choose the chunks of a clip that count: those that are no pauses.

    Parameters
    ----------
    predictor : Predictor
    chunks : sequence of (ndarray, ChunkAnswer)
        Embedding and answer of each chunk that is not silent.
    length : float or None
        Duration of the sound, seconds; None for an image.

    Returns
    -------
    list of ndarray
        Their embeddings.
    float
        Their duration, seconds.

    Raises
    ------
    RecordingError
        If there is no speech in the clip, and the labels are spoken.
    """
    pause = find_pauses([answer for _, answer in chunks])
    counted = [embedding for (embedding, _), is_pause in zip(chunks, pause, strict=True) if not is_pause]
    if not any(answer.speech for _, answer in chunks):
        raise RecordingError("cannot be used: no speech was found in it")
    used = predictor.spectrogram.chunk_seconds * len(counted) if predictor.spectrogram else 0.0
    return counted, used if length is None else min(length, used)


def _resembles(predictor: Predictor, name: str, embeddings: FloatArray) -> str | None:
    """Return the label or enrolled speaker of another name that these chunks would be accepted as."""
    scores = predictor.voices.scores(embeddings).mean(axis=0)
    if name in predictor.enrolled:
        scores[predictor.names.index(name)] = -np.inf
    nearest = int(scores.argmax())
    accepted = predictor.rejection is not None and scores[nearest] >= predictor.rejection.threshold(len(embeddings))
    return predictor.names[nearest] if accepted or scores[nearest] >= predictor.verification_threshold else None


def _are_one_speaker(predictor: Predictor, one: FloatArray, other: FloatArray) -> bool:
    """Return whether the model, enrolled with some chunks, would accept others; True if it accepts everything."""
    if not len(one) or not len(other):
        return True
    score = float(predictor.arrays.voices.joined([fit_speaker_model(one)]).scores(other)[:, -1].mean())
    decider = predictor.decider
    thresholds = [decider.least_enrolled]
    if decider.rejection is not None:
        thresholds.append(decider.rejection.threshold(len(other)))
    lowest = min(thresholds)
    return not np.isfinite(lowest) or score >= lowest


def _two_clusters(embeddings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Divide chunks into the two most different halves (spherical k-means); empty ones if a half is a single chunk."""
    directions = unit_length(embeddings)
    first = int((directions @ directions.sum(axis=0)).argmin())
    centres = directions[[first, int((directions @ directions[first]).argmin())]]
    for _ in range(10):
        nearest = (directions @ centres.T).argmax(axis=1)
        if min(np.bincount(nearest, minlength=2)) < _LEAST_CHUNKS:
            return embeddings[:0], embeddings[:0]
        centres = np.stack([unit_length(directions[nearest == half].mean(axis=0)) for half in (0, 1)])
    return embeddings[nearest == 0], embeddings[nearest == 1]


def forget_voice(predictor: Predictor, name: str, setting: str = "--forget") -> None:
    """Remove an enrolled speaker.

    Raises
    ------
    UsageError
        If no speaker of that name is enrolled; the message names the flag or parameter.
    ModelError
        If the model has been trained again since it was loaded, or its enrolled speakers cannot be read.
    """
    name = find_name(name, predictor.enrolled) or name
    predictor.unchanged_card(_LOAD_AGAIN)
    if not forget(enrolled_path(predictor.graph), predictor.card["graph_sha256"], predictor.dimensions, name):
        some, further = list(predictor.enrolled)[:_MOST_LISTED], len(predictor.enrolled) - _MOST_LISTED
        enrolled = ", ".join([*map(escape, some), *([f"{further} more"] if further > 0 else [])]) or "none"
        raise UsageError(f"{setting} {escape(name)}: no speaker of that name is enrolled (enrolled: {enrolled})")


class Verifier:
    """Verifies that clips are of one speaker, trained or enrolled.

    Raises
    ------
    UsageError
        If the model has no speaker of that name.
    ModelError
        If training had too few impostor trials for the false acceptance rate.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        _require_voices(predictor)
        self._index = predictor.index_of(name, "--verify", "speaker")
        impostors = predictor.arrays.impostors
        self._rate = predictor.verification_rate
        needed = int(np.ceil(1 / self._rate)) - 1
        if len(impostors) < needed:
            raise ModelError(
                f"the model has {len(impostors)} impostor trials, and a false acceptance rate of "
                f"{self._rate:.2%} needs {needed}: train it on three labels or more, or with examples in {UNKNOWN}"
            )
        self._predictor = predictor

    def verify(self, source: Source) -> Verification:
        """Verify that a clip is of the speaker.

        Raises
        ------
        RecordingError, DatasetError
            If nothing in the file can be used.
        """
        answer = self._predictor.answer(source)
        score = float(answer.scores[self._index])
        impostors = self._predictor.arrays.impostors
        rate = false_acceptance_rate(score, impostors)
        speaks = any(chunk.speech for chunk in answer.chunks)
        accepted = speaks and score >= self._predictor.verification_threshold
        return Verification(accepted, score, rate, int((impostors >= score).sum()), len(impostors))

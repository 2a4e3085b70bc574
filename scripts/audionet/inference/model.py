"""A trained model for Python programs: predictions, embeddings, verification, enrolment, diarization."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np
from numpy.typing import ArrayLike

from audionet.audio.array_sound import ArraySound, AudioSegment, segment_sound
from audionet.audio.decoding import Source
from audionet.errors import DatasetError, ModelError, RecordingError
from audionet.inference.answer import Answer, Voice
from audionet.inference.clip import Clip, process_images
from audionet.inference.diarization import diarize
from audionet.inference.explanation import Explanation, explain
from audionet.inference.predictor import Predictor
from audionet.inference.segmentation import Segment
from audionet.inference.verification import Enrolment, Verification, Verifier, enrol_from_clips, forget_voice
from audionet.utils.arrays import FloatArray
from audionet.utils.files import PathLike
from audionet.utils.text import escape

Sound = PathLike | ArrayLike | AudioSegment
"""A recording or spectrogram image on disk; samples of shape (n,) or (channels, n), integers or floats of -1 to 1; or
a pydub AudioSegment."""


@dataclass(frozen=True)
class ChunkPrediction:
    """Prediction for one chunk of a clip.

    Attributes
    ----------
    start : float
        Seconds from the beginning of the clip.
    label : str or None
        A label or an enrolled speaker; None if unknown.
    probabilities : dict of str to float
        Calibrated probability of each label.
    score : float
        Likeness to the most similar label or enrolled speaker: about 1 for one like itself, 0 for others.
    present : tuple of str or None
        As for `Prediction`.
    """

    start: float
    label: str | None
    probabilities: dict[str, float]
    score: float
    present: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Prediction:
    """Prediction for a clip.

    Attributes
    ----------
    label : str or None
        A label or an enrolled speaker; None if unknown.
    probabilities : dict of str to float
        Calibrated probability of each label, the mean over the chunks, in the order of the labels.
    score : float
        Likeness to the most similar label or enrolled speaker: about 1 for one like itself, 0 for others.
    threshold : float or None
        Clips of this length that score less are unknown; None if the model never answers unknown.
    voices : tuple of Voice
        Voices or other sounds in the clip with their durations, the longest first: more than one where several are
        heard for two chunks or more.
    chunks : tuple of ChunkPrediction
        Chunks that count.
    pauses : tuple of float
        Start of each other chunk: silent, far quieter than the rest, or without speech where labels are spoken.
    seconds : float or None
        Length of the clip; None for an image.
    remark : str or None
        What to know of the recording: damage where part of it could be used, the track or channel that was taken.
    present : tuple of str or None
        Labels that are present, the most probable first, where the model answers with several at a time; `label` is
        the first of them then, and `score` the highest probability. None for a model of one label at a time.
    """

    label: str | None
    probabilities: dict[str, float]
    score: float
    threshold: float | None
    voices: tuple[Voice, ...]
    chunks: tuple[ChunkPrediction, ...]
    pauses: tuple[float, ...]
    seconds: float | None
    remark: str | None
    present: tuple[str, ...] | None = None

    @property
    def is_unknown(self) -> bool:
        """True if the clip is like none of the labels and enrolled speakers."""
        return self.label is None


class Model:
    """A trained model. Create it with `load_model`.

    Attributes
    ----------
    path : Path
    predictor : Predictor
        The layer below, for programs that need arrays instead of objects.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.path = predictor.graph

    def __repr__(self) -> str:
        return f"<audionet.Model {str(self.path)!r}: {len(self.labels)} labels, {len(self.enrolled)} enrolled>"

    @property
    def labels(self) -> list[str]:
        """Labels that the model was trained on, in code-point order."""
        return list(self.predictor.labels)

    @property
    def enrolled(self) -> list[str]:
        """Names of the speakers that were enrolled without training."""
        return list(self.predictor.enrolled)

    def predict(self, sound: Sound, sample_rate: int | None = None) -> Prediction:
        """Predict the label of a clip.

        Parameters
        ----------
        sound : str, path or array_like
            A recording or a spectrogram image (.jpg); or samples, shape (n,) or (channels, n), integers at full scale
            or floats of -1 to 1.
        sample_rate : int, optional
            Hz; required with samples.

        Raises
        ------
        RecordingError, DatasetError
            If the file is missing, damaged or silent.
        TypeError, ValueError
            If the samples or the rate make no sound; the message names what is wrong.

        Examples
        --------
        >>> model = audionet.load_model(model_path)
        >>> answer = model.predict(clip_path)
        >>> answer.label, answer.is_unknown
        ('a300', False)
        >>> round(sum(answer.probabilities.values()), 3)
        1.0
        """
        source = as_source(sound, sample_rate)
        with _named(source):
            answer = self.predictor.answer(source)
        return self._prediction(answer)

    def embed(self, sound: Sound, sample_rate: int | None = None, per_chunk: bool = False) -> FloatArray:
        """Compute the embedding of a clip in the space where speakers are compared.

        Parameters
        ----------
        sound, sample_rate
            As for `predict`.
        per_chunk : bool
            Whether to return one embedding for each chunk that is not silent.

        Returns
        -------
        ndarray of float32, shape (dimensions,) or (chunks, dimensions)
            Whitened; the norm of a chunk's embedding is at most 1, and the clip's is the mean over its chunks.

        Examples
        --------
        >>> model = audionet.load_model(model_path)
        >>> vector = model.embed(clip_path)
        >>> vector.shape == model.embed(clip_path, per_chunk=True)[0].shape
        True
        """
        source = as_source(sound, sample_rate)
        with _named(source):
            clip = Clip(source, self.predictor.spectrogram)
            found, _, _ = process_images(clip, lambda _, jpg: self.predictor.predict_image(jpg).embedding)
        embeddings: FloatArray = np.stack(found)
        mean: FloatArray = embeddings.mean(axis=0)
        return embeddings if per_chunk else mean

    def explain(self, sound: Sound, label: str | None = None, sample_rate: int | None = None) -> Explanation:
        """Explain where in time and frequency the evidence for a label is, in up to a second a chunk.

        Parameters
        ----------
        sound, sample_rate
            As for `predict`.
        label : str, optional
            A label or an enrolled speaker; default: the answer or, if that is unknown, the most probable label.

        Returns
        -------
        Explanation
            With the map as `relevance`, shape (rows, frames), and the units of its axes as `times` and
            `frequencies`; `save` draws it.

        Raises
        ------
        UsageError
            If the model has no such label.

        Examples
        --------
        >>> model = audionet.load_model(model_path)
        >>> explanation = model.explain(clip_path)
        >>> explanation.label
        'a300'
        >>> explanation.relevance.shape == (len(explanation.frequencies), len(explanation.times))
        True
        """
        source = as_source(sound, sample_rate)
        with _named(source):
            return explain(self.predictor, source, label)[1]

    def verify(self, sound: Sound, name: str, sample_rate: int | None = None) -> Verification:
        """Verify that a clip is of the label or enrolled speaker that it is claimed to be.

        Parameters
        ----------
        sound, sample_rate
            As for `predict`.
        name : str
            A label or an enrolled speaker.

        Raises
        ------
        UsageError
            If the model knows no such name.
        ModelError
            If training had too few impostor trials for a false acceptance rate.
        """
        source = as_source(sound, sample_rate)
        verifier = Verifier(self.predictor, name)
        with _named(source):
            return verifier.verify(source)

    def enroll(self, name: str, clips: Sound | Sequence[PathLike], sample_rate: int | None = None) -> Enrolment:
        """Enrol a speaker from 10 to 30 seconds of speech, without training.

        The speaker is stored beside the model, and predicted from now on.

        Parameters
        ----------
        name : str
        clips : path, sequence of paths, or array_like
            Recordings of the speaker, or samples with their `sample_rate`.
        sample_rate : int, optional

        Raises
        ------
        UsageError
            If the name is a label of the model, or makes no name.
        RecordingError
            If no clip can be used; the message says why for each.
        """
        if _are_paths(clips):
            sources = [as_source(clip, None) for clip in clips]
        else:
            sources = [as_source(cast("Sound", clips), sample_rate)]
        enrolment = enrol_from_clips(self.predictor, name, sources)
        self.predictor.read_enrolled()
        return enrolment

    def forget(self, name: str) -> None:
        """Remove an enrolled speaker.

        Raises
        ------
        UsageError
            If no speaker of that name is enrolled.
        """
        forget_voice(self.predictor, name)
        self.predictor.read_enrolled()

    def diarize(self, sound: Sound, sample_rate: int | None = None, step: float | None = None) -> list[Segment]:
        """Find out who speaks when in a recording.

        Parameters
        ----------
        sound, sample_rate
            As for `predict`.
        step : float, optional
            Hop of the sliding window in seconds; default: a third of a chunk.

        Returns
        -------
        list of Segment
            In order of time: ``start``, ``end``, ``label`` (None if unknown), ``probability``, ``score``. They
            overlap only where the model answers with several labels at a time.

        Examples
        --------
        >>> model = audionet.load_model(model_path)
        >>> [segment.label for segment in model.diarize(clip_path)]
        ['a300']
        """
        source = as_source(sound, sample_rate)
        with _named(source):
            return diarize(self.predictor, source, step).segments

    def _prediction(self, answer: Answer) -> Prediction:
        decider = self.predictor.decider
        chunks = tuple(
            ChunkPrediction(
                chunk.start,
                decider.decide(chunk.probabilities, chunk.scores, 1).label,
                self._by_label(chunk.probabilities),
                decider.decide(chunk.probabilities, chunk.scores, 1).score,
                None if decider.thresholds is None else tuple(decider.present(chunk.probabilities)),
            )
            for chunk in answer.chunks
        )
        return Prediction(
            answer.decision.label,
            self._by_label(answer.probabilities),
            answer.decision.score,
            answer.decision.threshold,
            tuple(answer.voices),
            chunks,
            tuple(answer.pauses),
            answer.seconds,
            answer.remark,
            None if answer.present is None else tuple(answer.present),
        )

    def _by_label(self, probabilities: FloatArray) -> dict[str, float]:
        return dict(zip(self.predictor.labels, probabilities.tolist(), strict=True))


def load_model(path: PathLike) -> Model:
    """Load a trained model.

    Parameters
    ----------
    path : str or path
        The .tflite file that training wrote; its .json and .npz lie beside it.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or they do not belong together.

    Examples
    --------
    >>> model = audionet.load_model(model_path)
    >>> model.labels[:2]
    ['a300', 'b600']
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"path is of type {type(path).__name__}: it must be a string or a path")
    if Path(path).is_dir() and not Path(path).suffix and not any(Path(path).glob("saved_model.pb")):
        raise ModelError(f"{escape(path)} is a folder: name the .tflite file in it")
    return Model(Predictor(Path(path)))


def as_source(sound: Sound, sample_rate: int | None) -> Source:
    """Return what a clip is read from: a path as it is, samples as a sound.

    Raises
    ------
    TypeError
        If samples come without a rate, a path with one, or anything else than either.
    ValueError
        If the samples make no sound.
    """
    if isinstance(sound, str | os.PathLike):
        if sample_rate is not None:
            raise TypeError("sample_rate goes with samples: a file has its own")
        if not os.fspath(sound):
            raise ValueError("the path is empty")
        return Path(sound)
    if isinstance(sound, AudioSegment):
        if sample_rate is not None:
            raise TypeError("sample_rate goes with samples: an AudioSegment has its own")
        return segment_sound(sound)
    if isinstance(sound, bytes) or sound is None:
        raise TypeError(f"sound is of type {type(sound).__name__}: it must be a path, or an array of samples")
    if sample_rate is None:
        raise TypeError("sample_rate is missing: samples need it, in Hz")
    return ArraySound(sound, sample_rate)


def _are_paths(clips: Sound | Sequence[PathLike]) -> TypeGuard[Sequence[PathLike]]:
    """Return whether clips are a sequence of paths, at least one."""
    if not isinstance(clips, Sequence) or isinstance(clips, str | bytes) or not clips:
        return False
    return all(isinstance(clip, str | os.PathLike) for clip in clips)


@contextlib.contextmanager
def _named(source: Source) -> Iterator[None]:
    """Put the name of the file before what is wrong with it."""
    try:
        yield
    except (RecordingError, DatasetError) as error:
        raise type(error)(f"{escape(str(source))}: {error}") from None

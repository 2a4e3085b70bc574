"""Answer for a clip: which of its chunks count, what they say together, and whose voices are in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.audio.network_input import LEAST_ACTIVITY, LEAST_SHARE
from audionet.audio.samples import PAUSE_DB
from audionet.classifier.decision import Rule
from audionet.classifier.multi_label import LabelThresholds, pool_chunks
from audionet.classifier.rejection import KnownOdds, RejectionRule
from audionet.inference.segmentation import LAG_SECONDS, STAY_SECONDS, Segment, Window, label_segments, segments
from audionet.utils.arrays import BoolArray, FloatArray

NO_SPEECH = "no speech was found in it"

_STAY_SECONDS = 30.0  # mean duration of a turn: in a clip, a second voice needs more evidence than in a conversation
_KNOWN_SHARE = 0.5  # of a conversation; most of it, so that two chance likenesses do not make one of an unknown clip
_LEAST_CHUNKS = 2  # of each of several voices


class ChunkAnswer(NamedTuple):
    """Output of a model for one chunk of a clip.

    Attributes
    ----------
    start : float
        Seconds from the clip's beginning.
    probabilities : ndarray of float32, shape (labels,)
        Calibrated.
    scores : ndarray of float32, shape (labels and enrolled speakers,)
    activity : float
        Share of the chunk with sound, its weight in the clip.
    level : float or None
        Level of its loudest moment, dB; None for an image.
    speech : bool
        False if the model looks for speech and the chunk has none.
    """

    start: float
    probabilities: FloatArray
    scores: FloatArray
    activity: float = 1.0
    level: float | None = None
    speech: bool = True


class Decision(NamedTuple):
    """Decision for a clip.

    Attributes
    ----------
    label : str or None
        A label or an enrolled speaker; None if unknown.
    score : float
        Score of the most similar speaker: about 1 for one like itself, 0 for others.
    enrolled : bool
        Whether the label is an enrolled speaker.
    threshold : float or None
        Lowest score that is accepted in a clip of this length; None if the model never answers unknown.
    """

    label: str | None
    score: float
    enrolled: bool
    threshold: float | None


class Voice(NamedTuple):
    """One of the voices, or other sounds, in a clip: a label, None if unknown, and its duration in seconds."""

    label: str | None
    seconds: float


@dataclass
class Answer:
    """Answer of a model for a clip.

    Attributes
    ----------
    seconds : float or None
        Length of the clip; None for an image.
    probabilities : ndarray of float32, shape (labels,)
        Mean over the clip's chunks, weighted by their activity.
    scores : ndarray of float32, shape (labels and enrolled speakers,)
        Score of each speaker, likewise.
    decision : Decision
    voices : list of Voice
        The longest first; one, unless several are heard for two chunks or more each.
    chunks : list of ChunkAnswer
        Chunks that count.
    pauses : list of float
        Start of each other chunk: silent, far quieter than the rest, or without speech where labels are spoken.
    remark : str or None
        Damage to the clip, if part of it could be used; or that it has no speech, where labels are spoken.
    present : list of str or None
        Where labels may be present at a time: those that are, the most probable first. Otherwise None.
    """

    seconds: float | None
    probabilities: FloatArray
    scores: FloatArray
    decision: Decision
    voices: list[Voice]
    chunks: list[ChunkAnswer]
    pauses: list[float]
    remark: str | None = None
    present: list[str] | None = None


class Decider(NamedTuple):
    """All that decisions depend on, besides the clip.

    Attributes
    ----------
    labels : list of str
    enrolled : list of str
    rule : Rule
        Chooses the label from the probabilities.
    rejection : RejectionRule or None
    least_enrolled : float
        Lowest score that verification accepts; an enrolled speaker that is verified is not unknown.
    thresholds : LabelThresholds or None
        Where several labels may be present at a time; then nothing else counts.
    """

    labels: list[str]
    enrolled: list[str]
    rule: Rule
    rejection: RejectionRule | None
    least_enrolled: float
    thresholds: LabelThresholds | None = None

    def decide(self, probabilities: FloatArray, scores: FloatArray, chunks: float) -> Decision:
        """Decide between unknown, an enrolled speaker and a label.

        The clip is unknown if its highest score is below the threshold, and the enrolled speaker with that score if it
        is one. Otherwise the decision rule chooses the label from the probabilities. Where several labels may be
        present, it is the most probable of those that are, and the score its probability.

        Parameters
        ----------
        probabilities : ndarray of float32, shape (labels,)
        scores : ndarray of float32, shape (labels and enrolled speakers,)
        chunks : float
            Number of chunks that they are the mean of.
        """
        if self.thresholds is not None:
            present = self.present(probabilities)
            return Decision(present[0] if present else None, float(probabilities.max()), False, None)
        nearest = int(scores.argmax())
        score, enrolled = float(scores[nearest]), nearest >= len(self.labels)
        threshold = None if self.rejection is None else self.rejection.threshold(chunks)
        if threshold is not None and enrolled:
            threshold = min(threshold, self.least_enrolled)
        if threshold is not None and score < threshold:
            return Decision(None, score, False, threshold)
        if enrolled:
            return Decision(self.enrolled[nearest - len(self.labels)], score, True, threshold)
        return Decision(self.labels[int(self.rule.decide(probabilities[None])[0])], score, False, threshold)

    def present(self, probabilities: FloatArray) -> list[str]:
        """Return the labels that are present, the most probable first, where several may be."""
        assert self.thresholds is not None
        answered = self.thresholds.decide(probabilities)
        return [self.labels[i] for i in np.argsort(-probabilities, kind="stable").tolist() if answered[i]]

    def combine(self, chunks: Sequence[ChunkAnswer]) -> tuple[FloatArray, FloatArray]:
        """Return the probabilities and scores of a clip with these chunks, at least one.

        The means, weighted by the chunks' activity; where several labels may be present, probabilities are pooled.
        """
        weights = np.maximum([chunk.activity for chunk in chunks], LEAST_ACTIVITY)
        scores = np.average([chunk.scores for chunk in chunks], axis=0, weights=weights).astype(np.float32)
        return self.pool(np.stack([chunk.probabilities for chunk in chunks]), weights.astype(np.float32)), scores

    def pool(self, probabilities: FloatArray, weights: FloatArray) -> FloatArray:
        """Return the probabilities of a clip, shape (labels,), from those of its chunks, shape (chunks, labels)."""
        if self.thresholds is not None:
            return pool_chunks(probabilities, weights)
        mean: FloatArray = np.average(probabilities, axis=0, weights=weights).astype(np.float32)
        return mean

    def turns(
        self,
        windows: Iterable[Window],
        window_seconds: float,
        step_seconds: float,
        seconds: Callable[[], float],
        odds: KnownOdds | None,
        lag_seconds: float = LAG_SECONDS,
    ) -> Iterable[Segment]:
        """Find the segments of labels and enrolled speakers in windows, as `segments` or `label_segments` do."""
        if self.thresholds is not None:
            thresholds = self.thresholds.values
            return label_segments(windows, self.labels, thresholds, window_seconds, step_seconds, seconds)
        names = [*self.labels, *self.enrolled]
        return segments(windows, names, window_seconds, step_seconds, seconds, odds, lag_seconds=lag_seconds)

    def window(self, chunk: ChunkAnswer) -> Window:
        """Return a chunk's output as a window; an enrolled speaker with the highest score gets probability 1."""
        if self.thresholds is not None:
            return Window(chunk.start, chunk.probabilities, None)
        nearest = int(chunk.scores.argmax())
        probabilities: FloatArray = np.zeros(len(chunk.scores), np.float32)
        if nearest < len(self.labels):
            probabilities[: len(self.labels)] = chunk.probabilities
            # With costs, the label of least expected cost swaps its probability with the most probable one.
            best, decided = int(chunk.probabilities.argmax()), int(self.rule.decide(chunk.probabilities[None])[0])
            probabilities[[best, decided]] = probabilities[[decided, best]]
        else:
            probabilities[nearest] = 1
        return Window(chunk.start, probabilities, float(chunk.scores[nearest]))


def find_pauses(chunks: Sequence[ChunkAnswer]) -> BoolArray:
    """Return which chunks do not count: far quieter or emptier than the fullest, or without speech unless all are."""
    levels = [chunk.level for chunk in chunks if chunk.level is not None]
    loudest = max(levels, default=0.0)
    quiet = np.array([chunk.level is not None and chunk.level < loudest - PAUSE_DB for chunk in chunks], bool)
    activity = np.array([chunk.activity for chunk in chunks])
    quiet |= activity < LEAST_SHARE * activity[~quiet].max()
    speechless = np.array([not chunk.speech for chunk in chunks], bool)
    return quiet if (quiet | speechless).all() else quiet | speechless


def combine_chunks(
    decider: Decider,
    chunks: Sequence[ChunkAnswer],
    silent: Sequence[float],
    chunk_seconds: float | None,
    step_seconds: float | None,
    seconds: float | None,
    remark: str | None,
) -> Answer:
    """Combine the outputs for the chunks of a clip.

    Parameters
    ----------
    decider : Decider
    chunks : sequence of ChunkAnswer
        At least one.
    silent : sequence of float
        Starts of its silent chunks.
    chunk_seconds, step_seconds : float or None
        Length of a chunk, and from one to the next; None for images.
    seconds : float or None
        Length of the clip.
    remark : str or None
        Damage to the clip.
    """
    pause = find_pauses(chunks)
    counted = [chunk for chunk, is_pause in zip(chunks, pause, strict=True) if not is_pause]
    pauses = sorted([*silent, *(chunk.start for chunk, is_pause in zip(chunks, pause, strict=True) if is_pause)])
    probabilities, scores = decider.combine(counted)
    decision = decider.decide(probabilities, scores, len(counted))
    if not any(chunk.speech for chunk in counted):
        decision = decision._replace(label=None, enrolled=False)
        remark = NO_SPEECH if remark is None else f"{remark}; {NO_SPEECH}"
    length = seconds if seconds is not None else chunk_seconds or 0.0
    voices = [Voice(decision.label, max(0.0, length))]
    if decider.thresholds is not None:
        present = [] if decision.label is None else decider.present(probabilities)
        voices = [Voice(label, _seconds_with(decider, label, counted, length)) for label in present]
        return Answer(seconds, probabilities, scores, decision, voices, counted, pauses, remark, present)
    if chunk_seconds and step_seconds and len(counted) >= 2 * _LEAST_CHUNKS and decider.labels:
        several = find_voices(decider, counted, pauses, chunk_seconds, step_seconds, length)
        if len(several) < 2 and decision.label is None:
            # A conversation is like none of its speakers as a whole, and "unknown" needs no change of speaker.
            talk = find_voices(decider, counted, pauses, chunk_seconds, step_seconds, length, STAY_SECONDS)
            several = talk if _is_mostly_known(talk) else several
        if len(several) > 1:
            voices = several
            decision = decision._replace(label=several[0].label, enrolled=several[0].label in decider.enrolled)
    return Answer(seconds, probabilities, scores, decision, voices, counted, pauses, remark)


def _seconds_with(decider: Decider, label: str, chunks: Sequence[ChunkAnswer], length: float) -> float:
    """Estimate how long a label is present: the share of the chunks that have it, of the clip's length."""
    return length * sum(label in decider.present(chunk.probabilities) for chunk in chunks) / len(chunks)


def _is_mostly_known(voices: Sequence[Voice]) -> bool:
    known = sum(voice.seconds for voice in voices if voice.label is not None)
    return known > 0 and known >= _KNOWN_SHARE * sum(voice.seconds for voice in voices)


def find_voices(
    decider: Decider,
    chunks: Sequence[ChunkAnswer],
    pauses: Sequence[float],
    chunk_seconds: float,
    step_seconds: float,
    seconds: float,
    stay_seconds: float = _STAY_SECONDS,
) -> list[Voice]:
    """Find the voices of a clip, the longest first; those of less than two chunks are none."""
    windows = [decider.window(chunk) for chunk in chunks] + [Window(start, None, None) for start in pauses]
    windows.sort(key=lambda window: window.start)
    names = [*decider.labels, *decider.enrolled]
    odds = None if decider.rejection is None else decider.rejection.odds(len(chunks))
    turns = segments(windows, names, chunk_seconds, step_seconds, lambda: seconds, odds, stay_seconds)
    totals: dict[str | None, float] = {}
    for turn in turns:
        totals[turn.label] = totals.get(turn.label, 0.0) + turn.end - turn.start
    least = _LEAST_CHUNKS * chunk_seconds * 0.99
    found = [Voice(label, total) for label, total in totals.items() if total >= least]
    return sorted(found, key=lambda voice: -voice.seconds)

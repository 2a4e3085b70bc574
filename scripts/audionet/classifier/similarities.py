"""Similarities of held-out recordings to labels, their scale, and what they say about labels as voices."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.calibration import calibrated_losses
from audionet.classifier.embedding import EmbeddingExamples, EmbeddingSpace, fit_embedding_spaces
from audionet.classifier.head import softmax
from audionet.classifier.rejection import SEGMENT_CHUNKS
from audionet.data.dataset import ChunkImage
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import BoolArray, FloatArray, IntArray, evenly

LOWEST_SCORE = -2.0
"""Similarity where there is none: of a label that a fold's model lacks."""

MAX_ROWS = 6000
"""Most chunks that an embedding space is fitted on, and most scores that are kept of impostors."""

_CHUNK_FOLDS = 4
_PRIOR_SEGMENTS = 4.0  # weight of the mean over all labels in a label's own scale, as a number of segments
_LEAST_RANGE = 0.1  # between the similarities that become 0 and 1
_NEXT_TO_NOTHING = 0.05  # of the loss: a twentieth of the right label's probability, which decides no answer
_SHARPNESS = np.float32(8)  # of similarities as logits; their temperature is fitted


@dataclass(frozen=True)
class Similarities:
    """Similarities of chunks to each label, by models that were not trained on them.

    Attributes
    ----------
    values : ndarray of float32, shape (n, labels)
        `LOWEST_SCORE` or less for labels that the model lacks.
    labels : ndarray of int64, shape (n,)
        True label of each chunk; -1 if it is of none.
    segments : sequence of n hashable
        Segment that each chunk belongs to.
    """

    values: FloatArray
    labels: IntArray
    segments: Sequence[Hashable]

    def by_segment(self) -> tuple[FloatArray, IntArray]:
        """Return the mean of each segment's chunks, and its label."""
        groups = Groups(self.segments)
        return groups.mean(self.values), groups.value(self.labels)

    def segment_chunks(self) -> IntArray:
        """Return the number of chunks of each segment, in the order of `by_segment`."""
        return Groups(self.segments).sizes.astype(np.int64)

    def scaled(self, space: EmbeddingSpace) -> Similarities:
        """Return scores: similarities on the scale of the speaker models."""
        voices = space.voices
        scores = (self.values - voices.low) / (voices.high - voices.low)
        scores[self.values <= LOWEST_SCORE] = LOWEST_SCORE
        return dataclasses.replace(self, values=scores)

    def where(self, chosen: BoolArray) -> Similarities:
        """Return the chosen chunks."""
        segments = [self.segments[i] for i in np.flatnonzero(chosen).tolist()]
        return Similarities(self.values[chosen], self.labels[chosen], segments)

    def joined(self, other: Similarities) -> Similarities:
        """Return these chunks followed by others."""
        return Similarities(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.labels, other.labels]),
            [*self.segments, *other.segments],
        )


def compare_fold(
    training: EmbeddingExamples,
    test: EmbeddingExamples,
    labels: int,
    widths: Sequence[int],
    voice_spaces: Sequence[VoiceSpace | None],
) -> list[Similarities]:
    """Compare a fold's test images with speaker models that were fitted on the other folds.

    Parameters
    ----------
    training, test : EmbeddingExamples
        Of labels and background.
    labels : int
        Number of labels; the training set may lack some.
    widths : sequence of int
    voice_spaces : sequence of VoiceSpace or None

    Returns
    -------
    list of Similarities
        One for each voice space.
    """
    present = np.unique(training.labels[training.labels >= 0])
    found = []
    for space in fit_on_labels(training, present, labels, widths, voice_spaces):
        every = np.full((len(test.labels), labels), LOWEST_SCORE, np.float32)
        every[:, present] = space.voices.similarities(space.embed(test.features))
        found.append(Similarities(every, test.labels, test.segments))
    return found


def compare_chunks(
    sample: EmbeddingExamples, missing: IntArray, widths: Sequence[int], voice_space: VoiceSpace | None
) -> Similarities | None:
    """Compare chunks of some labels with speaker models of the others and of their own other chunks.

    For labels of a single recording that is too short to be cut: what is known about their own scores, although new
    recordings will score less.

    Parameters
    ----------
    sample : EmbeddingExamples
    missing : ndarray of int64
        Labels to compare.
    widths, voice_space
        As for `fit_open_set`.

    Returns
    -------
    Similarities or None
        None if each of these labels has a single chunk.
    """
    fold = np.zeros(len(sample.labels), np.int64)
    for label in np.unique(sample.labels):
        of_label = np.flatnonzero(sample.labels == label)
        fold[of_label] = np.arange(len(of_label)) % min(_CHUNK_FOLDS, len(of_label))
    counts = np.bincount(sample.labels[sample.labels >= 0], minlength=int(sample.labels.max()) + 1)
    tested = np.isin(sample.labels, missing[counts[missing] > 1])
    found = []
    for number in range(_CHUNK_FOLDS):
        test = tested & (fold == number)
        if test.any():
            parts = sample.where(~test), sample.where(test)
            found += compare_fold(*parts, len(counts), widths, [voice_space])
    return functools.reduce(Similarities.joined, found) if found else None


def are_voices(own: Similarities, joined: Similarities) -> bool:
    """Return whether labels are voices: joined with the model's own space, the voice space tells them apart as well.

    Words, or one speaker's emotions, are speech, but no voices. In doubt they are voices: with one recording a label,
    the voice space is most of what is known about it.

    Parameters
    ----------
    own, joined : Similarities
        Of the same held-out recordings, in the model's own space, alone and joined with the voice space.
    """
    is_known = own.labels >= 0
    if not is_known.any():
        return True
    groups = Groups(segment for segment, known in zip(own.segments, is_known, strict=True) if known)
    losses = [
        calibrated_losses(softmax(_SHARPNESS * part.values[is_known]), own.labels[is_known], groups)
        for part in (own, joined)
    ]
    gains = losses[0] - losses[1]
    error = float(gains.std(ddof=1)) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
    return float(gains.mean()) > -max(2 * error, _NEXT_TO_NOTHING)


def fit_scale(held_out: Similarities, left_out: Similarities | None) -> tuple[FloatArray, FloatArray]:
    """Fit the similarities that become the scores 0 and 1, for each label: of others' recordings, and of its own.

    A label of few recordings has a poorer speaker model, which its own recordings resemble less; with a scale for each
    label, one threshold serves all. A label's means are joined with those over all labels, the more so the fewer
    recordings it has.

    Returns
    -------
    low, high : ndarray of float32, shape (labels,)
    """
    values, labels = held_out.by_segment()
    number = held_out.values.shape[1]
    own = labels[:, None] == np.arange(number)
    compared = values > LOWEST_SCORE
    lowest, highest = 0.0, 0.0
    if (own & compared).any():
        highest = float(values[own & compared].mean())
    if (~own & compared).any():
        lowest = float(values[~own & compared].mean())
    elif left_out is not None:
        lowest = float(left_out.values[left_out.values > LOWEST_SCORE].mean())
    if not (own & compared).any():
        highest = max(1.0, lowest + _LEAST_RANGE)
    low, high = (
        (np.where(chosen, values, 0).sum(axis=0) + _PRIOR_SEGMENTS * mean) / (chosen.sum(axis=0) + _PRIOR_SEGMENTS)
        for chosen, mean in ((~own & compared, lowest), (own & compared, highest))
    )
    return low.astype(np.float32), np.maximum(high, low + _LEAST_RANGE).astype(np.float32)


def fit_on_labels(
    sample: EmbeddingExamples,
    kept: IntArray,
    labels: int,
    widths: Sequence[int],
    voice_spaces: Sequence[VoiceSpace | None],
) -> list[EmbeddingSpace]:
    """Fit embedding spaces on the examples of some labels, ascending and numbered anew, and on the background."""
    number = np.full(labels + 1, -1)  # the last is the background's, label -1
    number[kept] = np.arange(len(kept))
    rest = sample.where((sample.labels < 0) | (number[sample.labels] >= 0))
    renumbered = EmbeddingExamples(rest.features, number[rest.labels], rest.segments)
    return fit_embedding_spaces(renumbered, widths, voice_spaces)


def segments_of(images: Sequence[ChunkImage]) -> list[Hashable]:
    """Return the segment of each chunk: `SEGMENT_CHUNKS` consecutive chunks of one recording."""
    return [(image.label, image.recording, image.index // SEGMENT_CHUNKS) for image in images]


def choose_segments(images: Sequence[ChunkImage], labels: IntArray) -> IntArray:
    """Choose whole segments of each label, evenly thinned if there are more chunks than the embedding space needs.

    Parameters
    ----------
    images : sequence of ChunkImage
    labels : ndarray of int64, shape (len(images),)

    Returns
    -------
    ndarray of int64
        Indices of images, ascending.
    """
    segments = Groups(segments_of(images))
    present = np.unique(labels)
    segment_label = segments.value(labels)
    quota = max(2.0, MAX_ROWS / max(1, len(present)))
    chosen = np.zeros(len(segments.names), bool)
    for label in present:
        indices = np.flatnonzero(segment_label == label)
        max_segments = int(max(1, quota / segments.sizes[indices].mean()))
        chosen[indices[evenly(len(indices), max_segments)]] = True
    return np.flatnonzero(chosen[segments.member])

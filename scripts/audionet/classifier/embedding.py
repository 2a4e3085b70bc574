"""Embedding space of a model: its own, fitted on its training set, joined with the backbone's voice space."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.head import EPSILON, Layer, standardisation
from audionet.classifier.prototypes import (
    NO_SPEAKERS,
    SpeakerModels,
    embed,
    fit_speaker_models,
    join_voices,
    voice_share,
)
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import BoolArray, FloatArray, IntArray

_DIMENSIONS = 128
_SHRINKAGE = 0.1
_INLIER_SHARE = 0.95  # share of the chunks that lie within a distance of 1
_MAX_GRAM_ROWS = 1500


@dataclass(frozen=True)
class EmbeddingExamples:
    """Bottlenecks of chunks, with their labels and segments.

    Attributes
    ----------
    features : ndarray of float32, shape (n, width)
    labels : ndarray of int64, shape (n,)
        -1 for chunks of the background.
    segments : sequence of n hashable
        Segment that each chunk belongs to; its chunks are scored together.
    """

    features: FloatArray
    labels: IntArray
    segments: Sequence[Hashable]

    def where(self, chosen: BoolArray) -> EmbeddingExamples:
        """Return the chosen chunks."""
        segments = [self.segments[i] for i in np.flatnonzero(chosen).tolist()]
        return EmbeddingExamples(self.features[chosen], self.labels[chosen], segments)


@dataclass(frozen=True)
class EmbeddingSpace:
    """Embedding space, and the speaker models of the training set in it.

    Attributes
    ----------
    own : Layer
        Fitted on the training set.
    voice_space : VoiceSpace or None
        The backbone's, whose directions are joined to the model's own where labels are voices.
    voices : SpeakerModels
    """

    own: Layer
    voice_space: VoiceSpace | None
    voices: SpeakerModels

    def embed(self, features: FloatArray) -> FloatArray:
        """Compute embeddings, shape (n, dimensions), of bottlenecks, shape (n, width)."""
        own = embed(features, self.own)
        return (
            own
            if self.voice_space is None
            else join_voices(own, self.voice_space.directions(features), self.voices.voice_share)
        )

    def scores(self, sample: EmbeddingExamples) -> FloatArray:
        """Score segments against each speaker, shape (segments, speakers): the mean over their chunks."""
        return Groups(sample.segments).mean(self.voices.scores(self.embed(sample.features)))

    def output_layer(self, speech: VoiceSpace | None) -> Layer:
        """Return the layer that a model file needs, for `read_outputs`: own space, voice space, speech detector.

        Parameters
        ----------
        speech : VoiceSpace or None
            Whose speech detector to add, if any.
        """
        blocks = [(self.own.weights, self.own.biases)]
        if self.voice_space is not None:
            blocks.append((self.voice_space.projection, self.voice_space.offset))
        if speech is not None:
            blocks.append((speech.speech[:, None], np.array([speech.speech_offset], np.float32)))
        weights = np.zeros((len(self.own.weights), sum(len(biases) for _, biases in blocks)), np.float32)
        start = 0
        for part, biases in blocks:
            weights[: len(part), start : start + len(biases)] = part
            start += len(biases)
        return Layer(weights, np.concatenate([biases for _, biases in blocks]))


def fit_embedding_spaces(
    sample: EmbeddingExamples, widths: Sequence[int], voice_spaces: Sequence[VoiceSpace | None]
) -> list[EmbeddingSpace]:
    """Fit the model's own space, and for each voice space to join (None: none) the speaker models.

    Parameters
    ----------
    sample : EmbeddingExamples
        Every label from 0 to the highest at least once.
    widths : sequence of int
        Widths of the concatenated parts of the features.
    voice_spaces : sequence of VoiceSpace or None
    """
    own, known = fit_own_space(sample, widths), sample.labels >= 0
    labels = sample.labels[known]
    spaces = []
    for voice_space in voice_spaces:
        none = NO_SPEAKERS
        if voice_space is not None:
            share = voice_share(len(labels) / (int(labels.max()) + 1))
            none = replace(NO_SPEAKERS, cohort=voice_space.cohort, voice_share=share)
        embeddings = EmbeddingSpace(own, voice_space, none).embed(sample.features)
        voices = fit_speaker_models(embeddings[known], labels, embeddings[~known])
        voices = replace(voices, cohort=none.cohort, voice_share=none.voice_share)
        spaces.append(EmbeddingSpace(own, voice_space, voices))
    return spaces


def fit_own_space(sample: EmbeddingExamples, widths: Sequence[int]) -> Layer:
    """Fit the embedding layer of a model's own space.

    Bottlenecks are standardised, reduced to their principal components, whitened so that the within-speaker variance is
    the same in all directions (within-class covariance normalisation: Hatch, Kajarekar & Stolcke, 2006), and scaled so
    that nearly all of the labels' chunks lie within a distance of 1.

    Parameters
    ----------
    sample, widths
        As for `fit_embedding_spaces`.
    """
    known, labels = sample.labels >= 0, sample.labels[sample.labels >= 0]
    offset, scale = standardisation([sample.features], widths)
    standardised: FloatArray = (sample.features - offset) * scale
    dimensions = min(_DIMENSIONS, *standardised.shape)
    components = _principal_directions(standardised, dimensions)
    reduced: FloatArray = standardised @ components.T
    means = _means(reduced[known], labels)
    deviations = reduced[known] - means[labels]
    within = deviations.T @ deviations / len(deviations)
    floor = max(np.trace(within) / dimensions, 1e-3 * float(reduced.var(axis=0).mean()), 1e-12)
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * within + _SHRINKAGE * floor * np.eye(dimensions))
    whitening = vectors / np.sqrt(values)
    all_means = means if known.all() else np.concatenate([means, reduced[~known].mean(axis=0, keepdims=True)])
    matrix = scale[:, None] * (components.T @ whitening)
    biases = -offset @ matrix - all_means.mean(axis=0) @ whitening
    distances = np.linalg.norm(sample.features[known] @ matrix + biases, axis=1)
    scale_of_space = max(float(np.quantile(distances, _INLIER_SHARE)), 1e-12)
    return Layer((matrix / scale_of_space).astype(np.float32), (biases / scale_of_space).astype(np.float32))


def _principal_directions(rows: FloatArray, number: int) -> FloatArray:
    """Return the first principal directions of rows, shape (number, width)."""
    if len(rows) > _MAX_GRAM_ROWS:
        from sklearn.decomposition import PCA

        found: FloatArray = PCA(number, svd_solver="randomized", iterated_power=3, random_state=0).fit(rows).components_
        return found
    from scipy.linalg import eigh

    # From the Gram matrix, which is smaller than the covariance where there are fewer chunks than features.
    centred = rows - rows.mean(axis=0)
    n = len(rows)
    values, vectors = eigh((centred @ centred.T).astype(np.float64), subset_by_index=[n - number, n - 1])
    # Chunks that are all alike span no direction: their eigenvalues are rounding errors, and so is what they scale.
    lengths = np.sqrt(np.maximum(values, max(1e-7 * float(values[-1]), EPSILON)))
    directions: FloatArray = ((vectors / lengths).T.astype(np.float32) @ centred)[::-1]
    return directions


def _means(rows: FloatArray, labels: IntArray) -> FloatArray:
    groups = Groups(labels.tolist())
    return groups.mean(rows)[np.argsort(groups.names)]

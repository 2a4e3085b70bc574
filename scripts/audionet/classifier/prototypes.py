"""Speaker models: centroid and prototypes of each speaker, and scores of embeddings against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.classifier.head import EPSILON, Layer
from audionet.utils.arrays import FloatArray

if TYPE_CHECKING:
    from audionet.utils.arrays import IntArray

MAX_PROTOTYPES = 16
"""Maximum number of prototypes of a speaker, which has one for every three of its chunks."""

BACKGROUND_WEIGHT = 0.25
"""Weight of the similarity to the background, which is subtracted from the similarity to a speaker."""


class SpeakerModel(NamedTuple):
    """Model of one speaker in the embedding space.

    Attributes
    ----------
    centroid : ndarray of float32, shape (dimensions,)
        Unit length.
    prototypes : ndarray of float32, shape (n, dimensions)
        Unit length, at least one.
    norm : float
        Mean norm of the speaker's embeddings, above 0: 1 for a speaker like those in training, less for outliers.
    """

    centroid: FloatArray
    prototypes: FloatArray
    norm: float


@dataclass(frozen=True)
class SpeakerModels:
    """Models of all speakers in the embedding space, and of the background.

    Attributes
    ----------
    centroids : ndarray of float32, shape (speakers, dimensions)
        Unit length.
    prototypes : ndarray of float32, shape (n, dimensions)
        Unit length, in the order of the speakers.
    counts : ndarray of int64, shape (speakers,)
        Number of prototypes of each speaker, at least one.
    norms : ndarray of float32, shape (speakers,)
        Mean norm of each speaker's embeddings.
    background : ndarray of float32, shape (m, dimensions)
        Prototypes of other speakers; may be none.
    """

    centroids: FloatArray
    prototypes: FloatArray
    counts: IntArray
    norms: FloatArray
    background: FloatArray

    def scores(self, embeddings: FloatArray) -> FloatArray:
        """Score chunks against each speaker, about -1 to 1, shape (chunks, speakers).

        A score is the mean of the cosine similarities to the speaker's centroid and to the nearest of its prototypes,
        minus `BACKGROUND_WEIGHT` times the similarity to the nearest background prototype. It is scaled down for chunks
        whose embedding has a smaller norm than the speaker's.
        """
        if not len(self.counts):
            return np.zeros((len(embeddings), 0), np.float32)
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        directions = unit_length(embeddings)
        nearest = np.maximum.reduceat(directions @ self.prototypes.T, starts, axis=1)
        scores: FloatArray = (directions @ self.centroids.T + nearest) * np.float32(0.5)
        if len(self.background):
            scores -= np.float32(BACKGROUND_WEIGHT) * (directions @ self.background.T).max(axis=1, keepdims=True)
        scores *= np.minimum(1, norms / self.norms)
        return scores

    def joined(self, others: Sequence[SpeakerModel]) -> SpeakerModels:
        """Return these speakers followed by others."""
        return SpeakerModels(
            np.concatenate([self.centroids, *(other.centroid[None] for other in others)]),
            np.concatenate([self.prototypes, *(other.prototypes for other in others)]),
            np.concatenate([self.counts, [len(other.prototypes) for other in others]]).astype(np.int64),
            np.concatenate([self.norms, [other.norm for other in others]]).astype(np.float32),
            self.background,
        )


def embed(features: FloatArray, space: Layer) -> FloatArray:
    """Compute embeddings, shape (n, dimensions), of bottlenecks, shape (n, width)."""
    return normalise_embeddings(features @ space.weights + space.biases)


def normalise_embeddings(whitened: FloatArray) -> FloatArray:
    """Normalise whitened embeddings to norm 1, and outliers to less.

    The norm is 1 up to a distance of 1 from the origin, where nearly all training chunks lie. Points farther out, such
    as noise and music, resemble no speaker in any direction; their norm is the inverse of their distance.

    Parameters
    ----------
    whitened : ndarray of float32, shape (n, dimensions)
    """
    distances = np.linalg.norm(whitened, axis=-1, keepdims=True)
    result: FloatArray = whitened / np.maximum(distances * np.maximum(distances, 1), EPSILON)
    return result


def unit_length(vectors: FloatArray) -> FloatArray:
    """Divide vectors by their Euclidean norms."""
    result: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), EPSILON)
    return result


def fit_speaker_model(embeddings: FloatArray) -> SpeakerModel:
    """Fit the model of one speaker to embeddings of its chunks, shape (n, dimensions)."""
    directions = unit_length(embeddings)
    norm = max(float(np.linalg.norm(embeddings, axis=1).mean()), EPSILON)
    return SpeakerModel(unit_length(directions.mean(axis=0)), fit_prototypes(directions, MAX_PROTOTYPES), norm)


def fit_speaker_models(embeddings: FloatArray, labels: IntArray, background: FloatArray) -> SpeakerModels:
    """Fit the speaker models of a training set, label 0 first.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, dimensions)
    labels : ndarray of int64, shape (n,)
        Every label from 0 to the highest at least once.
    background : ndarray of float32, shape (m, dimensions)
        Chunks of other speakers; may be none.
    """
    models = [fit_speaker_model(embeddings[labels == label]) for label in range(int(labels.max()) + 1)]
    empty = np.zeros((0, embeddings.shape[1]), np.float32)
    others = fit_prototypes(unit_length(background), 4 * MAX_PROTOTYPES) if len(background) else empty
    return SpeakerModels(empty, empty, np.zeros(0, np.int64), np.zeros(0, np.float32), others).joined(models)


def fit_prototypes(embeddings: FloatArray, limit: int) -> FloatArray:
    """Fit at most `limit` prototypes to embeddings of unit length (spherical k-means: Dhillon & Modha, 2001)."""
    number = min(limit, max(1, len(embeddings) // 3))
    if number == 1:
        return unit_length(embeddings.mean(axis=0, keepdims=True))
    # Lloyd's algorithm from evenly chosen chunks: importing scikit-learn takes too long for so few points.
    centres: FloatArray = embeddings[np.linspace(0, len(embeddings) - 1, number).astype(int)]
    for _ in range(10):
        nearest = (embeddings @ centres.T).argmax(axis=1)
        member = nearest[None] == np.arange(number)[:, None]
        sums = member.astype(np.float32) @ embeddings
        centres = np.where(member.any(axis=1, keepdims=True), unit_length(sums), centres)
    return centres


def false_acceptance_rate(score: float, impostors: NDArray[np.float32]) -> float:
    """Compute the false acceptance rate at a score: the share of impostor scores that are at least as high.

    One impostor at the score itself is added to the count, so that the rate is never 0 (Phipson & Smyth, 2010).
    """
    higher = len(impostors) - int(np.searchsorted(np.sort(impostors), score, side="left"))
    return (higher + 1) / (len(impostors) + 1)

"""Whom a clip sounds like: its embedding held against those of each voice."""

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
"""Prototypes of a voice, at most; it gets one for every three of its chunks."""

BACKGROUND_WEIGHT = 0.25
"""How much being like other people's voices counts against being like a known one."""


class SpeakerModel(NamedTuple):
    """One voice in the space of embeddings.

    Attributes
    ----------
    centroid : ndarray of float32, shape (dimensions,)
        Unit length.
    prototypes : ndarray of float32, shape (n, dimensions)
        Unit length, at least one.
    norm : float
        Mean length of its own embeddings, above 0: 1 of a voice like those of training, less of one far out.
    """

    centroid: FloatArray
    prototypes: FloatArray
    norm: float


@dataclass(frozen=True)
class SpeakerModels:
    """Voices in the space of embeddings: where each lies, and what forms it takes.

    Attributes
    ----------
    centroids : ndarray of float32, shape (voices, dimensions)
        Unit length.
    prototypes : ndarray of float32, shape (n, dimensions)
        Unit length, the first voice's first.
    counts : ndarray of int64, shape (voices,)
        How many of the prototypes each voice has, at least one.
    norms : ndarray of float32, shape (voices,)
    background : ndarray of float32, shape (m, dimensions)
        Prototypes of other people's voices; may be none.
    """

    centroids: FloatArray
    prototypes: FloatArray
    counts: IntArray
    norms: FloatArray
    background: FloatArray

    def scores(self, embeddings: FloatArray) -> FloatArray:
        """How much chunks are like each voice, about -1 to 1, shape (chunks, voices).

        The mean of the cosines to the voice's centroid and to the nearest of its prototypes, less a share of the
        cosine to the nearest voice of the background. Of chunks that lie farther out than the voice, less.
        """
        if not len(self.counts):
            return np.zeros((len(embeddings), 0), np.float32)
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
        ways = unit_length(embeddings)
        nearest = np.maximum.reduceat(ways @ self.prototypes.T, starts, axis=1)
        scores: FloatArray = (ways @ self.centroids.T + nearest) * np.float32(0.5)
        if len(self.background):
            scores -= np.float32(BACKGROUND_WEIGHT) * (ways @ self.background.T).max(axis=1, keepdims=True)
        scores *= np.minimum(1, lengths / self.norms)
        return scores

    def joined(self, others: Sequence[SpeakerModel]) -> SpeakerModels:
        """These voices, and others after them."""
        return SpeakerModels(
            np.concatenate([self.centroids, *(other.centroid[None] for other in others)]),
            np.concatenate([self.prototypes, *(other.prototypes for other in others)]),
            np.concatenate([self.counts, [len(other.prototypes) for other in others]]).astype(np.int64),
            np.concatenate([self.norms, [other.norm for other in others]]).astype(np.float32),
            self.background,
        )


def embed(features: FloatArray, space: Layer) -> FloatArray:
    """Embeddings, shape (n, dimensions), of bottlenecks, shape (n, width)."""
    return embeddings_of_places(features @ space.weights + space.biases)


def embeddings_of_places(places: FloatArray) -> FloatArray:
    """Embeddings of places in the space: which way they lie from its middle.

    Of unit length within a distance of 1, where training's chunks lie; what lies farther out is like no voice,
    whichever way that is, and its embedding shorter by as much. Noise and music lie far out.

    Parameters
    ----------
    places : ndarray of float32, shape (n, dimensions)
    """
    distances = np.linalg.norm(places, axis=-1, keepdims=True)
    result: FloatArray = places / np.maximum(distances * np.maximum(distances, 1), EPSILON)
    return result


def unit_length(vectors: FloatArray) -> FloatArray:
    """Vectors divided by their Euclidean norms."""
    result: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), EPSILON)
    return result


def fit_speaker_model(embeddings: FloatArray) -> SpeakerModel:
    """A voice from embeddings of its chunks, shape (n, dimensions)."""
    ways = unit_length(embeddings)
    norm = max(float(np.linalg.norm(embeddings, axis=1).mean()), EPSILON)
    return SpeakerModel(unit_length(ways.mean(axis=0)), fit_prototypes(ways, MAX_PROTOTYPES), norm)


def fit_speaker_models(embeddings: FloatArray, labels: IntArray, background: FloatArray) -> SpeakerModels:
    """The voices of a training set, label 0 first.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (n, dimensions)
    labels : ndarray of int64, shape (n,)
        Every label from 0 to the highest at least once.
    background : ndarray of float32, shape (m, dimensions)
        Chunks of other people's voices; may be none.
    """
    found = [fit_speaker_model(embeddings[labels == label]) for label in range(int(labels.max()) + 1)]
    nobody = np.zeros((0, embeddings.shape[1]), np.float32)
    others = fit_prototypes(unit_length(background), 4 * MAX_PROTOTYPES) if len(background) else nobody
    return SpeakerModels(nobody, nobody, np.zeros(0, np.int64), np.zeros(0, np.float32), others).joined(found)


def fit_prototypes(embeddings: FloatArray, most: int) -> FloatArray:
    """At most `most` directions that stand for many of unit length (spherical k-means: Dhillon & Modha, 2001)."""
    number = min(most, max(1, len(embeddings) // 3))
    if number == 1:
        return unit_length(embeddings.mean(axis=0, keepdims=True))
    # Lloyd's algorithm from evenly chosen chunks; a handful of points does not repay scikit-learn's start.
    centres: FloatArray = embeddings[np.linspace(0, len(embeddings) - 1, number).astype(int)]
    for _ in range(10):
        nearest = (embeddings @ centres.T).argmax(axis=1)
        member = nearest[None] == np.arange(number)[:, None]
        sums = member.astype(np.float32) @ embeddings
        centres = np.where(member.any(axis=1, keepdims=True), unit_length(sums), centres)
    return centres


def false_acceptance_rate(score: float, impostors: NDArray[np.float32]) -> float:
    """Share of false acceptances if this score were enough: of impostors' scores, those at least as high.

    Counted with one impostor more than there were, at the score itself, so that no score is beyond all doubt
    (Phipson & Smyth, 2010).
    """
    higher = len(impostors) - int(np.searchsorted(np.sort(impostors), score, side="left"))
    return (higher + 1) / (len(impostors) + 1)

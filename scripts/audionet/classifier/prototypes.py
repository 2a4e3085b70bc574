"""Speaker models: centroid and prototypes of each speaker, and scores of embeddings against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from audionet.classifier.head import EPSILON, Layer
from audionet.utils.arrays import FloatArray

if TYPE_CHECKING:
    from audionet.utils.arrays import IntArray

Float = TypeVar("Float", np.float32, np.float64)

MAX_PROTOTYPES = 16
"""Maximum number of prototypes of a speaker, which has one for every three of its chunks."""

BACKGROUND_WEIGHT = 0.25
"""Weight of the similarity to the background, which is subtracted from the similarity to a speaker."""

LEAST_VOICE_SHARE, MOST_VOICE_SHARE = 0.5, 0.9
"""Share of the voice space in the similarity, where labels are voices: of many chunks a label, and of none.

On FSDD, LibriSpeech and speechocean762, half is as good as the better of the two spaces alone, or better, where labels
have many chunks; with two or three, which say little about how the labels differ, three quarters is.
"""

_SHARED_CHUNKS = 4.0  # chunks a label at which the share is half way

COHORT_WEIGHT = 0.5
"""Weight of the similarity to the nearest of the cohort, as of the background's."""

_ITSELF = np.float32(0.999)  # cosine

COHORT_NEAREST = 20
"""Number of cohort speakers that count as the nearest (adaptive score normalisation: Matejka et al., 2017)."""


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
    """Models of all speakers in the embedding space, of the background and of a cohort.

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
    cohort : ndarray of float32, shape (c, voice dimensions)
        Directions in the voice space, the last dimensions of an embedding; (0, 0) without a voice space.
    voice_share : float
        Share of the voice space in a similarity, 0 without one.
    low, high : ndarray of float32, shape (speakers,)
        Similarities of others and of itself to each speaker, which become the scores 0 and 1.
    """

    centroids: FloatArray
    prototypes: FloatArray
    counts: IntArray
    norms: FloatArray
    background: FloatArray
    cohort: FloatArray
    voice_share: float
    low: FloatArray
    high: FloatArray

    def similarities(self, embeddings: FloatArray) -> FloatArray:
        """Compare chunks with each speaker, about -1 to 1, shape (chunks, speakers).

        A similarity is the mean of the cosines to the speaker's centroid and to the nearest of its prototypes, minus
        `BACKGROUND_WEIGHT` times the cosine to the nearest background prototype and `COHORT_WEIGHT` times the mean
        similarity to the nearest of the cohort. It is scaled down for chunks whose embedding has a smaller norm than
        the speaker's.
        """
        if not len(self.counts):
            return np.zeros((len(embeddings), 0), np.float32)
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        norms = np.linalg.norm(embeddings, axis=1, keepdims=True)
        directions = unit_length(embeddings)
        nearest = np.maximum.reduceat(directions @ self.prototypes.T, starts, axis=1)
        found: FloatArray = (directions @ self.centroids.T + nearest) * np.float32(0.5)
        if len(self.background):
            found -= np.float32(BACKGROUND_WEIGHT) * (directions @ self.background.T).max(axis=1, keepdims=True)
        if len(self.cohort):
            root = np.float32(self.voice_share**0.5)
            voices = embeddings[:, -self.cohort.shape[1] :] @ self.cohort.T
            voices[voices >= _ITSELF * root] = -1  # a speaker of the cohort is not compared with itself
            count = min(COHORT_NEAREST, len(self.cohort))
            best = np.partition(voices, -count, axis=1)[:, -count:].mean(axis=1, keepdims=True)
            found -= np.float32(COHORT_WEIGHT) * root * best
        found *= np.minimum(1, norms / self.norms)
        return found

    def scores(self, embeddings: FloatArray) -> FloatArray:
        """Score chunks against each speaker, shape (chunks, speakers): 0 is like others, 1 like the speaker itself."""
        found: FloatArray = self.similarities(embeddings)
        found -= self.low
        found /= self.high - self.low
        return found

    def with_scale(self, low: FloatArray, high: FloatArray) -> SpeakerModels:
        """Return the same speakers with other similarities for the scores 0 and 1."""
        return replace(self, low=low, high=high)

    def joined(self, others: Sequence[SpeakerModel]) -> SpeakerModels:
        """Return these speakers followed by others, who get the mean scale."""
        low, high = (float(end.mean()) if len(end) else default for end, default in ((self.low, 0), (self.high, 1)))
        return replace(
            self,
            centroids=np.concatenate([self.centroids, *(other.centroid[None] for other in others)]),
            prototypes=np.concatenate([self.prototypes, *(other.prototypes for other in others)]),
            counts=np.concatenate([self.counts, [len(other.prototypes) for other in others]]).astype(np.int64),
            norms=np.concatenate([self.norms, [other.norm for other in others]]).astype(np.float32),
            low=np.append(self.low, np.full(len(others), low)).astype(np.float32),
            high=np.append(self.high, np.full(len(others), high)).astype(np.float32),
        )


_NONE = np.zeros((0, 0), np.float32)

NO_SPEAKERS = SpeakerModels(
    _NONE, _NONE, np.zeros(0, np.int64), _NONE.ravel(), _NONE, _NONE, 0.0, _NONE.ravel(), _NONE.ravel()
)
"""Models of no speaker, to begin with."""


def read_outputs(outputs: FloatArray, models: SpeakerModels) -> tuple[FloatArray, FloatArray | None]:
    """Read a model's second output: embeddings, and the logit of speech if the model has a detector.

    Parameters
    ----------
    outputs : ndarray of float32, shape (n, dimensions or one more)
        Whitened embeddings in the model's own space, projections to the voice space, and the logit.
    models : SpeakerModels
        Of the same model.

    Returns
    -------
    embeddings : ndarray of float32, shape (n, dimensions)
    speech : ndarray of float32, shape (n,), or None
    """
    dimensions, voices = models.centroids.shape[1], models.cohort.shape[1]
    own = dimensions - voices
    embeddings = normalise_embeddings(outputs[:, :own])
    if voices:
        embeddings = join_voices(embeddings, unit_length(outputs[:, own:dimensions]), models.voice_share)
    return embeddings, outputs[:, dimensions] if outputs.shape[1] > dimensions else None


def join_voices(own: FloatArray, directions: FloatArray, share: float) -> FloatArray:
    """Join embeddings in a model's own space with directions in the voice space: a cosine is a weighted mean of both.

    Parameters
    ----------
    own : ndarray of float32, shape (n, dimensions)
        Norm at most 1.
    directions : ndarray of float32, shape (n, voice dimensions)
        Unit length.
    share : float
        Of the voice space, 0 to 1.
    """
    joined: FloatArray = np.concatenate(
        [own * np.float32((1 - share) ** 0.5), directions * np.float32(share**0.5)], axis=1
    )
    return joined


def voice_share(chunks: float) -> float:
    """Return the share of the voice space for a number of chunks a label that the model's own space is fitted on."""
    return LEAST_VOICE_SHARE + (MOST_VOICE_SHARE - LEAST_VOICE_SHARE) * _SHARED_CHUNKS / (_SHARED_CHUNKS + chunks)


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


def unit_length(vectors: NDArray[Float]) -> NDArray[Float]:
    """Divide vectors by their Euclidean norms."""
    result: NDArray[Float] = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), EPSILON)
    return result


def fit_speaker_model(embeddings: FloatArray) -> SpeakerModel:
    """Fit the model of one speaker to embeddings of its chunks, shape (n, dimensions)."""
    directions = unit_length(embeddings)
    norm = max(float(np.linalg.norm(embeddings, axis=1).mean()), EPSILON)
    return SpeakerModel(unit_length(directions.mean(axis=0)), fit_prototypes(directions, MAX_PROTOTYPES), norm)


def fit_speaker_models(embeddings: FloatArray, labels: IntArray, background: FloatArray) -> SpeakerModels:
    """Fit the speaker models of a training set, label 0 first, without a cohort.

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
    return replace(NO_SPEAKERS, centroids=empty, prototypes=empty, background=others).joined(models)


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


def acceptance_threshold(impostors: NDArray[np.float32], rate: float) -> float:
    """Return the lowest score whose `false_acceptance_rate` is at most a rate; infinite if there is none."""
    allowed = int(np.floor(rate * (len(impostors) + 1) * (1 + 1e-9))) - 1
    if allowed < 0:
        return float("inf")
    ordered = np.sort(impostors)
    return float(np.nextafter(ordered[-allowed - 1], np.float32(np.inf))) if allowed < len(ordered) else float("-inf")

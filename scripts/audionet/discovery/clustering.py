"""Clustering of pieces of speech by voice, the number of voices unknown.

A Gaussian model of voices, after two-covariance PLDA (Brümmer & de Villiers, The speaker partitioning problem, 2010):
the embedding of a piece is that of its voice, plus a deviation that is the smaller the longer the piece is. Clusters
are merged as long as the model finds one voice more likely than two; then the pieces are assigned anew, as by a hidden
Markov model whose states are the voices (Landini et al., Bayesian HMM clustering of x-vector sequences, 2022), so that
a short piece follows its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.classifier.prototypes import unit_length
from audionet.utils.arrays import BoolArray, Float64Array, FloatArray, IntArray, evenly
from audionet.utils.settings import require, setting

_VOICE_SHARE = 0.6  # of the variance of the embeddings of long pieces, which is that between voices
_DIMENSIONS = 30.0  # in which pieces deviate independently
_LONG_SECONDS = 3.0  # longer pieces deviate no less
_LEAST_SECONDS = 1.0  # shorter pieces are not merged, but assigned
_MOST_WEIGHT = 10.0  # of a cluster, in long pieces: what more of them share is not the voice, but a room or a mood
_MOST_MERGED = 3000  # pieces; the others are assigned
_SEED_SECONDS = 1.5  # what a cluster has to have before pieces are assigned to it
_SWITCH_COST, _SWITCH_SECONDS = 5.0, 3.0  # logarithm of the odds against another voice, the less the longer the pause
_PASSES = 40


@dataclass(frozen=True)
class ClusterConfig:
    """Settings of the clustering."""

    voices: int | None = setting(None, "number of voices, where it is known", group="voices")
    min_voices: int = setting(1, "least number of voices")
    max_voices: int | None = setting(None, "greatest number of voices")
    min_seconds: float = setting(
        5.0, "seconds for which a voice speaks at least, in all recordings together", group="voices"
    )

    def __post_init__(self) -> None:
        require(self.voices is None or self.voices >= 1, "voices", self.voices, "at least 1")
        require(self.min_voices >= 1, "min_voices", self.min_voices, "at least 1")
        free = self.voices is None or (self.min_voices == 1 and self.max_voices is None)
        require(free, "voices", self.voices, "without --min_voices and --max_voices")
        limited = self.max_voices is None or self.max_voices >= self.min_voices
        require(limited, "max_voices", self.max_voices, "at least --min_voices")
        require(0 <= self.min_seconds < np.inf, "min_seconds", self.min_seconds, "0 or more seconds")

    @property
    def least(self) -> int:
        """Least number of voices."""
        return self.min_voices if self.voices is None else self.voices

    @property
    def most(self) -> float:
        """Greatest number of voices."""
        if self.voices is not None:
            return self.voices
        return np.inf if self.max_voices is None else self.max_voices


class Voices(NamedTuple):
    """Voices of pieces.

    Attributes
    ----------
    labels : ndarray of int64, shape (n,)
        From 0, in the order in which they are first heard.
    certainty : ndarray of float64, shape (n,)
        Cosine with the voice's mean embedding, less that with the most similar other voice's (or 0), -2 to 2.
    """

    labels: IntArray
    certainty: Float64Array


class _Sums(NamedTuple):
    """Weights of the pieces of clusters, shape (k,), and their weighted sums of embeddings, shape (k, dimensions)."""

    weights: Float64Array
    vectors: Float64Array

    def where(self, chosen: BoolArray) -> _Sums:
        return _Sums(self.weights[chosen], self.vectors[chosen])


def cluster_voices(
    vectors: FloatArray, starts: Float64Array, ends: Float64Array, recordings: IntArray, config: ClusterConfig
) -> Voices:
    """Cluster pieces by voice, all recordings together.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dimensions)
        Embeddings in the voice space, of unit length; n at least 1.
    starts, ends : ndarray of float64, shape (n,)
        Seconds.
    recordings : ndarray of int64, shape (n,)
        Recording of each piece, ascending; its pieces in the order of time.
    config : ClusterConfig
    """
    exact, seconds = vectors.astype(np.float64), ends - starts
    weights = np.minimum(seconds, _LONG_SECONDS) / _LONG_SECONDS
    long = np.flatnonzero(seconds >= _LEAST_SECONDS)
    if len(long) < min(len(exact), 2 * config.least):
        long = np.arange(len(exact))
    merged = long[evenly(len(long), _MOST_MERGED)]
    spoken = seconds[merged] * (len(long) / len(merged))
    members = _merge(exact[merged], weights[merged], spoken, config)
    sums = _sums(exact[merged], weights[merged], members)
    heard = _totals(spoken, members, len(sums.weights))
    if (heard >= _SEED_SECONDS).sum() >= config.least:
        sums = sums.where(heard >= _SEED_SECONDS)
    pauses = np.append(np.inf, np.where(np.diff(recordings) == 0, np.maximum(starts[1:] - ends[:-1], 0), np.inf))
    labels = np.zeros(len(exact), np.int64)
    for _ in range(_PASSES):
        labels = _assign(_log_likelihoods(exact, weights, sums), pauses, config.least)
        heard = _totals(seconds, labels, len(sums.weights))
        kept = _kept(heard, config)
        new = _sums(exact, weights, labels, len(heard)).where(kept)
        if kept.all() and np.array_equal(new.weights, sums.weights):
            break
        sums = new
    labels = _assign(_log_likelihoods(exact, weights, sums), pauses, config.least)
    _, first, labels = np.unique(labels, return_index=True, return_inverse=True)
    labels = np.argsort(np.argsort(first))[labels]
    return Voices(labels, _certainty(exact, weights, labels))


def _kept(heard: Float64Array, config: ClusterConfig) -> BoolArray:
    """Return which voices stay: of those heard too briefly, a third leave at a time, the briefest first."""
    order = np.argsort(heard)
    brief = int((heard < config.min_seconds).sum())
    leaving = min(-(-brief // 3), max(0, len(heard) - config.least))
    kept = np.ones(len(heard), bool)
    kept[order[: max(leaving, int(max(0, len(heard) - config.most)))]] = False
    kept[heard == 0] = False
    return kept


def _sums(vectors: Float64Array, weights: Float64Array, labels: IntArray, number: int | None = None) -> _Sums:
    found = np.zeros((number or int(labels.max()) + 1, vectors.shape[1]))
    np.add.at(found, labels, vectors * weights[:, None])
    return _Sums(_totals(weights, labels, len(found)), found)


def _totals(values: Float64Array, labels: IntArray, number: int) -> Float64Array:
    return np.bincount(labels, values, minlength=number).astype(np.float64)


def _evidence(weights: Float64Array, squares: Float64Array) -> Float64Array:
    """Compute the log likelihood of clusters as one voice each, from the squared norms of their weighted sums.

    Relative to that of pieces which share no voice's mean; constants of each piece are left out.
    """
    between, within = _VOICE_SHARE / _DIMENSIONS, (1 - _VOICE_SHARE) / _DIMENSIONS
    found: Float64Array = between * squares / (2 * within * (within + between * weights))
    return found - _DIMENSIONS / 2 * np.log1p(between * weights / within)


def _gains(a: int, weights: Float64Array, products: Float64Array) -> Float64Array:
    """Compute the log likelihood ratio of one voice to two, for cluster `a` and each other one.

    Parameters
    ----------
    a : int
    weights : ndarray of float64, shape (n,)
    products : ndarray of float64, shape (n, n)
        Scalar products of the clusters' weighted sums.
    """
    counted = np.minimum(weights, _MOST_WEIGHT)
    shares = counted / weights
    squares = np.diag(products) * shares**2
    alone = _evidence(counted, squares)
    together = _evidence(counted[a] + counted, squares[a] + squares + 2 * products[a] * shares[a] * shares)
    found: Float64Array = together - alone[a] - alone
    found[a] = -np.inf
    return found


def _merge(vectors: Float64Array, weights: Float64Array, seconds: Float64Array, config: ClusterConfig) -> IntArray:
    """Merge the two clusters whose merging is likeliest, from single pieces on, and return each piece's cluster.

    It ends where two voices are likelier than one, or at the greatest number of voices; where fewer than the least
    number are left, the last merges are undone.
    """
    number = len(vectors)
    weight, heard = weights.copy(), seconds.copy()
    weighted = vectors * weights[:, None]
    products = weighted @ weighted.T
    merges: list[tuple[int, int]] = []
    counts: list[int] = []
    gains = np.stack([_gains(a, weight, products) for a in range(number)])
    best, partner = gains.max(axis=1), gains.argmax(axis=1)
    while len(counts) < number:
        counts.append(int(((heard > 0) & (heard >= config.min_seconds)).sum()))
        a = int(best.argmax())
        b = int(partner[a])
        if len(counts) == number or (best[a] <= 0 and counts[-1] <= config.most):
            break
        merges.append((a, b))
        weight[a], heard[a], heard[b] = weight[a] + weight[b], heard[a] + heard[b], 0
        products[a] += products[b]
        products[:, a] += products[:, b]
        row = _gains(a, weight, products)
        row[np.isneginf(gains[a])] = row[b] = -np.inf
        gains[a] = gains[:, a] = row
        gains[b] = gains[:, b] = best[b] = -np.inf
        best[a], partner[a] = row.max(), row.argmax()
        for place in np.flatnonzero(((partner == b) | (partner == a)) & ~np.isneginf(best)):
            best[place], partner[place] = gains[place].max(), gains[place].argmax()
        better = row > best
        best[better], partner[better] = row[better], a
    least = min(config.least, max(counts))
    members = np.arange(number)
    for a, b in merges[: max(place for place, count in enumerate(counts) if count >= least)]:
        members[members == b] = a
    return np.unique(members, return_inverse=True)[1]


def _log_likelihoods(vectors: Float64Array, weights: Float64Array, sums: _Sums) -> Float64Array:
    """Compute the log likelihood of each piece, shape (n, k), if it is of a voice, up to a constant of the piece."""
    between, within = _VOICE_SHARE / _DIMENSIONS, (1 - _VOICE_SHARE) / _DIMENSIONS
    shrinkage = between / (within + between * sums.weights)
    means = sums.vectors * shrinkage[:, None]
    spread = np.square(means).sum(axis=1) + _DIMENSIONS * within * shrinkage  # squared mean, and its variance
    found: Float64Array = weights[:, None] * (2 * vectors @ means.T - spread) / (2 * within)
    return found


def _assign(likelihoods: Float64Array, pauses: Float64Array, least: int) -> IntArray:
    """Assign pieces to voices: with their neighbours, unless fewer voices than the least number would be left."""
    labels = _most_likely(likelihoods, pauses)
    return labels if len(np.unique(labels)) >= least else likelihoods.argmax(axis=1)


def _most_likely(likelihoods: Float64Array, pauses: Float64Array) -> IntArray:
    """Find the likeliest sequence of voices (Viterbi, 1967), given the pause before each piece, infinite where none."""
    number, voices = likelihoods.shape
    costs = _SWITCH_COST * np.exp(-pauses / _SWITCH_SECONDS)
    came_from = np.zeros((number, voices), np.int64)
    score = likelihoods[0]
    for place in range(1, number):
        before = int(score.argmax())
        switched = score[before] - costs[place]
        came_from[place] = np.where(score >= switched, np.arange(voices), before)
        score = np.maximum(score, switched) + likelihoods[place]
    labels = np.zeros(number, np.int64)
    labels[-1] = score.argmax()
    for place in range(number - 1, 0, -1):
        labels[place - 1] = came_from[place, labels[place]]
    return labels


def _certainty(vectors: Float64Array, weights: Float64Array, labels: IntArray) -> Float64Array:
    means = _sums(vectors, weights, labels).vectors
    cosines = vectors @ unit_length(means).T
    rows = np.arange(len(labels))
    own = cosines[rows, labels]
    cosines[rows, labels] = -np.inf
    certainty: Float64Array = own - np.maximum(cosines.max(axis=1), 0)
    return certainty

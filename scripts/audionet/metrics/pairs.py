"""Scores of pairs of recordings: products, cohort normalisation, and error rates with speakers resampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from audionet.metrics.detection import Detection
from audionet.utils.arrays import AnyFloatArray, BoolArray, IntArray

Float = TypeVar("Float", np.float32, np.float64)

COHORT_NEAREST = 100
"""Number of cohort speakers by which adaptive normalisation normalises a side: its most similar ones."""

_RESAMPLES = 200
_MAX_MATRIX = 1 << 25  # products that are computed at once, whether a pair needs them or not
_PAIRS_AT_A_TIME = 4096
_LEAST_DEVIATION = 1e-6


class Pairs(NamedTuple):
    """Pairs to compare.

    Attributes
    ----------
    first, second : ndarray of int64, shape (n,)
        Row of each side among the vectors of its side.
    target : ndarray of bool, shape (n,)
        True where both are of one speaker.
    """

    first: IntArray
    second: IntArray
    target: BoolArray

    def where(self, chosen: BoolArray) -> Pairs:
        """Return some of the pairs."""
        return Pairs(self.first[chosen], self.second[chosen], self.target[chosen])


def pair_products(first: NDArray[Float], second: NDArray[Float], pairs: Pairs) -> NDArray[Float]:
    """Compute the scalar product of each pair, shape (pairs,): its cosine, if vectors have unit length.

    Parameters
    ----------
    first, second : ndarray of float, shape (rows, width)
        Vectors of each side.
    pairs : Pairs
    """
    if len(first) * len(second) <= _MAX_MATRIX:
        every: NDArray[Float] = first @ second.T
        return every[pairs.first, pairs.second]
    products = np.empty(len(pairs.first), first.dtype)
    for start in range(0, len(products), _PAIRS_AT_A_TIME):
        some = slice(start, start + _PAIRS_AT_A_TIME)
        np.einsum("nd,nd->n", first[pairs.first[some]], second[pairs.second[some]], out=products[some])
    return products


def normalise_by_cohort(
    scores: NDArray[Float],
    first: NDArray[Float],
    second: NDArray[Float],
    pairs: Pairs,
    nearest: int | None = None,
) -> NDArray[Float]:
    """Normalise scores by those of each side against cohort speakers: all (S-norm), or its nearest (AS-norm).

    Symmetric: Kenny, Bayesian speaker verification with heavy-tailed priors, 2010; adaptive: Matejka et al., 2017.

    Parameters
    ----------
    scores : ndarray of float, shape (pairs,)
    first, second : ndarray of float, shape (rows, cohort)
        Scores of each vector of a side against each cohort speaker.
    pairs : Pairs
    nearest : int, optional
        Number of most similar cohort speakers; default: all.

    Returns
    -------
    ndarray of float, shape (pairs,)
        Mean over both sides of the deviation from the cohort's mean, in its standard deviations.
    """
    sides: list[NDArray[Float]] = []
    for against, rows in ((first, pairs.first), (second, pairs.second)):
        if nearest is not None and nearest < against.shape[1]:
            against = np.partition(against, -nearest, axis=1)[:, -nearest:]
        mean, deviation = against.mean(axis=1), np.maximum(against.std(axis=1), _LEAST_DEVIATION)
        sides.append((scores - mean[rows]) / deviation[rows])
    normalised: NDArray[Float] = np.mean(sides, axis=0)
    return normalised


def resampled(
    scores: AnyFloatArray, target: BoolArray, first: IntArray, second: IntArray, seed: int, samples: int = _RESAMPLES
) -> Iterator[Detection]:
    """Yield the operating points of trials whose speakers are resampled (bootstrap: Efron and Tibshirani, 1993).

    A pair of two speakers counts as often as the product of how often they were drawn, a pair of one speaker as often
    as that speaker: pairs that share a speaker are not independent. Resamples without targets or nontargets are left
    out.

    Parameters
    ----------
    scores : ndarray of float, shape (pairs,)
    target : ndarray of bool, shape (pairs,)
    first, second : ndarray of int64, shape (pairs,)
        Speaker of each side, from 0.
    seed, samples : int
    """
    if not len(scores):
        return
    order = np.argsort(-scores, kind="stable")
    scores, target = scores[order], target[order]
    starts = np.append(0, np.flatnonzero(np.diff(scores)) + 1)  # of each group of equal scores
    targets_of = np.add.reduceat(target.astype(np.int64), starts)
    kind = np.where(targets_of == 0, 0, np.where(targets_of == np.diff(np.append(starts, len(scores))), 1, 2))
    # Between groups of targets alone, or of nontargets alone, the curve is straight, whatever their weights.
    corners = np.append(True, (kind[1:] != kind[:-1]) | (kind[1:] == 2))
    thresholds = np.append(np.inf, scores[np.append(starts[corners][1:], len(scores)) - 1])
    starts = starts[corners]
    count = int(max(first.max(), second.max())) + 1
    # The second side of a target, the same speaker, counts once.
    one, other = first[order], np.where(target, count, second[order])
    generator = np.random.default_rng(seed)
    for _ in range(samples):
        drawn = np.append(generator.multinomial(count, np.full(count, 1 / count)), 1)
        weights = drawn[one] * drawn[other]
        accepted = np.cumsum(np.add.reduceat(weights, starts))
        hits = np.cumsum(np.add.reduceat(weights * target, starts))
        targets, nontargets = int(hits[-1]), int(accepted[-1] - hits[-1])
        if targets and nontargets:
            false_alarms = np.append(0.0, (accepted - hits) / nontargets)
            yield Detection(targets, nontargets, thresholds, false_alarms, np.append(1.0, 1 - hits / targets))


def percentile_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % percentile interval of a measure over resamples; NaN without any."""
    if not values:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)

"""Bootstrap confidence intervals, with recordings as the units that are resampled."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from audionet.metrics.accuracy import Accuracy, Groups, accuracy
from audionet.utils.arrays import AnyFloatArray, BoolArray

_RESAMPLES = 2000


def grouped_accuracy(right: BoolArray, groups: Sequence[str]) -> Accuracy:
    """Compute the accuracy with its 95 % confidence interval.

    Wilson's interval where each group has one answer, else the bootstrap over groups. Where all groups are alike, the
    bootstrap interval has no width and proves nothing: then Wilson's, widened by the design effect (see
    `metrics.accuracy`).
    """
    if len(set(groups)) == len(groups):
        return accuracy(right)
    whole = accuracy(right, groups)
    members = Groups(groups)
    low, high = bootstrap_ratio(np.bincount(members.member, right).astype(float), members.sizes.astype(float))
    return whole if low == high else dataclasses.replace(whole, low=low, high=high)


def paired_difference(
    pairs: Sequence[tuple[BoolArray, BoolArray, Sequence[str]]], seed: int, samples: int = _RESAMPLES
) -> tuple[float, float, float]:
    """Compute the mean over conditions of the difference of two accuracies, with its 95 % bootstrap interval.

    Each resample draws the same recordings for both systems and all conditions (paired percentile bootstrap, Efron and
    Tibshirani, 1993), so that recordings that are hard for both do not widen the interval.

    Parameters
    ----------
    pairs : sequence of (ndarray of bool, ndarray of bool, sequence of str)
        For each condition: which answers of each system are right, and the recording of each answer.
    seed, samples : int

    Returns
    -------
    difference, low, high : float
    """
    place = {name: i for i, name in enumerate(dict.fromkeys(name for *_, groups in pairs for name in groups))}
    gained, answered = np.zeros((len(place), len(pairs))), np.zeros((len(place), len(pairs)))
    for condition, (one, other, groups) in enumerate(pairs):
        member = np.array([place[name] for name in groups])
        gained[:, condition] = np.bincount(member, one.astype(float) - other, len(place))
        answered[:, condition] = np.bincount(member, minlength=len(place))
    drawn = np.random.default_rng(seed).multinomial(len(place), np.full(len(place), 1 / len(place)), samples)
    differences = (drawn @ gained / np.maximum(drawn @ answered, 1)).mean(axis=1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return float((gained.sum(axis=0) / answered.sum(axis=0)).mean()), float(low), float(high)


_MAX_DRAWN = 4_000_000  # numbers that the bootstrap holds in memory at once


def bootstrap_ratio(
    numerators: AnyFloatArray, denominators: AnyFloatArray, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of a ratio of sums over recordings (Efron and Tibshirani, 1993).

    For accuracy per chunk, a recording's numerator is its number of right chunks, its denominator its number of chunks:
    chunks of one recording are correlated, so recordings are resampled. Where all are right, or all wrong, every
    resample is the same and the interval has no width; it proves nothing then: report Wilson's interval
    (`metrics.accuracy`) beside it.

    Parameters
    ----------
    numerators, denominators : ndarray of float, shape (recordings,)
        Denominators are at least 0.
    samples, seed : int

    Returns
    -------
    low, high : float
        NaN if all denominators are 0.
    """
    pairs = np.stack([numerators, denominators]).astype(np.float64)
    if not pairs[1].any():
        return float("nan"), float("nan")
    # Recordings with equal numbers are interchangeable: drawing the count of each kind is equivalent, and faster.
    kinds, sizes = np.unique(pairs, axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    block = max(1, _MAX_DRAWN // len(sizes))
    ratios = []
    for start in range(0, samples, block):
        drawn = generator.multinomial(len(numerators), sizes / sizes.sum(), min(block, samples - start))
        above, below = kinds @ drawn.T
        ratios.append(above[below > 0] / below[below > 0])
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return float(low), float(high)


def bootstrap(
    values: AnyFloatArray, weights: AnyFloatArray | None = None, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of the (weighted) mean of recordings' values; see `bootstrap_ratio`.

    Parameters
    ----------
    values, weights : ndarray of float, shape (recordings,)
    samples, seed : int
    """
    weights = np.ones(len(values)) if weights is None else weights
    return bootstrap_ratio(values * weights, weights, samples, seed)

"""Probabilities that mean what they say: a temperature, fitted on recordings that were not trained on."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from audionet.classifier.head import softmax
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import FloatArray, IntArray, evenly

_LOWEST, _HIGHEST = 0.05, 20.0
_LEAST_PROBABILITY = 1e-30
_MOST_NUMBERS = 20_000_000


def apply_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Probabilities, shape (..., labels), as if their logits had been divided by a temperature.

    Above 1 they are less sure, below 1 surer; which label is the most probable does not change.
    """
    logits: FloatArray = np.log(np.maximum(probabilities, np.float32(_LEAST_PROBABILITY)))
    logits /= np.float32(temperature)
    return softmax(logits)


def fit_temperature(probabilities: FloatArray, labels: IntArray, recordings: Sequence[Hashable]) -> float:
    """The temperature under which recordings' answers are as sure as they are right (Guo et al., 2017).

    Least cross entropy of what people are told: the mean over a recording's chunks. Its targets are not 1 but
    ``(n + 1) / (n + 2)`` for n recordings (Platt, 1999): eight right answers of eight are no proof of certainty, and
    without that the best temperature of a network that makes no mistake would be 0.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (chunks, labels)
        Of the validation set.
    labels : ndarray of int64, shape (chunks,)
    recordings : sequence of chunks hashable
        The recording that each chunk belongs to.

    Returns
    -------
    float
        1 where there is nothing to fit it on.
    """
    if not len(labels) or probabilities.shape[1] < 2:
        return 1.0
    from scipy.optimize import minimize_scalar

    groups = Groups(recordings)
    most = max(1, _MOST_NUMBERS * len(groups.names) // probabilities.size)
    if most < len(groups.names):
        rows = np.flatnonzero(np.isin(groups.member, evenly(len(groups.names), most)))
        return fit_temperature(probabilities[rows], labels[rows], groups.member[rows].tolist())
    true = np.empty(len(groups.names), np.int64)
    true[groups.member] = labels
    target = (len(true) + 1) / (len(true) + 2)

    def cross_entropy(log_temperature: float) -> float:
        means = groups.mean(apply_temperature(probabilities, float(np.exp(log_temperature)))).astype(np.float64)
        right = np.clip(means[np.arange(len(true)), true], 1e-12, 1 - 1e-12)
        return float(-(target * np.log(right) + (1 - target) * np.log(1 - right)).mean())

    found = minimize_scalar(cross_entropy, bounds=(np.log(_LOWEST), np.log(_HIGHEST)), method="bounded")
    return float(np.exp(found.x))

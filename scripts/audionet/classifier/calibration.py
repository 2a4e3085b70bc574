"""Calibration of probabilities: a temperature fitted on validation recordings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from audionet.classifier.head import softmax
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import FloatArray, IntArray, evenly

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
_MIN_PROBABILITY = 1e-30
_MAX_VALUES = 20_000_000


def apply_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Divide the logits of probabilities, shape (..., labels), by a temperature.

    Temperatures above 1 make the probabilities less confident, below 1 more; the most probable label stays the same.
    """
    logits: FloatArray = np.log(np.maximum(probabilities, np.float32(_MIN_PROBABILITY)))
    logits /= np.float32(temperature)
    return softmax(logits)


def fit_temperature(probabilities: FloatArray, labels: IntArray, recordings: Sequence[Hashable]) -> float:
    """Fit the temperature that calibrates the predictions for recordings (Guo et al., 2017).

    Minimises the cross-entropy of the reported probabilities, the mean over a recording's chunks. The targets are not 1
    but ``(n + 1) / (n + 2)`` for n recordings (Platt, 1999): eight correct predictions of eight do not prove certainty,
    and with targets of 1 the best temperature of a network that makes no mistake would be 0.

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
        1 if there are no chunks, or fewer than two labels.
    """
    if not len(labels) or probabilities.shape[1] < 2:
        return 1.0
    from scipy.optimize import minimize_scalar

    groups = Groups(recordings)
    max_recordings = max(1, _MAX_VALUES * len(groups.names) // probabilities.size)
    if max_recordings < len(groups.names):
        rows = np.flatnonzero(np.isin(groups.member, evenly(len(groups.names), max_recordings)))
        return fit_temperature(probabilities[rows], labels[rows], groups.member[rows].tolist())
    true = np.empty(len(groups.names), np.int64)
    true[groups.member] = labels
    target = (len(true) + 1) / (len(true) + 2)

    def cross_entropy(log_temperature: float) -> float:
        means = groups.mean(apply_temperature(probabilities, float(np.exp(log_temperature)))).astype(np.float64)
        probability = np.clip(means[np.arange(len(true)), true], 1e-12, 1 - 1e-12)
        return float(-(target * np.log(probability) + (1 - target) * np.log(1 - probability)).mean())

    found = minimize_scalar(
        cross_entropy, bounds=(np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE)), method="bounded"
    )
    return float(np.exp(found.x))

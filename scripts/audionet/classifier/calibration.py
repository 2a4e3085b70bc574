"""Calibration of probabilities: a temperature fitted on validation recordings."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from audionet.classifier.head import softmax
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import AnyFloatArray, FloatArray, IntArray, evenly

_MIN_TEMPERATURE, _MAX_TEMPERATURE = 0.05, 20.0
_MIN_PROBABILITY = 1e-30
_MAX_VALUES = 20_000_000
_PRIOR_DEVIATION = 0.25  # of the logarithm of the temperature
_COMPARED_TEMPERATURES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)


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
    and with targets of 1 the best temperature of a network that makes no mistake would be 0. A normal prior of the
    temperature's logarithm about 0 keeps few recordings from changing much; many decide.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (chunks, labels)
        Of recordings that the network was not trained on.
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
    found = minimize_scalar(
        lambda log_temperature: (
            float(_losses(probabilities, labels, groups, float(np.exp(log_temperature))).sum())
            + 0.5 * (log_temperature / _PRIOR_DEVIATION) ** 2
        ),
        bounds=(np.log(_MIN_TEMPERATURE), np.log(_MAX_TEMPERATURE)),
        method="bounded",
    )
    return float(np.exp(found.x))


def calibrated_losses(probabilities: FloatArray, labels: IntArray, recordings: Groups[Any]) -> AnyFloatArray:
    """Compute the loss of the prediction for each recording, at the best of a few temperatures.

    Compares classifiers by what calibration leaves of their loss, so that none is chosen for its confidence.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (chunks, labels)
    labels : ndarray of int64, shape (chunks,)
    recordings : Groups
        The recording that each chunk belongs to.

    Returns
    -------
    ndarray of float64, shape (recordings,)
    """
    found = [_losses(probabilities, labels, recordings, temperature) for temperature in _COMPARED_TEMPERATURES]
    return min(found, key=lambda losses: float(losses.mean()))


def _losses(probabilities: FloatArray, labels: IntArray, groups: Groups[Any], temperature: float) -> AnyFloatArray:
    """Compute the cross entropy of each of n recordings at a temperature, with targets of ``(n + 1) / (n + 2)``."""
    target = (len(groups.names) + 1) / (len(groups.names) + 2)
    true = groups.value(labels)
    means = groups.mean(apply_temperature(probabilities, temperature)).astype(np.float64)
    probability = np.clip(means[np.arange(len(true)), true], 1e-12, 1 - 1e-12)
    losses: AnyFloatArray = -(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    return losses

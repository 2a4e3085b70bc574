"""Calibration of probabilities: a temperature and the weight of scores, fitted on held-out recordings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from audionet.classifier.head import softmax
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import AnyFloatArray, Float64Array, FloatArray, IntArray, evenly

_MIN_PROBABILITY = 1e-30
_MAX_VALUES = 20_000_000
_TEMPERATURE_DEVIATION = 0.25  # of the logarithm of the temperature
_WEIGHTS = np.log([0.25, 6.0])  # prior means of the logarithms of the weights of head and scores
_WEIGHT_DEVIATION = 0.5
_COMPARED_TEMPERATURES = (0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8)


def apply_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Divide the logits of probabilities, shape (..., labels), by a temperature.

    Temperatures above 1 make the probabilities less confident, below 1 more; the most probable label stays the same.
    """
    logits: FloatArray = np.log(np.maximum(probabilities, np.float32(_MIN_PROBABILITY)))
    logits /= np.float32(temperature)
    return softmax(logits)


def join_scores(probabilities: FloatArray, scores: FloatArray, head_weight: float, score_weight: float) -> FloatArray:
    """Join probabilities with the scores of speaker models.

    The logits become ``head_weight * log(probability) + score_weight * score``. Speaker models know more where a label
    has few recordings, and the classifier head where it has many.

    Parameters
    ----------
    probabilities, scores : ndarray of float32, shape (n, labels)
    head_weight, score_weight : float
        0 or more.
    """
    logits: FloatArray = np.log(np.maximum(probabilities, np.float32(_MIN_PROBABILITY)))
    logits *= np.float32(head_weight)
    logits += np.float32(score_weight) * scores
    return softmax(logits)


class Calibration(NamedTuple):
    """Calibration of a model's probabilities.

    Attributes
    ----------
    temperature : float
        By which the logits of the classifier head are divided.
    head_weight, score_weight : float
        Weights of the head's probabilities and of the scores of speaker models, see `join_scores`.
    """

    temperature: float = 1.0
    head_weight: float = 1.0
    score_weight: float = 0.0

    def apply(self, probabilities: FloatArray, scores: FloatArray) -> FloatArray:
        """Calibrate the classifier head's probabilities, shape (n, labels), and join the scores, of the same shape."""
        calibrated = apply_temperature(probabilities, self.temperature)
        return join_scores(calibrated, scores, self.head_weight, self.score_weight)


def fit_calibration(
    probabilities: FloatArray, scores: FloatArray, labels: IntArray, recordings: Sequence[Hashable]
) -> Calibration:
    """Fit the temperature of the head (Guo et al., 2017), then the weights of head and scores (Brümmer et al., 2007).

    Minimises the cross-entropy of the reported probabilities, the mean over a recording's chunks. The targets are not 1
    but ``(n + 1) / (n + 2)`` for n recordings (Platt, 1999): eight correct predictions of eight do not prove certainty,
    and with targets of 1 the best temperature of a network that makes no mistake would be 0. Normal priors of the
    logarithms keep few recordings from changing much; many decide. The weights' prior means are those that suit digits,
    wake words, sounds and speakers of one to forty recordings.

    Parameters
    ----------
    probabilities, scores : ndarray of float32, shape (chunks, labels)
        Of recordings that the models were not trained on.
    labels : ndarray of int64, shape (chunks,)
    recordings : sequence of chunks hashable
        The recording that each chunk belongs to.

    Returns
    -------
    Calibration
        The priors' own if there are no chunks; without effect if there are fewer than two labels.
    """
    if probabilities.shape[1] < 2:
        return Calibration()
    if not len(labels):
        return Calibration(1.0, *np.exp(_WEIGHTS).tolist())
    groups = Groups(recordings)
    max_recordings = max(1, _MAX_VALUES * len(groups.names) // probabilities.size)
    if max_recordings < len(groups.names):
        rows = np.flatnonzero(np.isin(groups.member, evenly(len(groups.names), max_recordings)))
        return fit_calibration(probabilities[rows], scores[rows], labels[rows], groups.member[rows].tolist())

    def loss_of_head(values: Float64Array) -> float:
        prior = 0.5 * float((values[0] / _TEMPERATURE_DEVIATION) ** 2)
        cooled = apply_temperature(probabilities, float(np.exp(values[0])))
        return float(_losses(cooled, labels, groups).sum()) + prior

    temperature = float(np.exp(_minimum(loss_of_head, np.zeros(1))[0]))
    calibrated = apply_temperature(probabilities, temperature)

    def loss(values: Float64Array) -> float:
        prior = 0.5 * float((((values - _WEIGHTS) / _WEIGHT_DEVIATION) ** 2).sum())
        return float(_losses(join_scores(calibrated, scores, *np.exp(values)), labels, groups).sum()) + prior

    return Calibration(temperature, *np.exp(_minimum(loss, _WEIGHTS)).tolist())


def _minimum(loss: Callable[[Float64Array], float], start: Float64Array) -> Float64Array:
    """Find the logarithms, each from -5 to 5, at which a loss is lowest."""
    from scipy.optimize import minimize

    found = minimize(
        loss, start, method="Nelder-Mead", bounds=[(-5, 5)] * len(start), options={"xatol": 1e-3, "fatol": 1e-4}
    )
    values: Float64Array = found.x
    return values


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
    found = [
        _losses(apply_temperature(probabilities, temperature), labels, recordings)
        for temperature in _COMPARED_TEMPERATURES
    ]
    return min(found, key=lambda losses: float(losses.mean()))


def _losses(probabilities: FloatArray, labels: IntArray, groups: Groups[Any]) -> AnyFloatArray:
    """Compute the cross entropy of each of n recordings, with targets of ``(n + 1) / (n + 2)``."""
    target = (len(groups.names) + 1) / (len(groups.names) + 2)
    true = groups.value(labels)
    means = groups.mean(probabilities).astype(np.float64)
    probability = np.clip(means[np.arange(len(true)), true], 1e-12, 1 - 1e-12)
    losses: AnyFloatArray = -(target * np.log(probability) + (1 - target) * np.log(1 - probability))
    return losses

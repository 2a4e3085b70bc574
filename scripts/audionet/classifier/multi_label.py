"""Several labels at a time: pooling over the chunks of a clip, calibration and a threshold for each label."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from audionet.classifier.head import log_odds, logistic
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import AnyFloatArray, BoolArray, Float64Array, FloatArray, IntArray

_LEAST = 1e-6  # probability, where its logarithm is taken
_PRIOR_RECORDINGS = 2.0  # with and without a label, as which the threshold of a half counts
_DEVIATION = 0.25  # of the logarithm of the temperature


def pool_chunks(probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Pool the probabilities of a clip's chunks: the sum of squares over the sum, by linear softmax.

    Between mean and maximum: a label that is heard in one chunk of ten is not averaged away, while a thousand chunks
    that each might hold it do not add up to one that does (Wang, Li & Metze, A comparison of five multiple instance
    learning pooling functions for sound event detection with weak labeling, 2019).

    Parameters
    ----------
    probabilities : ndarray of float32, shape (chunks, labels)
    weights : ndarray of float32, shape (chunks,)
        Above 0.

    Returns
    -------
    ndarray of float32, shape (labels,)
        From the mean to the maximum of the chunks'.
    """
    pooled: FloatArray = pool_recordings(probabilities, weights, Groups([0] * len(probabilities)))[0]
    return pooled


def pool_recordings(probabilities: FloatArray, weights: FloatArray, recordings: Groups[Any]) -> FloatArray:
    """Pool the chunks of each recording as `pool_chunks` does, shape (recordings, labels)."""
    bounded = np.maximum(probabilities, np.float32(_LEAST))
    pooled: FloatArray = recordings.mean(bounded**2, weights) / recordings.mean(bounded, weights)
    return pooled


def independent_losses(probabilities: FloatArray, present: BoolArray) -> AnyFloatArray:
    """Compute the sum of each recording's binary cross entropies over the labels, shape (recordings,)."""
    bounded = np.clip(probabilities.astype(np.float64), _LEAST, 1 - _LEAST)
    losses: AnyFloatArray = -np.log(np.where(present, bounded, 1 - bounded)).sum(axis=1)
    return losses


def apply_independent_temperature(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Divide the logit of each label's probability by a temperature."""
    return logistic(log_odds(probabilities) / np.float32(temperature))


def fit_independent_temperature(
    probabilities: FloatArray, weights: FloatArray, present: BoolArray, recordings: Groups[Any]
) -> float:
    """Fit one temperature for all labels to recordings that the head was not fitted on.

    Minimises the cross entropy of the pooled probabilities. A normal prior of its logarithm keeps few recordings from
    changing much.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (chunks, labels)
    weights : ndarray of float32, shape (chunks,)
    present : ndarray of bool, shape (recordings, labels)
    recordings : Groups
    """
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        at = apply_independent_temperature(probabilities, float(np.exp(logarithm)))
        losses = independent_losses(pool_recordings(at, weights, recordings), present)
        return float(losses.sum()) + 0.5 * (logarithm / _DEVIATION) ** 2

    return float(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-3}).x))


class LabelThresholds(NamedTuple):
    """Lowest probability at which each label is answered.

    Attributes
    ----------
    values : ndarray of float64, shape (labels,)
        Above 0, below 1.
    """

    values: Float64Array

    def decide(self, probabilities: FloatArray) -> BoolArray:
        """Return which labels are answered for probabilities, shape (n, labels), of the same shape."""
        answered: BoolArray = probabilities >= self.values
        return answered


def fit_thresholds(probabilities: FloatArray, present: BoolArray) -> LabelThresholds:
    """Choose each label's threshold for the highest F1 on recordings that the head was not fitted on.

    F1 is counted as if there were more recordings on both sides of a half, some with the label above it and as many
    without it below: few recordings then leave the threshold there. It is the middle between two recordings.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (recordings, labels)
    present : ndarray of bool, shape (recordings, labels)
    """
    return LabelThresholds(
        np.array([_threshold(probabilities[:, k], present[:, k]) for k in range(present.shape[1])], np.float64)
    )


def _threshold(probabilities: FloatArray, present: BoolArray) -> float:
    values = np.append(probabilities.astype(np.float64), [0.5 + _LEAST, 0.5 - _LEAST])
    weights = np.append(np.ones(len(probabilities)), [_PRIOR_RECORDINGS, _PRIOR_RECORDINGS])
    positive = np.append(present, [True, False])
    order = np.argsort(-values, kind="stable")
    values, weights, positive = values[order], weights[order], positive[order]
    answered, right = np.cumsum(weights), np.cumsum(weights * positive)
    f1 = 2 * right / (answered + right[-1])
    last = np.append(values[1:] < values[:-1], True)  # of equal probabilities, all are answered or none
    best = int(np.flatnonzero(last)[np.argmax(f1[last])])
    below = values[best + 1] if best + 1 < len(values) else 0.0
    return float(np.clip((values[best] + below) / 2, _LEAST, 1 - _LEAST))


def fit_thresholds_out_of_fold(probabilities: FloatArray, present: BoolArray, fold: IntArray) -> BoolArray:
    """Decide each recording by the thresholds of the other folds, so that none is judged by its own threshold.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (recordings, labels)
    present : ndarray of bool, shape (recordings, labels)
    fold : ndarray of int64, shape (recordings,)

    Returns
    -------
    ndarray of bool, shape (recordings, labels)
    """
    answered = np.zeros(present.shape, bool)
    for number in np.unique(fold):
        own = fold == number
        answered[own] = fit_thresholds(probabilities[~own], present[~own]).decide(probabilities[own])
    return answered

"""Precision, recall, F1, top-k accuracy, and reliability of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audionet.metrics.likelihood_ratios import ratio_cost
from audionet.utils.arrays import AnyFloatArray, BoolArray, IntArray

_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each label; 0 where the denominator is 0.

    Attributes
    ----------
    precision, recall, f1 : ndarray of float64, shape (labels,)
    support : ndarray of int64, shape (labels,)
        Recordings of each label.
    """

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: IntArray

    @property
    def tested(self) -> int:
        """Number of labels with at least one recording; the macro averages are over these."""
        return int((self.support > 0).sum())

    @property
    def macro_precision(self) -> float:
        """Mean precision of the tested labels; NaN where there are none."""
        return self._macro(self.precision)

    @property
    def macro_recall(self) -> float:
        """Mean recall of the tested labels; NaN where there are none."""
        return self._macro(self.recall)

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the tested labels; NaN where there are none."""
        return self._macro(self.f1)

    def _macro(self, values: NDArray[np.float64]) -> float:
        return float(values[self.support > 0].mean()) if self.tested else float("nan")


def class_scores(true: IntArray, given: IntArray, labels: int) -> ClassScores:
    """Compute precision, recall and F1 of each label.

    Parameters
    ----------
    true, given : ndarray of int64, shape (n,)
        True and predicted label numbers; -1 for none of the labels.
    labels : int
        Number of labels, at least 1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    # scikit-learn takes no empty arrays; a pair of -1, -1 affects no score.
    true, given = np.append(true, -1), np.append(given, -1)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, given, labels=np.arange(labels), zero_division=0
    )
    return ClassScores(precision, recall, f1, support.astype(np.int64))


def top_k(probabilities: AnyFloatArray, true: IntArray, ks: Sequence[int]) -> dict[int, int]:
    """Count the recordings whose true label is among the k most probable, for each k.

    Ties go to the lower label number, as in prediction.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
    true : ndarray of int64, shape (n,)
        Label numbers; -1 for none of the labels, which never counts.
    ks : sequence of int
    """
    known = np.flatnonzero(true >= 0)
    ranks = np.empty(len(known), np.int64)
    for place, row in enumerate(known):
        own, values = true[row], probabilities[row]
        ranks[place] = np.sum(values > values[own]) + np.sum(values[:own] == values[own])
    return {k: int((ranks < k).sum()) for k in ks}


@dataclass(frozen=True)
class Reliability:
    """Reliability diagram: accuracy by predicted probability.

    Attributes
    ----------
    edges : ndarray of float64, shape (bins + 1,)
        Edges of bins of equal width from 0 to 1; a probability on an edge belongs to the bin below.
    confidence, accuracy : ndarray of float64, shape (bins,)
        Mean predicted probability and share of right answers; NaN in empty bins.
    counts : ndarray of int64, shape (bins,)
    error : float
        Expected calibration error: the mean of ``|accuracy - confidence|`` over the n answers; NaN without any.
    n : int
    """

    edges: NDArray[np.float64]
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: IntArray
    error: float
    n: int


def reliability(probabilities: AnyFloatArray, right: BoolArray, bins: int = 15) -> Reliability:
    """Compute reliability and expected calibration error (Naeini et al., 2015; bins as in Guo et al., 2017).

    Parameters
    ----------
    probabilities : ndarray of float, shape (n,)
        Probability of the predicted label.
    right : ndarray of bool, shape (n,)
    bins : int
    """
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], probabilities)
    counts = np.bincount(places, minlength=bins)
    predicted = np.bincount(places, probabilities, bins)
    observed = np.bincount(places, right, bins)
    n = len(right)
    filled = np.where(counts, counts, np.nan)
    error = float(np.abs(observed - predicted).sum() / n) if n else float("nan")
    return Reliability(edges, predicted / filled, observed / filled, counts, error, n)


def brier_score(probabilities: AnyFloatArray, true: IntArray) -> float:
    """Compute the Brier score (Brier, 1950): mean squared error of the probabilities, summed over labels, 0 to 2.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
    true : ndarray of int64, shape (n,)

    Returns
    -------
    float
        NaN without recordings.
    """
    if not len(true):
        return float("nan")
    errors = probabilities.astype(np.float64) - (true[:, None] == np.arange(probabilities.shape[1]))
    return float(np.square(errors).sum(axis=1).mean())


def cllr(probabilities: AnyFloatArray, true: IntArray) -> float:
    """Compute the cost of the log-likelihood ratios, Cllr, in bits: 0 to 1, more if misleading (Brümmer, 2006).

    Each recording is a target trial of its own label and a nontarget trial of every other; the ratio follows from the
    label's probability and a prior of one over the number of labels. Targets and nontargets weigh the same. A model
    that knows nothing and says so costs 1.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
    true : ndarray of int64, shape (n,)

    Returns
    -------
    float
        NaN without recordings, or with fewer than two labels.
    """
    labels = probabilities.shape[1]
    if not len(true) or labels < 2:
        return float("nan")
    exact = np.clip(probabilities.astype(np.float64), _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    ratios = np.log(exact / (1 - exact)) + np.log(labels - 1)
    return ratio_cost(ratios, true[:, None] == np.arange(labels))

"""Precision, recall, F1, top-k accuracy, and reliability of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audionet.utils.arrays import AnyFloatArray, BoolArray, IntArray


@dataclass(frozen=True)
class ClassScores:
    """Precision, recall and F1 of each label, 0 where there is nothing to divide by.

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
        """Labels that have a recording: those the macro averages are over."""
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
    """Hold the labels given against the true ones.

    Parameters
    ----------
    true, given : ndarray of int64, shape (n,)
        Label numbers; -1 for none of the labels.
    labels : int
        How many there are, at least 1.
    """
    from sklearn.metrics import precision_recall_fscore_support

    # scikit-learn takes no empty arrays; what is none of the labels and given none counts nowhere.
    true, given = np.append(true, -1), np.append(given, -1)
    precision, recall, f1, support = precision_recall_fscore_support(
        true, given, labels=np.arange(labels), zero_division=0
    )
    return ClassScores(precision, recall, f1, support.astype(np.int64))


def top_k(probabilities: AnyFloatArray, true: IntArray, ks: Sequence[int]) -> dict[int, int]:
    """How many of n recordings have their label among the k likeliest, for each k.

    Of labels equally likely the first comes first, as where one is given.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
    true : ndarray of int64, shape (n,)
        Label numbers; -1 for none of the labels, which is never among them.
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
    """How often answers are right, by how probable they were said to be.

    Attributes
    ----------
    edges : ndarray of float64, shape (bins + 1,)
        Of bins of equal width from 0 to 1; a probability on an edge belongs to the bin below.
    confidence, accuracy : ndarray of float64, shape (bins,)
        Mean probability and share of right answers; NaN in empty bins.
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
    """Reliability and expected calibration error (Naeini et al., 2015; bins as in Guo et al., 2017).

    Parameters
    ----------
    probabilities : ndarray of float, shape (n,)
        Of the answers given.
    right : ndarray of bool, shape (n,)
    bins : int
    """
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], probabilities)
    counts = np.bincount(places, minlength=bins)
    claimed = np.bincount(places, probabilities, bins)
    found = np.bincount(places, right, bins)
    n = len(right)
    filled = np.where(counts, counts, np.nan)
    error = float(np.abs(found - claimed).sum() / n) if n else float("nan")
    return Reliability(edges, claimed / filled, found / filled, counts, error, n)

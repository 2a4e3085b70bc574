"""How well scores tell a label's recordings from others', and how far probabilities can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

_MOST_TRIALS = 5_000_000
_MOST_DRAWN = 4_000_000  # numbers the bootstrap holds at once
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Detection:
    """The operating points of a detector, which accepts what scores at least the threshold.

    Recordings with equal scores share a point. A point on the straight line between its neighbours is left out.

    Attributes
    ----------
    targets, nontargets : int
        Trials that should be accepted and that should not.
    thresholds : ndarray of float, shape (points,)
        Decreasing from infinity, where nothing is accepted, to the lowest score, where everything is.
    false_alarms : ndarray of float64, shape (points,)
        Share of nontargets accepted, from 0 up to 1.
    misses : ndarray of float64, shape (points,)
        Share of targets not accepted, from 1 down to 0.
    """

    targets: int
    nontargets: int
    thresholds: Floats
    false_alarms: NDArray[np.float64]
    misses: NDArray[np.float64]

    @property
    def equal_error_rate(self) -> float:
        """Where false alarms and misses are equally frequent, 0 to 1 (Martin et al., The DET curve, 1997).

        Between two operating points the ROC is a straight line (Fawcett, An introduction to ROC analysis, 2006).
        This is never less than the rate on the ROC's convex hull, which flatters labels with few targets.
        """
        return float(np.interp(0, self.false_alarms - self.misses, self.false_alarms))

    @property
    def area(self) -> float:
        """Area under the ROC: how often a target scores above a nontarget, ties counting half."""
        from sklearn.metrics import auc

        return float(auc(self.false_alarms, 1 - self.misses))

    def least_cost(self, target_prior: float = 0.01, miss_cost: float = 1.0, false_alarm_cost: float = 1.0) -> float:
        """Normalised detection cost at the best threshold (minDCF), 0 to 1.

        1 is the cost of accepting everything or nothing, whichever is cheaper. Formula: NIST SRE 2008 evaluation
        plan; van Leeuwen and Brümmer, Application-independent evaluation of speaker detection, 2007. The costs are
        those of NIST SRE 2016.

        Parameters
        ----------
        target_prior : float, between 0 and 1
            How likely a trial in use is a target.
        miss_cost, false_alarm_cost : float, above 0
        """
        of_misses, of_false_alarms = miss_cost * target_prior, false_alarm_cost * (1 - target_prior)
        costs = of_misses * self.misses + of_false_alarms * self.false_alarms
        return float(costs.min() / min(of_misses, of_false_alarms))


def detection(scores: Floats, target: Bools) -> Detection | None:
    """Operating points of scores, higher for targets; None where there are no targets or no nontargets.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
    target : ndarray of bool, shape (n,)

    Raises
    ------
    ValueError
        If a score is infinite or not a number.
    """
    from sklearn.metrics import roc_curve

    targets = int(target.sum())
    if targets in (0, len(target)):
        return None
    false_alarms, hits, thresholds = roc_curve(target, scores)
    return Detection(targets, len(target) - targets, thresholds, false_alarms, 1 - hits)


class Trials(NamedTuple):
    """Scores and whether each is a target's; `total` counts the trials left out too."""

    scores: Floats
    target: Bools
    total: int


def trials(scores: Floats, true: Ints, label: int | None = None, most: int = _MOST_TRIALS) -> Trials:
    """Every recording against one label, or against all of them, pooled.

    All targets are kept. Where pooling makes more trials than `most`, each recording keeps equally many nontargets,
    spread evenly over the labels from a place that moves on by the golden ratio from recording to recording
    (Weyl's sequence), so that the labels too are met equally often.

    Parameters
    ----------
    scores : ndarray of float, shape (n, labels)
    true : ndarray of int64, shape (n,)
        Label numbers; -1 for a recording of none of the labels.
    label : int, optional
    most : int
    """
    n, labels = scores.shape
    if label is not None:
        return Trials(scores[:, label], true == label, n)
    if n * labels <= most:
        return Trials(scores.ravel(), (true[:, None] == np.arange(labels)).ravel(), n * labels)
    known = np.flatnonzero(true >= 0)
    each = min(labels, max(1, (most - len(known)) // n))
    starts = (np.arange(n) * _GOLDEN % 1 * labels).astype(np.int64)
    chosen = (starts[:, None] + np.arange(each) * labels // each) % labels
    nontargets = np.take_along_axis(scores, chosen, axis=1)[chosen != true[:, None]]
    of_targets = scores[known, true[known]]
    return Trials(
        np.concatenate([of_targets, nontargets]), np.arange(len(known) + len(nontargets)) < len(known), n * labels
    )


@dataclass(frozen=True)
class LabelScores:
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
    support: Ints

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


def label_scores(true: Ints, given: Ints, labels: int) -> LabelScores:
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
    return LabelScores(precision, recall, f1, support.astype(np.int64))


def top_k(probabilities: Floats, true: Ints, ks: Sequence[int]) -> dict[int, int]:
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


def bootstrap_ratio(
    numerators: Floats, denominators: Floats, samples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of a ratio of sums, resampling recordings (Efron and Tibshirani, 1993).

    For accuracy per chunk, a recording's numerator is its chunks answered rightly, its denominator all its chunks:
    chunks of one recording go together, so that it is recordings that are drawn. Where all are right, or all wrong,
    every resample says the same and the interval has no width; it proves nothing then, and Wilson's interval
    (`metrics.accuracy`) belongs beside it.

    Parameters
    ----------
    numerators, denominators : ndarray of float, shape (recordings,)
        The denominators are not negative.
    samples, seed : int

    Returns
    -------
    low, high : float
        NaN where the denominators are all 0.
    """
    pairs = np.stack([numerators, denominators]).astype(np.float64)
    if not pairs[1].any():
        return float("nan"), float("nan")
    # Recordings with the same numbers are interchangeable: drawing how often each kind comes is the same, and faster.
    kinds, sizes = np.unique(pairs, axis=1, return_counts=True)
    generator = np.random.default_rng(seed)
    block = max(1, _MOST_DRAWN // len(sizes))
    ratios = []
    for start in range(0, samples, block):
        drawn = generator.multinomial(len(numerators), sizes / sizes.sum(), min(block, samples - start))
        above, below = kinds @ drawn.T
        ratios.append(above[below > 0] / below[below > 0])
    low, high = np.quantile(np.concatenate(ratios), [0.025, 0.975])
    return float(low), float(high)


def bootstrap(values: Floats, weights: Floats | None = None, samples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean of recordings' values, weighted where weights are given; see `bootstrap_ratio`.

    Parameters
    ----------
    values, weights : ndarray of float, shape (recordings,)
    samples, seed : int
    """
    weights = np.ones(len(values)) if weights is None else weights
    return bootstrap_ratio(values * weights, weights, samples, seed)


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
    counts: Ints
    error: float
    n: int


def reliability(probabilities: Floats, right: Bools, bins: int = 15) -> Reliability:
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

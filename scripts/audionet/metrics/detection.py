"""Detection metrics of verification scores: ROC, EER, area under the curve and minDCF."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.utils.arrays import AnyFloatArray, BoolArray, IntArray

_MAX_TRIALS = 5_000_000
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Detection:
    """Operating points of a detector, which accepts trials with scores of at least the threshold.

    Recordings with equal scores share a point. A point on the straight line between its neighbours is left out.

    Attributes
    ----------
    targets, nontargets : int
        Number of target and of impostor trials.
    thresholds : ndarray of float, shape (points,)
        Decreasing from infinity, where nothing is accepted, to the lowest score, where everything is.
    false_alarms : ndarray of float64, shape (points,)
        False acceptance rate: share of nontargets accepted, from 0 up to 1.
    misses : ndarray of float64, shape (points,)
        Miss rate: share of targets rejected, from 1 down to 0.
    """

    targets: int
    nontargets: int
    thresholds: AnyFloatArray
    false_alarms: NDArray[np.float64]
    misses: NDArray[np.float64]

    @property
    def equal_error_rate(self) -> float:
        """Equal error rate (EER): equal rates of false alarms and misses, 0 to 1 (Martin et al., The DET curve, 1997).

        Between two operating points the ROC is a straight line (Fawcett, An introduction to ROC analysis, 2006).
        This is never less than the rate on the ROC's convex hull, which flatters labels with few targets.
        """
        return float(np.interp(0, self.false_alarms - self.misses, self.false_alarms))

    @property
    def area(self) -> float:
        """Area under the ROC: probability that a target scores above a nontarget, ties counting half."""
        from sklearn.metrics import auc

        return float(auc(self.false_alarms, 1 - self.misses))

    def min_dcf(self, target_prior: float = 0.01, miss_cost: float = 1.0, false_alarm_cost: float = 1.0) -> float:
        """Compute the minimum normalised detection cost over thresholds (minDCF), 0 to 1.

        1 is the cost of accepting everything or nothing, whichever is cheaper. Formula: NIST SRE 2008 evaluation
        plan; van Leeuwen and Brümmer, Application-independent evaluation of speaker detection, 2007. The costs are
        those of NIST SRE 2016.

        Parameters
        ----------
        target_prior : float, between 0 and 1
            Prior probability of a target trial in use.
        miss_cost, false_alarm_cost : float, above 0
        """
        miss_weight, false_alarm_weight = miss_cost * target_prior, false_alarm_cost * (1 - target_prior)
        costs = miss_weight * self.misses + false_alarm_weight * self.false_alarms
        return float(costs.min() / min(miss_weight, false_alarm_weight))


def detection(scores: AnyFloatArray, target: BoolArray, weights: IntArray | None = None) -> Detection | None:
    """Compute the operating points of scores; None without targets or without nontargets.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
        Higher for targets.
    target : ndarray of bool, shape (n,)
    weights : ndarray of int64, shape (n,), optional
        How often each trial counts, at least 1; default: once.

    Raises
    ------
    ValueError
        If a score is infinite or NaN.
    """
    from sklearn.metrics import roc_curve

    targets = int(target.sum())
    if targets in (0, len(target)):
        return None
    false_alarms, hits, thresholds = roc_curve(target, scores, sample_weight=weights)
    return Detection(targets, len(target) - targets, thresholds, false_alarms, 1 - hits)


class Trials(NamedTuple):
    """Trials: scores, and True for targets; `total` also counts the trials that were left out."""

    scores: AnyFloatArray
    target: BoolArray
    total: int


def trials(scores: AnyFloatArray, true: IntArray, label: int | None = None, most: int = _MAX_TRIALS) -> Trials:
    """Pair every recording with one label, or with all labels, pooled.

    All targets are kept. Where pooling makes more trials than `most`, each recording keeps equally many nontargets,
    spread evenly over the labels from a place that moves on by the golden ratio from recording to recording
    (Weyl's sequence), so that all labels occur equally often too.

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

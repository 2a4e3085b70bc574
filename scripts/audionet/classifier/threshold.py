"""Threshold of the rejection rule, chosen from the scores of known speakers and of impostors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from audionet.classifier.rejection import RejectionRule
from audionet.utils.arrays import Float64Array, FloatArray, IntArray

REFUSED_SHARE = 0.05
"""Share of known speakers' recordings that may be refused, unless a rate for the unknown ones is asked for."""

ACCEPTED_SHARE = 0.05
"""Share of unknown speakers that may be accepted, where known ones are spared all the same."""

LEAST_AREA = 0.8
"""Least area under the curve, at the lower end of its interval, for which unknown is answered."""

_PRIOR_SCORES, _PRIOR_SPREAD = 4, 0.06  # of the variance of one kind of scores
_IGNORED_SHARE = 0.01  # share of the lowest known scores that is ignored when the threshold is put into a gap
_LEAST_SLOPE, _MOST_SLOPE = 2.0, 40.0


@dataclass(frozen=True)
class ImpostorScores:
    """Impostor scores: scores of speakers that were not trained on.

    Attributes
    ----------
    unknown : ndarray of float32, shape (n,)
        Best score of each segment of an unknown speaker.
    single : ndarray of float32, shape (chunks,)
        Best score of each of their chunks.
    impostors : ndarray of float32, shape (m,)
        Scores of these segments for every speaker that they were compared with.
    shares : ndarray of float32, shape (n,)
        Number of speakers that each segment was compared with, as a share of all the model's.
    chunks : ndarray of int64, shape (n,)
        Number of chunks of each segment.
    """

    unknown: FloatArray
    single: FloatArray
    impostors: FloatArray
    shares: FloatArray
    chunks: IntArray


@dataclass(frozen=True)
class KnownScores:
    """Best scores of known speakers, by models that were not trained on their recordings.

    Attributes
    ----------
    segments, single : ndarray of float32, shapes (n,) and (chunks,)
        Best score of each segment, and of each chunk.
    labels, single_labels : ndarray of int64, shapes (n,) and (chunks,)
    chunks : ndarray of int64, shape (n,)
        Number of chunks of each segment.
    """

    segments: FloatArray
    single: FloatArray
    labels: IntArray
    single_labels: IntArray
    chunks: IntArray


def area_under_curve(known: FloatArray, unknown: FloatArray) -> float:
    """Compute the probability that a known speaker's score is higher than an unknown one's, ties counting half."""
    ordered = np.sort(unknown)
    below, not_above = (np.searchsorted(ordered, known, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(ordered)))


def lowest_area(known: FloatArray, unknown: FloatArray) -> float:
    """Compute the lower end of the area's 95 % interval (Hanley & McNeil, 1982)."""
    area = area_under_curve(known, unknown)
    of_known, of_unknown = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    variance = area * (1 - area) + (len(known) - 1) * of_known + (len(unknown) - 1) * of_unknown
    return area - 1.96 * float(np.sqrt(max(variance, 0) / (len(known) * len(unknown))))


def choose_rule(trials: ImpostorScores, known: KnownScores, rate: float | None) -> RejectionRule | None:
    """Choose the lowest scores that are accepted, by the rate or, if that is None, so that known speakers are spared.

    Returns
    -------
    RejectionRule or None
        None for a rate of 0, too few trials for the rate or, without a rate, known and unknown speakers that are not
        told apart: the lower end of the area's interval is below `LEAST_AREA`.
    """
    slope = evidence_slope(known.single, trials.single)
    if rate is not None:
        several = threshold_for(trials, known.segments, rate) if rate else None
        if several is None:
            return None
        single = threshold_for(dataclasses.replace(trials, unknown=trials.single), known.single, rate)
        single = several if single is None else min(single, several)
        return RejectionRule(several, single, _window_threshold(single, known), slope)
    if not len(known.segments) or lowest_area(known.segments, trials.unknown) < LEAST_AREA:
        return None
    share = float(trials.shares.mean())
    several = _sparing_threshold(known.segments, known.labels, trials.unknown, share)
    # A single chunk, whose score varies more, is never harder to accept than several of them.
    single = min(several, _sparing_threshold(known.single, known.single_labels, trials.single, share))
    return RejectionRule(several, single, _window_threshold(single, known), slope)


def _window_threshold(single: float, known: KnownScores) -> float:
    """Choose the threshold for the best of the windows that cover a moment, of which two do not overlap.

    Both are refused at `REFUSED_SHARE` where each is refused at its root.
    """
    if not len(known.single):
        return single
    return max(single, lowest_known(known.single, known.single_labels, REFUSED_SHARE**0.5))


def _sparing_threshold(known: FloatArray, labels: IntArray, unknown: FloatArray, share: float) -> float:
    """Choose the highest threshold that spares known speakers; less, where unknown ones are far below it."""
    sparing = lowest_known(known, labels)
    rejecting = highest_unknown(unknown, share)
    # Where both kinds of mistake can be had rarely, the threshold is between: others have other scores than these.
    return sparing if rejecting > sparing else (rejecting + sparing) / 2


def lowest_known(scores: FloatArray, labels: IntArray, share: float = REFUSED_SHARE) -> float:
    """Estimate the score below which at most a share of new recordings lie, every label counting the same.

    The lower of two estimates: the quantile of the scores, which few of them would put too high; and a normal
    distribution's prediction limit, which their number enters.

    Parameters
    ----------
    scores : ndarray of float32, shape (n,)
        Of known speakers, n at least 1.
    labels : ndarray of int64, shape (n,)
    share : float
    """
    order = np.argsort(scores)
    _, member, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / counts[member]
    below = np.cumsum(weights[order]) / weights.sum()
    quantile = float(scores[order][np.searchsorted(below, share, side="right")])
    return min(quantile, -_prediction_limit(-scores, weights, share))


def highest_unknown(scores: FloatArray, share: float) -> float:
    """Estimate the score above which `ACCEPTED_SHARE` of unknown speakers lie, the higher of two estimates likewise.

    Parameters
    ----------
    scores : ndarray of float32, shape (n,)
        n at least 1.
    share : float
        Number of labels that they were compared with, as a share of all.
    """
    rank = max(1, int(ACCEPTED_SHARE * share * (len(scores) + 1)))
    quantile = float(np.nextafter(np.sort(scores)[-rank], np.float32(np.inf)))
    return max(quantile, _prediction_limit(scores, np.ones(len(scores)), ACCEPTED_SHARE * share))


def _prediction_limit(scores: FloatArray, weights: Float64Array, share: float) -> float:
    """Compute the limit above which a share of new values lie, of a normal distribution (Whitmore, 1986).

    A prior of the variance keeps a few scores that happen to agree from promising too much.
    """
    from scipy.stats import t

    n, mean = len(scores), float(np.average(scores, weights=weights))
    squares = float(np.average((scores - mean) ** 2, weights=weights)) * n + _PRIOR_SCORES * _PRIOR_SPREAD**2
    deviation = np.sqrt(squares / max(1, n - 1 + _PRIOR_SCORES))
    return mean + float(t.ppf(1 - share, n - 1 + _PRIOR_SCORES) * deviation * np.sqrt(1 + 1 / n))


def evidence_slope(known: FloatArray, unknown: FloatArray) -> float:
    """Compute by how much a score that is higher by 1 raises the logarithm of the odds of a known speaker.

    For two normal distributions of equal variance: the distance of their means, divided by the variance.
    """
    if len(known) < 2 or len(unknown) < 2:
        return _LEAST_SLOPE
    variance = (float(known.var()) * len(known) + float(unknown.var()) * len(unknown)) / (len(known) + len(unknown))
    slope = (float(known.mean()) - float(unknown.mean())) / max(variance, 1e-6)
    return float(np.clip(slope, _LEAST_SLOPE, _MOST_SLOPE))


def threshold_for(trials: ImpostorScores, known: FloatArray, rate: float) -> float | None:
    """Find the lowest threshold that accepts at most a share `rate` of unknown speakers.

    Given scores of n segments of unknown speakers, the score of the next one exceeds the k-th highest of them with
    a probability of at most k / (n + 1) (Vovk, Gammerman & Shafer, Algorithmic learning in a random world, 2005). The
    full model compares an unknown speaker with more labels than a model with some held out, and so has that many more
    chances of a false acceptance; the rate for the trials is lower accordingly. If this leaves a gap below the known
    speakers' scores, the threshold is the middle of the gap, because speakers unlike the held-out ones have other
    scores.

    Returns
    -------
    float or None
        None if the trials have fewer than `segments_needed` segments.
    """
    rank = int(np.floor(rate * float(trials.shares.mean()) * (len(trials.unknown) + 1)))
    if rank < 1:
        return None
    lowest = np.nextafter(np.sort(trials.unknown)[-rank], np.float32(np.inf))
    lowest_score = np.quantile(known, _IGNORED_SHARE) if len(known) else lowest
    return float(max(lowest, (lowest + lowest_score) / 2))


def segments_needed(trials: ImpostorScores, rate: float) -> int:
    """Return the number of segments of unknown speakers that a threshold for this rate requires."""
    return int(np.ceil(1 / (rate * float(trials.shares.mean())))) - 1

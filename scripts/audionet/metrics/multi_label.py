"""Scores of answers with several labels: average precision, precision, recall and F1 of each label."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.utils.arrays import AnyFloatArray, BoolArray, Float64Array, FloatArray

_RESAMPLES = 1000
_MAX_DRAWN = 2_000_000  # numbers that the bootstrap holds in memory at once


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label.

    Attributes
    ----------
    recordings : int
        Number of recordings with the label.
    average_precision : float or None
        Precision, averaged over the recordings with the label, each with those that are ranked above it; None if no
        recording has the label, or all have.
    right, wrong, missed : int
        Number of recordings that have the label and are answered with it; that are answered with it but do not have
        it; and that have it but are not.
    """

    recordings: int
    average_precision: float | None
    right: int
    wrong: int
    missed: int

    @property
    def precision(self) -> float | None:
        """Share of the answers with the label that are right; None without any."""
        return self.right / (self.right + self.wrong) if self.right + self.wrong else None

    @property
    def recall(self) -> float | None:
        """Share of the recordings with the label that are answered with it; None without any."""
        return self.right / self.recordings if self.recordings else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; None if no recording has the label or is answered with it."""
        counted = 2 * self.right + self.wrong + self.missed
        return 2 * self.right / counted if counted else None


@dataclass(frozen=True)
class MultiLabelScores:
    """Scores of answers with several labels, by recording.

    Attributes
    ----------
    labels : tuple of LabelScore
    recordings : int
    all_right : Accuracy
        Recordings that are answered with exactly their labels.
    mean_average_precision : float or None
        Mean of the labels' average precisions; None if there is none.
    low, high : float
        Its 95 % bootstrap interval over recordings.
    chance : float or None
        What a random order would come to: the mean share of the labels' recordings.
    """

    labels: tuple[LabelScore, ...]
    recordings: int
    all_right: Accuracy
    mean_average_precision: float | None
    low: float
    high: float
    chance: float | None

    @property
    def macro_f1(self) -> float | None:
        """Mean F1 of the labels that have one."""
        found = [score.f1 for score in self.labels if score.f1 is not None]
        return float(np.mean(found)) if found else None


def multi_label_scores(
    probabilities: FloatArray, present: BoolArray, answered: BoolArray, folds: int | None = None
) -> MultiLabelScores:
    """Score answers with several labels.

    Parameters
    ----------
    probabilities : ndarray of float32, shape (recordings, labels)
    present, answered : ndarray of bool, shape (recordings, labels)
        Labels of each recording, and those that it is answered with.
    folds : int, optional
        Number of folds, where the answers are those of a cross-validation.
    """
    from sklearn.metrics import average_precision_score

    ranked = np.flatnonzero(present.any(axis=0) & ~present.all(axis=0)) if len(present) else np.zeros(0, np.int64)
    precisions = {k: float(average_precision_score(present[:, k], probabilities[:, k])) for k in ranked.tolist()}
    labels = tuple(
        LabelScore(
            int(present[:, k].sum()),
            precisions.get(k),
            int((present[:, k] & answered[:, k]).sum()),
            int((~present[:, k] & answered[:, k]).sum()),
            int((present[:, k] & ~answered[:, k]).sum()),
        )
        for k in range(present.shape[1])
    )
    low, high = (0.0, 1.0)
    if precisions:
        low, high = _interval(probabilities[:, ranked], present[:, ranked], np.array(list(precisions.values())))
    return MultiLabelScores(
        labels,
        len(present),
        accuracy((present == answered).all(axis=1), folds=folds),
        float(np.mean(list(precisions.values()))) if precisions else None,
        low,
        high,
        float(present[:, ranked].mean()) if precisions else None,
    )


def multi_label_json(found: MultiLabelScores, labels: Sequence[str]) -> dict[str, Any]:
    """Format scores for JSON, each with the number of recordings that it is counted on."""
    return {
        "recordings": found.recordings,
        "mean_average_precision": found.mean_average_precision,
        "low": found.low,
        "high": found.high,
        "by_chance": found.chance,
        "macro_f1": found.macro_f1,
        "all_right": dataclasses.asdict(found.all_right),
        "labels": [
            {
                "label": label,
                **dataclasses.asdict(score),
                "precision": score.precision,
                "recall": score.recall,
                "f1": score.f1,
            }
            for label, score in zip(labels, found.labels, strict=True)
        ],
    }


def _interval(probabilities: FloatArray, present: BoolArray, precisions: Float64Array) -> tuple[float, float]:
    """Compute the 95 % percentile bootstrap interval of the mean average precision over recordings.

    A label of which a resample draws no recording keeps its average precision, `precisions`: without it, the mean of
    that resample would be one over other labels.
    """
    n, labels = present.shape
    generator = np.random.default_rng(0)
    block = max(1, _MAX_DRAWN // n)
    means = []
    for start in range(0, _RESAMPLES, block):
        drawn = generator.multinomial(n, np.full(n, 1 / n), min(block, _RESAMPLES - start)).astype(np.float64)
        found = np.stack([_average_precisions(probabilities[:, k], present[:, k], drawn) for k in range(labels)])
        means.append(np.where(np.isfinite(found), found, precisions[:, None]).mean(axis=0))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def _average_precisions(probabilities: FloatArray, present: BoolArray, drawn: AnyFloatArray) -> AnyFloatArray:
    """Compute the average precision of each resample, in which recordings count as often as they were drawn.

    NaN where no recording with the label was drawn.
    """
    order = np.argsort(-probabilities, kind="stable")
    above, positive = np.cumsum(drawn[:, order], axis=1), drawn[:, order] * present[order]
    precision = np.cumsum(positive, axis=1) / np.maximum(above, 1)
    total = positive.sum(axis=1)
    summed = (positive * precision).sum(axis=1)
    found: AnyFloatArray = np.divide(summed, total, out=np.full(len(drawn), np.nan), where=total > 0)
    return found

"""Cross-validation of exact heads: predictions for every recording by a model that was not trained on it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.classifier.calibration import apply_temperature
from audionet.classifier.open_set import EmbeddingExamples, OutOfFoldScores, score_fold, segments_of
from audionet.data.folds import Folds
from audionet.data.grouping import hash_order
from audionet.training.exact_head import ExactHead, ExactTrainer
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.process import available_cores
from audionet.utils.progress import progress


class FoldResult(NamedTuple):
    """Predictions of one fold's model.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Test images of the labels.
    fitted : ExactHead
    probabilities : ndarray of float32, shape (m, labels)
    with_fewer : list of ndarray of float32, each (m, labels)
        By heads fitted on shares of the recordings.
    scores : ndarray of float32, shape (m, labels)
        Speaker scores; NaN if they were not asked for.
    background : ndarray of float32, shape (segments, labels)
        Speaker scores of the fold's background.
    """

    rows: IntArray
    fitted: ExactHead
    probabilities: FloatArray
    with_fewer: list[FloatArray]
    scores: FloatArray
    background: FloatArray


@dataclass(frozen=True)
class OutOfFold:
    """Predictions for all test images, by the models of their folds.

    Attributes
    ----------
    rows : ndarray of int64, shape (m,)
        Test images, ascending.
    fold : ndarray of int64, shape (m,)
        Fold that tested each.
    probabilities : ndarray of float32, shape (m, labels)
        Uncalibrated.
    with_fewer : list of ndarray of float32, each (m, labels)
    scores : ndarray of float32, shape (m, labels)
    background : ndarray of float32, shape (segments, labels)
    """

    rows: IntArray
    fold: IntArray
    probabilities: FloatArray
    with_fewer: list[FloatArray]
    scores: FloatArray
    background: FloatArray

    def with_temperature(self, temperature: float) -> OutOfFold:
        """Return the same predictions with their logits divided by a temperature."""
        probabilities, *fewer = (
            apply_temperature(part, temperature) for part in (self.probabilities, *self.with_fewer)
        )
        return dataclasses.replace(self, probabilities=probabilities, with_fewer=fewer)

    def open_set_scores(self, trainer: ExactTrainer) -> OutOfFoldScores:
        """Return the speaker scores, for the rejection threshold."""
        segments = segments_of([trainer.images[row] for row in self.rows.tolist()])
        return OutOfFoldScores(self.scores, segments, self.background.max(axis=1, initial=-2), self.background.ravel())


def cross_validate(
    trainer: ExactTrainer,
    folds: Folds,
    shares: Sequence[float] = (),
    embedded: IntArray | None = None,
    title: str = "Cross-validating",
) -> OutOfFold:
    """Fit a head for each fold, with all its choices made within the fold's training images, and test it.

    Parameters
    ----------
    trainer : ExactTrainer
    folds : Folds
        Of the trainer's images.
    shares : sequence of float
        Shares of each fold's recordings to fit heads on as well, for a learning curve.
    embedded : ndarray of int64, optional
        Images that the speaker models are fitted on, where they are in training; None to fit no speaker models.
    title : str
        Of the progress bar.
    """
    known = trainer.targets >= 0

    def run(number: int) -> FoldResult:
        training, test = folds.training[number], folds.tests[number]
        rows = test[known[test]]
        fitted = trainer.fit(training[known[training]])
        fewer = [_with_share(trainer, fitted, rows, share) for share in shares]
        scores = np.full((len(rows), trainer.labels), np.nan, np.float32), np.zeros((0, trainer.labels), np.float32)
        if embedded is not None:
            scores = _speaker_scores(trainer, fitted, np.intersect1d(training, embedded), rows, test[~known[test]])
        return FoldResult(rows, fitted, trainer.probabilities(fitted, rows), fewer, *scores)

    numbers = [number for number, rows in enumerate(folds.tests) if known[rows].any()]
    results: list[FoldResult] = []
    with ThreadPoolExecutor(available_cores()) as threads, progress(title, "folds", len(numbers)) as advance:
        for result in threads.map(run, numbers):
            results.append(result)
            advance(1)
    return _joined(results, numbers, trainer.labels)


def _joined(results: Sequence[FoldResult], numbers: Sequence[int], labels: int) -> OutOfFold:
    nothing = np.zeros((0, labels), np.float32)
    rows = np.concatenate([np.zeros(0, np.int64), *(result.rows for result in results)])
    fold = np.repeat(np.array(numbers, np.int64), [len(result.rows) for result in results])
    order = np.argsort(rows)

    def join(part: Callable[[FoldResult], FloatArray]) -> FloatArray:
        joined: FloatArray = np.concatenate([nothing, *map(part, results)])
        return joined

    shares = zip(*(result.with_fewer for result in results), strict=True)
    fewer = [np.concatenate(parts)[order] for parts in shares]
    return OutOfFold(
        rows[order],
        fold[order],
        join(lambda result: result.probabilities)[order],
        fewer,
        join(lambda result: result.scores)[order],
        join(lambda result: result.background),
    )


def _with_share(trainer: ExactTrainer, fitted: ExactHead, test: IntArray, share: float) -> FloatArray:
    """Fit the head again on a share of each label's recordings, at least one, and return the test's probabilities."""
    images = [trainer.images[row] for row in fitted.rows.tolist()]
    by_label: dict[str, list[str]] = {}
    for label, name in dict.fromkeys((image.label, image.recording) for image in images):
        by_label.setdefault(label, []).append(name)
    kept = {
        (label, name)
        for label, names in by_label.items()
        for _, name in sorted((hash_order(label, name), name) for name in names)[: math.ceil(share * len(names))]
    }
    places = np.array([place for place, image in enumerate(images) if (image.label, image.recording) in kept], np.int64)
    solution = trainer.solve(fitted.design.rows[places], fitted.rows[places], fitted.strength, fitted.solution)
    return solution.probabilities(fitted.design.project(trainer.feature_sets[fitted.features].values[test]))


def _speaker_scores(
    trainer: ExactTrainer, fitted: ExactHead, training: IntArray, rows: IntArray, background: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Score test images by speaker models fitted on training images, both with the features of the fold's head."""
    chosen = trainer.feature_sets[fitted.features]

    def examples(some: IntArray) -> EmbeddingExamples:
        segments = segments_of([trainer.images[row] for row in some.tolist()])
        return EmbeddingExamples(chosen.values[some], trainer.targets[some], segments)

    return score_fold(examples(training), chosen.values[rows], examples(background), trainer.labels, chosen.widths)


def leaky_accuracy_rows(trainer: ExactTrainer, fitted: ExactHead, folds: int, seed: int) -> tuple[IntArray, FloatArray]:
    """Cross-validate between chunks instead of recordings, as many tutorials do.

    A chunk's neighbours from the same recording are then in training, and a head can recognise the room.

    Returns
    -------
    rows : ndarray of int64, shape (m,)
        Images without augmented copies.
    probabilities : ndarray of float32, shape (m, labels)
    """
    original = np.array([place for place, row in enumerate(fitted.rows.tolist()) if not trainer.images[row].copy])
    fold = np.random.default_rng(seed).permutation(len(original)) % folds
    probabilities = np.empty((len(original), trainer.labels), np.float32)

    def run(number: int) -> None:
        train, test = original[fold != number], original[fold == number]
        coordinates = fitted.design.rows[train]
        solution = trainer.solve(coordinates, fitted.rows[train], fitted.strength, fitted.solution)
        probabilities[fold == number] = solution.probabilities(fitted.design.rows[test])

    with ThreadPoolExecutor(available_cores()) as threads:
        list(threads.map(run, range(folds)))
    return fitted.rows[original], probabilities

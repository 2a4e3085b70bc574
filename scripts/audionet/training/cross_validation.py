"""Cross-validation of exact heads: predictions for every recording by a model that was not trained on it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.classifier.embedding import EmbeddingExamples
from audionet.classifier.similarities import Similarities, compare_fold, segments_of
from audionet.data.folds import Folds
from audionet.data.grouping import hash_order
from audionet.training.exact_head import ExactHead, ExactTrainer, FeatureSet
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
    """

    rows: IntArray
    fitted: ExactHead
    probabilities: FloatArray
    with_fewer: list[FloatArray]


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
        Uncalibrated, by the classifier heads alone.
    with_fewer : list of ndarray of float32, each (m, labels)
    fitted : dict of int to ExactHead
        The fit of each fold that has test images of the labels.
    """

    rows: IntArray
    fold: IntArray
    probabilities: FloatArray
    with_fewer: list[FloatArray]
    fitted: dict[int, ExactHead]


def cross_validate(
    trainer: ExactTrainer, folds: Folds, shares: Sequence[float] = (), title: str = "Cross-validating"
) -> OutOfFold:
    """Fit a head for each fold, with all its choices made within the fold's training images, and test it.

    Parameters
    ----------
    trainer : ExactTrainer
    folds : Folds
        Of the trainer's images.
    shares : sequence of float
        Shares of each fold's recordings to fit heads on as well, for a learning curve.
    title : str
        Of the progress bar.
    """
    known = trainer.objective.known

    def run(number: int) -> FoldResult:
        training, test = folds.training[number], folds.tests[number]
        rows = test[known[test]]
        fitted = trainer.fit(training[known[training]])
        fewer = [_with_share(trainer, fitted, rows, share) for share in shares]
        return FoldResult(rows, fitted, trainer.probabilities(fitted, rows), fewer)

    numbers = [number for number, rows in enumerate(folds.tests) if known[rows].any()]
    results: list[FoldResult] = []
    with ThreadPoolExecutor(available_cores()) as threads, progress(title, "folds", len(numbers)) as advance:
        for result in threads.map(run, numbers):
            results.append(result)
            advance(1)
    return _joined(results, numbers, trainer.labels)


def _joined(results: Sequence[FoldResult], numbers: Sequence[int], labels: int) -> OutOfFold:
    rows = np.concatenate([np.zeros(0, np.int64), *(result.rows for result in results)])
    fold = np.repeat(np.array(numbers, np.int64), [len(result.rows) for result in results])
    order = np.argsort(rows)
    shares = zip(*(result.with_fewer for result in results), strict=True)
    fewer = [np.concatenate(parts)[order] for parts in shares]
    nothing = np.zeros((0, labels), np.float32)
    probabilities = np.concatenate([nothing, *(result.probabilities for result in results)])[order]
    fitted = {number: result.fitted for number, result in zip(numbers, results, strict=True)}
    return OutOfFold(rows[order], fold[order], probabilities, fewer, fitted)


def embedding_examples(
    trainer: ExactTrainer, features: FeatureSet, targets: IntArray, rows: IntArray
) -> EmbeddingExamples:
    """Return images with their features and labels, to fit or compare speaker models."""
    segments = segments_of([trainer.images[row] for row in rows.tolist()])
    return EmbeddingExamples(features.values[rows], targets[rows], segments)


def compare_speakers(
    trainer: ExactTrainer,
    targets: IntArray,
    folds: Folds,
    found: OutOfFold,
    embedded: IntArray,
    with_voices: bool,
) -> list[Similarities]:
    """Compare test images with speaker models of their folds, with the features of the folds' heads.

    Parameters
    ----------
    trainer : ExactTrainer
    targets : ndarray of int64, shape (n,)
        Label number of each of the trainer's images; -1 for the background's.
    folds : Folds
    found : OutOfFold
        Of these folds.
    embedded : ndarray of int64
        Images that the speaker models are fitted on, where they are in training.
    with_voices : bool
        Whether to compare in the backbone's voice space as well.

    Returns
    -------
    list of Similarities
        In the model's own space and, with voices, joined with the voice space. The labels' images first, in the order
        of ``found.rows``, then the background's.
    """

    def run(number: int) -> tuple[IntArray, list[Similarities]]:
        features = trainer.feature_sets[found.fitted[number].features]
        test = folds.tests[number]
        training = np.intersect1d(folds.training[number], embedded)
        spaces = [None, features.voice_space] if with_voices else [None]
        fitted, tested = (embedding_examples(trainer, features, targets, rows) for rows in (training, test))
        return test, compare_fold(fitted, tested, trainer.labels, features.widths, spaces)

    with ThreadPoolExecutor(available_cores()) as threads:
        results = list(threads.map(run, found.fitted))
    rows = np.concatenate([np.zeros(0, np.int64), *(test for test, _ in results)])
    order = np.lexsort((rows, targets[rows] < 0))
    images = [trainer.images[row] for row in rows[order].tolist()]
    nothing = np.zeros((0, trainer.labels), np.float32)
    return [
        Similarities(
            np.concatenate([nothing, *(parts[place].values for _, parts in results)])[order],
            targets[rows[order]],
            segments_of(images),
        )
        for place in range(2 if with_voices else 1)
    ]


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

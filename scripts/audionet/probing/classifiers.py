"""The simplest classifiers there are, so that what they reach is the features' doing."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.classifier.head import standardisation
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import FloatArray, IntArray

STRENGTHS = 10.0 ** np.arange(1, 6.5, 0.5)
"""C, times the features' width: from strong regularisation to weak."""

INNER_FOLDS = 3
COMPONENTS = 16

_MOST_ITERATIONS = 1000
_LEAST_PROBABILITY = 1e-6  # a label that a fold did not learn would cost infinitely much
_AS_GOOD = 1.01
_NEGLIGIBLE = 1e-5  # of the largest singular value
_FRAMES_A_COMPONENT = 20
_VARIANCE_FLOOR = 0.01  # of standardised frames


@dataclass(frozen=True)
class ProbeExamples:
    """Clips to learn from.

    Attributes
    ----------
    labels : ndarray of int64, shape (n,)
    recordings : ndarray of int64, shape (n,)
        What belongs together.
    starts, stops : ndarray of float64, shape (n,)
        Where in its recording a clip lies, seconds.
    """

    labels: IntArray
    recordings: IntArray
    starts: NDArray[np.float64]
    stops: NDArray[np.float64]


@dataclass(frozen=True)
class LinearProbe:
    """Multinomial logistic regression on standardised features.

    Attributes
    ----------
    offset, scale : ndarray of float32, shape (width,)
    basis : ndarray of float32, shape (width, rank), or None
        The directions in which the training set extends, where they are fewer than the features.
    model : sklearn.linear_model.LogisticRegression
    c : float
        Inverse strength of regularisation, of features with a mean square of 1.
    at_edge : bool
        Whether that is the first or the last value that was tried.
    converged : bool
        Whether fitting ended before it was stopped.
    labels : int
    """

    offset: FloatArray
    scale: FloatArray
    basis: FloatArray | None
    model: Any
    c: float
    at_edge: bool
    converged: bool
    labels: int

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Probabilities, shape (n, labels), of features, shape (n, width)."""
        values: FloatArray = (features - self.offset) * self.scale
        return _probabilities(self.model, values if self.basis is None else values @ self.basis, self.labels)


def fit_linear_probe(features: FloatArray, widths: Sequence[int], examples: ProbeExamples, labels: int) -> LinearProbe:
    """Fit a linear probe, its regularisation chosen by cross-validation on these examples alone.

    What is chosen is the least C whose log loss on clips held out with their recordings (see `inner_folds`) is within a
    hundredth of the best.

    Parameters
    ----------
    features : ndarray of float32, shape (n, sum(widths))
    widths : sequence of int
        Of the parts that the features are joined of; each is given the same weight.
    examples : Examples
    labels : int
        How many there are; at least two of them are among the examples.
    """
    offset, scale = standardisation([features], widths)
    scale = scale * np.float32(np.sqrt(features.shape[1] / len(widths)))  # a mean square of 1
    values = (features - offset) * scale
    basis = row_space(values) if values.shape[1] > len(values) else None
    if basis is not None:
        values = values @ basis
    folds = list(inner_folds(examples))
    grid = STRENGTHS / features.shape[1]
    losses: list[float] = []
    models = [_regression() for _ in folds]
    with _core_each(), ThreadPoolExecutor(INNER_FOLDS) as threads:

        def loss(model: Any, fold: tuple[IntArray, IntArray]) -> float:
            training, held_out = fold
            model.fit(values[training], examples.labels[training])  # goes on from the C before
            given = _probabilities(model, values[held_out], labels)
            right = given[np.arange(len(held_out)), examples.labels[held_out]]
            return -float(np.log(np.maximum(right, _LEAST_PROBABILITY)).sum())

        for c in grid:
            for model in models:
                model.C = float(c)
            losses.append(sum(threads.map(loss, models, folds)))
            # The loss has one minimum.
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break
        best = strongest_of_the_best(losses) if folds else len(grid) // 2
        final = _regression()
        final.C = float(grid[best])
        final.fit(values, examples.labels)
    converged = bool(np.max(final.n_iter_) < _MOST_ITERATIONS)
    return LinearProbe(offset, scale, basis, final, float(grid[best]), best in (0, len(grid) - 1), converged, labels)


def strongest_of_the_best(losses: Sequence[float]) -> int:
    """The first place whose loss is within a hundredth of the least: where losses are level, less freedom is as good.

    Weak regularisation leaves them level: fits end when they hardly move, wherever that is.
    """
    return int(np.argmax(np.array(losses) <= _AS_GOOD * min(losses)))


def row_space(values: FloatArray) -> FloatArray:
    """An orthonormal basis, shape (width, rank), of what the rows, shape (n, width), span.

    In it an L2-penalised linear model is the same model: directions that no row has get no weight (the representer
    theorem, Kimeldorf and Wahba, 1970), and a rotation changes no norm.
    """
    rows = values.astype(np.float64)
    squares, vectors = np.linalg.eigh(rows @ rows.T)
    kept = squares > squares[-1] * _NEGLIGIBLE**2
    basis: FloatArray = (rows.T @ (vectors[:, kept] / np.sqrt(squares[kept]))).astype(np.float32)
    return basis


def inner_folds(examples: ProbeExamples) -> Iterator[tuple[IntArray, IntArray]]:
    """Places to learn from and places held out, three times; nothing that is held out is heard in learning.

    A label's recordings are dealt out whole. Where a label has a single one, that is cut in time into three, and clips
    that overlap with what is held out take no part. A fold without two labels to learn is left out.
    """
    fold = np.empty(len(examples.labels), np.int64)
    for label in np.unique(examples.labels):
        own = np.flatnonzero(examples.labels == label)
        own = own[np.lexsort((examples.starts[own], examples.recordings[own]))]
        recordings = Groups(examples.recordings[own].tolist())
        if len(recordings.names) > 1:
            fold[own] = (recordings.member + label) % INNER_FOLDS
        else:
            fold[own] = np.arange(len(own)) * INNER_FOLDS // len(own)
    for number in range(INNER_FOLDS):
        held_out = np.flatnonzero(fold == number)
        free = fold != number
        for place in held_out:
            same = examples.recordings == examples.recordings[place]
            free &= ~(same & (examples.starts < examples.stops[place]) & (examples.stops > examples.starts[place]))
        training = np.flatnonzero(free)
        if len(held_out) and len(np.unique(examples.labels[training])) > 1:
            yield training, held_out


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(warm_start=True, max_iter=_MOST_ITERATIONS)


@contextlib.contextmanager
def _core_each() -> Iterator[None]:
    """Fit on one core each, and leave it to the result to say what did not come to an end.

    On cores that others use too, BLAS waits for its slowest thread: two take twice as long as one.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _probabilities(model: Any, values: FloatArray, labels: int) -> FloatArray:
    """Probabilities, shape (n, labels); 0 for labels that were not learned."""
    found = np.zeros((len(values), labels), np.float32)
    found[:, model.classes_] = model.predict_proba(values)
    return found


@dataclass(frozen=True)
class Mixtures:
    """A Gaussian mixture of each label's frames.

    Attributes
    ----------
    offset, scale : ndarray of float32, shape (coefficients,)
        Standardise frames.
    models : dict of int to sklearn.mixture.GaussianMixture
        By label.
    labels : int
    """

    offset: FloatArray
    scale: FloatArray
    models: dict[int, Any]
    labels: int

    def scores(self, frames: Sequence[FloatArray]) -> FloatArray:
        """Mean log likelihood of each clip's frames, shape (n, labels); -inf for labels that were not learned."""
        found = np.full((len(frames), self.labels), -np.inf, np.float32)
        together = (np.concatenate(frames) - self.offset) * self.scale
        edges = np.cumsum([0, *map(len, frames[:-1])])
        for label, model in self.models.items():
            found[:, label] = np.add.reduceat(model.score_samples(together), edges) / list(map(len, frames))
        return found


def fit_mixtures(frames: Sequence[FloatArray], labels: IntArray, count: int, seed: int) -> Mixtures:
    """Fit a mixture to each label's frames (Reynolds and Rose, Gaussian mixture speaker models, 1995).

    Parameters
    ----------
    frames : sequence of n ndarray of float32, shape (some, coefficients)
        Each clip's.
    labels : ndarray of int64, shape (n,)
    count : int
        How many labels there are.
    seed : int
    """
    from sklearn.mixture import GaussianMixture

    together = np.concatenate(frames)
    offset, scale = together.mean(axis=0), 1 / np.maximum(together.std(axis=0), 1e-6)
    models = {}
    for label in np.unique(labels):
        own = np.concatenate([clip for clip, other in zip(frames, labels, strict=True) if other == label])
        components = max(1, min(COMPONENTS, len(own) // _FRAMES_A_COMPONENT))
        model = GaussianMixture(components, covariance_type="diag", reg_covar=_VARIANCE_FLOOR, random_state=seed)
        with _core_each():  # expectation maximisation creeps in the end; after 100 steps nothing is left to gain
            models[int(label)] = model.fit((own - offset) * scale)
    return Mixtures(offset, scale, models, count)

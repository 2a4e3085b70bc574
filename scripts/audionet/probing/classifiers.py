"""Simple classifiers, so that their accuracy measures the quality of the features: linear probes and mixtures."""

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
"""Values of C that are tried, times the width of the features: from strong regularisation to weak."""

INNER_FOLDS = 3
COMPONENTS = 16

_MAX_ITERATIONS = 1000
_MIN_PROBABILITY = 1e-6  # the log loss of a label that is not in the training fold would be infinite
_LOSS_TOLERANCE = 1.01  # relative to the lowest loss
_MIN_SINGULAR_VALUE = 1e-5  # share of the largest singular value
_FRAMES_PER_COMPONENT = 20
_VARIANCE_FLOOR = 0.01  # of standardised frames


@dataclass(frozen=True)
class ProbeExamples:
    """Labels and positions of training clips.

    Attributes
    ----------
    labels : ndarray of int64, shape (n,)
    recordings : ndarray of int64, shape (n,)
        Number of each clip's recording.
    starts, stops : ndarray of float64, shape (n,)
        Start and end of each clip in its recording, seconds.
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
        Standardisation: ``(features - offset) * scale``.
    basis : ndarray of float32, shape (width, rank), or None
        Basis of the row space of the training set, if it has fewer dimensions than the features.
    model : sklearn.linear_model.LogisticRegression
    c : float
        Inverse strength of the L2 regularisation, for features with a mean square of 1.
    at_edge : bool
        True if `c` is the first or the last value of the grid.
    converged : bool
        True if the solver converged within the maximum number of iterations.
    labels : int
        Number of labels.
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
        """Predict label probabilities, shape (n, labels), from features, shape (n, width)."""
        values: FloatArray = (features - self.offset) * self.scale
        return _probabilities(self.model, values if self.basis is None else values @ self.basis, self.labels)


def fit_linear_probe(features: FloatArray, widths: Sequence[int], examples: ProbeExamples, labels: int) -> LinearProbe:
    """Fit a linear probe; its regularisation is selected by cross-validation on these examples alone.

    The lowest C is selected whose log loss on clips of held-out recordings (see `inner_folds`) is within 1 % of the
    lowest loss.

    Parameters
    ----------
    features : ndarray of float32, shape (n, sum(widths))
    widths : sequence of int
        Widths of the concatenated feature vectors, weighted as by `standardisation`.
    examples : ProbeExamples
    labels : int
        Number of labels; at least two of them occur among the examples.
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
    with _single_threaded_fits(), ThreadPoolExecutor(INNER_FOLDS) as threads:

        def loss(model: Any, fold: tuple[IntArray, IntArray]) -> float:
            training, held_out = fold
            model.fit(values[training], examples.labels[training])  # warm start from the previous C
            given = _probabilities(model, values[held_out], labels)
            right = given[np.arange(len(held_out)), examples.labels[held_out]]
            return -float(np.log(np.maximum(right, _MIN_PROBABILITY)).sum())

        for c in grid:
            for model in models:
                model.C = float(c)
            losses.append(sum(threads.map(loss, models, folds)))
            # Stop once the loss rises twice in a row: it has a single minimum.
            if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:
                break
        best = select_strongest(losses) if folds else len(grid) // 2
        final = _regression()
        final.C = float(grid[best])
        final.fit(values, examples.labels)
    converged = bool(np.max(final.n_iter_) < _MAX_ITERATIONS)
    return LinearProbe(offset, scale, basis, final, float(grid[best]), best in (0, len(grid) - 1), converged, labels)


def select_strongest(losses: Sequence[float]) -> int:
    """Return the first index with a loss within 1 % of the lowest: among equal losses, the strongest regularisation.

    With weak regularisation the losses are almost equal, because the solver stops as soon as it makes little progress.
    """
    return int(np.argmax(np.array(losses) <= _LOSS_TOLERANCE * min(losses)))


def row_space(values: FloatArray) -> FloatArray:
    """Compute an orthonormal basis, shape (width, rank), of the row space of values, shape (n, width).

    An L2-penalised linear model is the same in this basis: directions outside the row space get no weight (representer
    theorem, Kimeldorf and Wahba, 1970), and a rotation changes no norm.
    """
    rows = values.astype(np.float64)
    squares, vectors = np.linalg.eigh(rows @ rows.T)
    kept = squares > squares[-1] * _MIN_SINGULAR_VALUE**2
    basis: FloatArray = (rows.T @ (vectors[:, kept] / np.sqrt(squares[kept]))).astype(np.float32)
    return basis


def inner_folds(examples: ProbeExamples) -> Iterator[tuple[IntArray, IntArray]]:
    """Split examples into three folds; yields the indices of training and held-out clips, which never overlap in time.

    Recordings are kept whole. If a label has a single recording, it is split in time into three parts, and clips that
    overlap a held-out clip are excluded from training. A fold with fewer than two training labels is skipped.
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
        usable = fold != number
        for place in held_out:
            same = examples.recordings == examples.recordings[place]
            usable &= ~(same & (examples.starts < examples.stops[place]) & (examples.stops > examples.starts[place]))
        training = np.flatnonzero(usable)
        if len(held_out) and len(np.unique(examples.labels[training])) > 1:
            yield training, held_out


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(warm_start=True, max_iter=_MAX_ITERATIONS)


@contextlib.contextmanager
def _single_threaded_fits() -> Iterator[None]:
    """Limit each fit to one BLAS thread, and silence convergence warnings: results report convergence themselves.

    On shared cores BLAS waits for its slowest thread: a fit with two threads takes twice as long as with one.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield


def _probabilities(model: Any, values: FloatArray, labels: int) -> FloatArray:
    """Predict probabilities, shape (n, labels); 0 for labels without training examples."""
    found = np.zeros((len(values), labels), np.float32)
    found[:, model.classes_] = model.predict_proba(values)
    return found


@dataclass(frozen=True)
class Mixtures:
    """Gaussian mixture models, one of each label's MFCC frames.

    Attributes
    ----------
    offset, scale : ndarray of float32, shape (coefficients,)
        Standardisation of the frames.
    models : dict of int to sklearn.mixture.GaussianMixture
        By label number.
    labels : int
        Number of labels.
    """

    offset: FloatArray
    scale: FloatArray
    models: dict[int, Any]
    labels: int

    def scores(self, frames: Sequence[FloatArray]) -> FloatArray:
        """Compute the mean log-likelihood of each clip's frames, shape (n, labels); -inf for labels without one."""
        found = np.full((len(frames), self.labels), -np.inf, np.float32)
        together = (np.concatenate(frames) - self.offset) * self.scale
        edges = np.cumsum([0, *map(len, frames[:-1])])
        for label, model in self.models.items():
            found[:, label] = np.add.reduceat(model.score_samples(together), edges) / list(map(len, frames))
        return found


def fit_mixtures(frames: Sequence[FloatArray], labels: IntArray, count: int, seed: int) -> Mixtures:
    """Fit a Gaussian mixture to each label's frames (Reynolds and Rose, Gaussian mixture speaker models, 1995).

    Parameters
    ----------
    frames : sequence of n ndarray of float32, shape (some, coefficients)
        MFCC frames of each clip.
    labels : ndarray of int64, shape (n,)
    count : int
        Number of labels.
    seed : int
    """
    from sklearn.mixture import GaussianMixture

    together = np.concatenate(frames)
    offset, scale = together.mean(axis=0), 1 / np.maximum(together.std(axis=0), 1e-6)
    models = {}
    for label in np.unique(labels):
        own = np.concatenate([clip for clip, other in zip(frames, labels, strict=True) if other == label])
        components = max(1, min(COMPONENTS, len(own) // _FRAMES_PER_COMPONENT))
        model = GaussianMixture(components, covariance_type="diag", reg_covar=_VARIANCE_FLOOR, random_state=seed)
        with _single_threaded_fits():  # EM converges slowly in the end; after 100 iterations it hardly improves
            models[int(label)] = model.fit((own - offset) * scale)
    return Mixtures(offset, scale, models, count)

"""Exact fit of a linear head: logistic regression with an L2 penalty, solved to convergence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.classifier.head import Head, Layer, logistic, softmax, standardisation
from audionet.errors import ModelError
from audionet.utils.arrays import BoolArray, FloatArray, IntArray

STRENGTHS = (1e-2, 1e-3, 1e-4, 1e-5)
"""L2 penalties to choose from, the strongest first. Features have norm 1, and the loss is a mean over recordings."""

DEFAULT_STRENGTH = 1e-5
"""Strength unless another is clearly better on held-out recordings."""

DEFAULT_INDEPENDENT_STRENGTH = 1e-4
"""The same for labels that do not exclude each other.

Within 0.01 of the best mean average precision on mixtures of up to three sounds, words or speakers, where the strengths
that are best differ from one to the other.
"""

_JITTER = 1e-9  # share of the mean squared norm of the examples
_TINY = 1e-30
_TOLERANCE = 1e-9  # decrease of the loss at which the solver stops
_ROUGH_TOLERANCE = 1e-6  # the same where solutions are only compared with each other
_MAX_ITERATIONS = 1000
_ABSENT = -60.0  # logit, relative to the lowest, of a label without a training example


@dataclass(frozen=True)
class Design:
    """Standardised training features, in orthonormal coordinates of the space that they span.

    The L2 penalty keeps the weights in that space, so that fewer examples than features mean a smaller problem with
    the same solution. The coordinates come from the Cholesky factor L of the Gram matrix: ``L @ L.T`` has the inner
    products of the examples, which are all that the fit depends on.

    Attributes
    ----------
    offset, scale : ndarray of float32, shape (width,)
        Standardised features are ``(features - offset) * scale``.
    rows : ndarray of float32, shape (n, rank)
        The examples. With no more examples than features ``rank`` is n and this is L; otherwise ``rank`` is the width.
    standardised : ndarray of float32, shape (n, width)
    factor : ndarray of float64, shape (n, n), or None
        L; None where the features keep their own coordinates.
    """

    offset: FloatArray
    scale: FloatArray
    rows: FloatArray
    standardised: FloatArray
    factor: NDArray[np.float64] | None

    def project(self, features: FloatArray) -> FloatArray:
        """Return other features in the same coordinates, shape (m, rank)."""
        standardised: FloatArray = (features - self.offset) * self.scale
        if self.factor is None or not len(features):
            return standardised[:, : self.rows.shape[1]]
        from scipy.linalg import solve_triangular

        products = (self.standardised @ standardised.T).astype(np.float64)
        projected = solve_triangular(self.factor, products, lower=True, overwrite_b=True, check_finite=False)
        return np.ascontiguousarray(projected.T, np.float32)

    def head(self, solution: Solution) -> Head:
        """Return a solution as a head on the original features."""
        weights = solution.weights
        if self.factor is not None:
            from scipy.linalg import solve_triangular

            kernel = solution.weights.astype(np.float64)
            kernel = solve_triangular(self.factor, kernel, lower=True, trans=1, check_finite=False)
            weights = (self.standardised.T.astype(np.float64) @ kernel).astype(np.float32)
        return Head(self.offset, self.scale, None, False, Layer(weights, solution.biases), solution.independent)


class Solution(NamedTuple):
    """Weights and biases of a fit in a design's coordinates.

    Attributes
    ----------
    weights : ndarray of float32, shape (rank, labels)
    biases : ndarray of float32, shape (labels,)
    loss : float
        Weighted mean cross entropy of the training examples, without the penalty.
    iterations : int
    independent : bool
        Whether labels do not exclude each other.
    """

    weights: FloatArray
    biases: FloatArray
    loss: float
    iterations: int
    independent: bool = False

    def probabilities(self, rows: FloatArray) -> FloatArray:
        """Compute probabilities, shape (m, labels), of rows in the design's coordinates, shape (m, rank)."""
        logits: FloatArray = rows @ self.weights + self.biases
        return logistic(logits) if self.independent else softmax(logits)


def design(features: FloatArray, widths: Sequence[int]) -> Design:
    """Standardise training features, and reduce them to the space that they span.

    Parameters
    ----------
    features : ndarray of float32, shape (n, sum(widths))
    widths : sequence of int
        Widths of the joined parts, weighted as by `standardisation`.

    Raises
    ------
    ModelError
        If a feature is NaN or infinite.
    """
    if not np.isfinite(features).all():
        raise ModelError("the bottleneck cache contains NaN or infinite values: delete --bottleneck_dir and run again")
    offset, scale = standardisation([features], widths)
    rows: FloatArray = (features - offset) * scale
    if len(rows) > rows.shape[1]:
        return Design(offset, scale, rows, rows, None)
    factor = _cholesky(rows)
    return Design(offset, scale, factor.astype(np.float32), rows, factor)


def _cholesky(rows: FloatArray) -> NDArray[np.float64]:
    """Compute the lower Cholesky factor of the Gram matrix of rows, shape (n, n)."""
    exact = rows.astype(np.float64)
    gram = exact @ exact.T
    diagonal: NDArray[np.float64] = np.einsum("ii->i", gram)
    # Copies make the matrix singular; what is added makes them differ by less than the rounding of their features.
    jitter = _JITTER * max(float(diagonal.mean()), _TINY)
    while True:
        diagonal += jitter
        try:
            return np.asarray(np.linalg.cholesky(gram), np.float64)
        except np.linalg.LinAlgError:
            jitter *= 10


def fit_logistic(
    rows: FloatArray,
    targets: IntArray,
    labels: int,
    weights: NDArray[np.float64],
    strength: float,
    start: Solution | None = None,
    rough: bool = False,
) -> Solution:
    """Fit multinomial logistic regression by L-BFGS (Liu & Nocedal, 1989).

    Minimises the weighted mean cross entropy plus half of `strength` times the sum of squared weights; biases are not
    penalised. A label without an example gets a probability of practically 0.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, rank)
    targets : ndarray of int64, shape (n,)
    labels : int
        Number of labels.
    weights : ndarray of float64, shape (n,)
        Weight of each example, above 0.
    strength : float
        Above 0.
    start : Solution, optional
        Of a similar problem in the same coordinates, such as one with another strength: saves iterations.
    rough : bool
        Whether to stop earlier, where solutions are only compared with each other.
    """
    present, known = np.unique(targets, return_inverse=True)
    share = (weights / weights.sum()).astype(np.float32)
    own = np.arange(len(rows)), known

    def entropy(logits: FloatArray) -> tuple[float, FloatArray]:
        logits -= logits.max(axis=1, keepdims=True)
        slope: FloatArray = np.exp(logits)
        sums = slope.sum(axis=1)
        value = float(share @ (np.log(sums) - logits[own]).astype(np.float64))
        slope /= sums[:, None]
        slope[own] -= 1
        slope *= share[:, None]
        return value, slope

    fitted = _minimise(rows, entropy, present, labels, strength, start, rough)
    fitted.biases[np.setdiff1d(np.arange(labels), present)] = fitted.biases[present].min() + _ABSENT
    return fitted


def fit_independent(
    rows: FloatArray,
    present: BoolArray,
    weights: NDArray[np.float64],
    strength: float,
    start: Solution | None = None,
    rough: bool = False,
) -> Solution:
    """Fit a logistic regression for each label by L-BFGS, all at once: several labels may be present in an example.

    Minimises the weighted mean of the labels' summed cross entropies plus half of `strength` times the sum of squared
    weights. A label that is present in no example, or in all, gets a probability of practically 0, or 1.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, rank)
    present : ndarray of bool, shape (n, labels)
    weights, strength, start, rough
        As for `fit_logistic`.
    """
    varying = np.flatnonzero(present.any(axis=0) & ~present.all(axis=0))
    share = (weights / weights.sum()).astype(np.float32)[:, None]
    targets = present[:, varying].astype(np.float32)

    def entropy(logits: FloatArray) -> tuple[float, FloatArray]:
        losses = np.logaddexp(0, logits) - targets * logits
        slope = (logistic(logits) - targets) * share
        return float((share * losses).sum(dtype=np.float64)), slope

    fitted = _minimise(rows, entropy, varying, present.shape[1], strength, start, rough)
    constant = np.setdiff1d(np.arange(present.shape[1]), varying)
    fitted.biases[constant] = np.where(present[:, constant].any(axis=0), -_ABSENT, _ABSENT)
    return fitted._replace(independent=True)


def _minimise(
    rows: FloatArray,
    entropy: Callable[[FloatArray], tuple[float, FloatArray]],
    fitted: IntArray,
    labels: int,
    strength: float,
    start: Solution | None,
    rough: bool,
) -> Solution:
    """Minimise a loss of the logits plus the penalty; the weights and biases of labels that are not fitted are 0.

    Parameters
    ----------
    rows : ndarray of float32, shape (n, rank)
    entropy : callable
        Returns the loss and its gradient, shape (n, len(fitted)), of logits of that shape, which it may overwrite.
    fitted : ndarray of int64
        Numbers of the labels to fit.
    labels : int
    strength, start, rough
        As for `fit_logistic`.
    """
    from scipy.optimize import minimize

    rank, count = rows.shape[1], len(fitted)
    if not count:
        return Solution(np.zeros((rank, labels), np.float32), np.zeros(labels, np.float32), 0.0, 0)

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        kernel = values[: rank * count].reshape(rank, count)
        value, slope = entropy(rows @ kernel.astype(np.float32) + values[rank * count :].astype(np.float32))
        gradient = np.empty_like(values)
        gradient[: rank * count] = (rows.T @ slope).ravel()
        gradient[: rank * count] += strength * values[: rank * count]
        gradient[rank * count :] = slope.sum(axis=0)
        return value + 0.5 * strength * float(values[: rank * count] @ values[: rank * count]), gradient

    initial = np.zeros((rank + 1) * count)
    if start is not None:
        initial[: rank * count] = start.weights[:, fitted].ravel()
        initial[rank * count :] = start.biases[fitted]
    options = {
        "maxiter": _MAX_ITERATIONS,
        "maxcor": 20,
        "ftol": _ROUGH_TOLERANCE if rough else _TOLERANCE,
        "gtol": 1e-7,
    }
    found = minimize(loss, initial, jac=True, method="L-BFGS-B", options=options)
    kernel, biases = np.zeros((rank, labels), np.float32), np.zeros(labels, np.float32)
    kernel[:, fitted] = found.x[: rank * count].reshape(rank, count)
    biases[fitted] = found.x[rank * count :]
    squares = float(found.x[: rank * count] @ found.x[: rank * count])
    return Solution(kernel, biases, float(found.fun) - 0.5 * strength * squares, int(found.nit))


def fit_path(fit: Callable[[float, Solution | None], Solution]) -> list[Solution]:
    """Fit one solution for each of `STRENGTHS`, each starting from the one before.

    Parameters
    ----------
    fit : callable
        Fits a solution of this strength, from another one if there is any.
    """
    path: list[Solution] = []
    for strength in STRENGTHS:
        path.append(fit(strength, path[-1] if path else None))
    return path


def recording_weights(recordings: IntArray, targets: IntArray | None = None) -> NDArray[np.float64]:
    """Weigh examples so that every recording counts the same, or every label and within it every recording, shape (n,).

    Parameters
    ----------
    recordings : ndarray of int64, shape (n,)
        Number of each example's recording.
    targets : ndarray of int64, shape (n,), optional
        Its label, where every label shall count the same.
    """
    _, member, counts = np.unique(recordings, return_inverse=True, return_counts=True)
    weights: NDArray[np.float64] = 1.0 / counts[member]
    if targets is not None:
        totals = np.bincount(targets, weights=weights)
        weights /= totals[targets]
    weights /= weights.mean()
    return weights

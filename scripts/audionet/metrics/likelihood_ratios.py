"""Likelihood ratios of trials: calibration of scores, and the cost of the ratios (Cllr)."""

from __future__ import annotations

import numpy as np

from audionet.utils.arrays import AnyFloatArray, BoolArray, Float64Array, IntArray

_FOLDS = 5
_STEPS = 100
_CONVERGED = 1e-10


def ratio_cost(ratios: AnyFloatArray, target: BoolArray) -> float:
    """Compute the cost of log-likelihood ratios, Cllr, in bits: 0 is perfect, 1 knows nothing (Brümmer, 2006).

    Targets and nontargets weigh the same.

    Parameters
    ----------
    ratios : ndarray of float, shape (n,)
        Natural logarithms.
    target : ndarray of bool, shape (n,)
        At least one of each.
    """
    exact = ratios.astype(np.float64)
    costs = np.logaddexp(0, -exact[target]).mean() + np.logaddexp(0, exact[~target]).mean()
    return float(costs / (2 * np.log(2)))


def min_ratio_cost(scores: AnyFloatArray, target: BoolArray) -> float:
    """Compute the min Cllr that any increasing calibration of the scores reaches on them (minimum Cllr).

    The calibration is isotonic regression (pool adjacent violators: Brümmer & du Preez, 2006).

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
    target : ndarray of bool, shape (n,)
        At least one of each.
    """
    from sklearn.isotonic import IsotonicRegression

    probabilities = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores.astype(np.float64), target.astype(float))
    with np.errstate(divide="ignore"):
        ratios = np.log(probabilities) - np.log1p(-probabilities)
    return ratio_cost(ratios - np.log(target.sum() / (~target).sum()), target)


def fit_calibration(scores: AnyFloatArray, target: BoolArray) -> tuple[float, float]:
    """Fit slope and offset that make scores log-likelihood ratios (logistic regression: Brümmer et al., 2007).

    Targets and nontargets weigh the same. Their desired probabilities are a little less than certain (Platt, 1999), so
    that scores that separate them perfectly get no infinite slope.

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
    target : ndarray of bool, shape (n,)
        At least one of each.

    Returns
    -------
    slope, offset : float
    """
    targets, nontargets = int(target.sum()), int((~target).sum())
    mean, deviation = float(scores.mean()), max(float(scores.std()), 1e-12)
    inputs = np.stack([(scores - mean) / deviation, np.ones(len(scores))])
    weights = np.where(target, 0.5 / targets, 0.5 / nontargets)
    desired = np.where(target, (targets + 1) / (targets + 2), 1 / (nontargets + 2))

    def loss_of(parameters: Float64Array) -> tuple[float, Float64Array]:
        logits = parameters @ inputs
        return float(weights @ (np.logaddexp(0, logits) - desired * logits)), 1 / (1 + np.exp(-logits))

    parameters = np.zeros(2)
    loss, probabilities = loss_of(parameters)
    for _ in range(_STEPS):
        gradient = inputs @ (weights * (probabilities - desired))
        hessian = (inputs * (weights * probabilities * (1 - probabilities))) @ inputs.T + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        decrement = float(gradient @ step)
        if decrement < _CONVERGED:
            break
        size = 1.0
        while size > 1e-6:  # Newton's full step may go too far
            lower, at_lower = loss_of(parameters - size * step)
            if lower <= loss - 1e-4 * size * decrement:
                break
            size /= 2
        parameters, loss, probabilities = parameters - size * step, lower, at_lower
    slope = float(parameters[0] / deviation)
    return slope, float(parameters[1] - slope * mean)


def cross_calibrated(
    scores: AnyFloatArray, target: BoolArray, first: IntArray, second: IntArray
) -> Float64Array | None:
    """Calibrate scores to log-likelihood ratios, each by a fit on trials of other speakers alone (five folds).

    Parameters
    ----------
    scores : ndarray of float, shape (n,)
    target : ndarray of bool, shape (n,)
    first, second : ndarray of int64, shape (n,)
        Speaker of each side.

    Returns
    -------
    ndarray of float64, shape (n,), or None
        None where the trials of other speakers lack targets or nontargets: of few speakers.
    """
    folds = np.stack([first, second]) % _FOLDS
    folds = np.sort(folds, axis=0)
    ratios = np.empty(len(scores))
    for one, other in np.unique(folds, axis=1).T:
        tested = (folds[0] == one) & (folds[1] == other)
        fitted = ~np.isin(folds, (one, other)).any(axis=0)
        if target[fitted].all() or not target[fitted].any():
            return None
        slope, offset = fit_calibration(scores[fitted], target[fitted])
        ratios[tested] = slope * scores[tested] + offset
    return ratios

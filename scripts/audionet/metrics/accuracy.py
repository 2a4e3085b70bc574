"""Accuracy with its 95 % confidence interval."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

_Z = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Accuracy:
    """Accuracy: the share of right answers, with its counts and 95 % confidence interval.

    Attributes
    ----------
    right, total : int
    low, high : float
        Bounds of the interval, 0 to 1.
    """

    right: int
    total: int
    low: float
    high: float

    @property
    def share(self) -> float:
        """Right answers over all answers; NaN without answers."""
        return self.right / self.total if self.total else float("nan")

    def __str__(self) -> str:
        if not self.total:
            return "nothing to test on"
        return f"{self.share:6.1%}  ({self.right} of {self.total}, 95 % interval {self.low:.1%} to {self.high:.1%})"


def accuracy(right: NDArray[np.bool_], groups: Sequence[object] | None = None, folds: int | None = None) -> Accuracy:
    """Compute the accuracy with Wilson's confidence interval (Wilson, 1927).

    Parameters
    ----------
    right : ndarray of bool, shape (n,)
    groups : sequence of n hashable, optional
        Group of each answer, such as its recording. Chunks of one recording tend to be right or wrong together, so n
        chunks are worth fewer than n independent answers; the interval widens by Kish's design effect
        (Kish, Survey Sampling, 1965).
    folds : int, optional
        Number of folds, where the answers are those of a cross-validation. The folds' models share most of their
        training data and err together; the variance grows by 1 + folds / (folds - 1) (Nadeau & Bengio, Inference for
        the generalization error, 2003).
    """
    total, count = len(right), int(np.sum(right))
    if not total:
        return Accuracy(0, 0, 0.0, 1.0)
    n = total if groups is None else effective_sample_size(right, groups)
    if folds is not None:
        n /= 1 + folds / (folds - 1)
    share = count / total
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z * np.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Accuracy(count, total, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def effective_sample_size(right: NDArray[np.bool_], groups: Sequence[object]) -> float:
    """Estimate the number of independent answers with the same variance: from the number of groups to that of answers.

    Parameters
    ----------
    right : ndarray of bool, shape (n,), n > 0
    groups : sequence of n hashable
    """
    _, member = np.unique([str(group) for group in groups], return_inverse=True)
    sizes = np.bincount(member).astype(float)
    n, k = len(right), len(sizes)
    if k == n:
        return float(n)
    mean_size = float((sizes**2).sum() / n)
    rarer = min(int(right.sum()), n - int(right.sum()))
    # Few mistakes show little of how they cluster: assume correlation 1 without any, at least 1/2 with one, 1/3 ...
    correlation = 1 / (1 + rarer)
    if rarer and k > 1:
        # Intraclass correlation from a one-way analysis of variance (Fisher, 1925).
        means = np.bincount(member, weights=right) / sizes
        between = float((sizes * (means - right.mean()) ** 2).sum() / (k - 1))
        within = float(((right - means[member]) ** 2).sum() / (n - k))
        typical = (n - (sizes**2).sum() / n) / (k - 1)
        estimate = (between - within) / (between + (typical - 1) * within)
        correlation = float(np.clip(estimate, correlation, 1))
    return max(float(k), n / (1 + (mean_size - 1) * correlation))


Group = TypeVar("Group", bound=Hashable)
Values = TypeVar("Values", bound=NDArray[Any])


class Groups(Generic[Group]):
    """Assignment of rows to groups, such as of chunks to recordings.

    Parameters
    ----------
    of_rows : sequence of n hashable
        The group of each row.

    Attributes
    ----------
    names : list of hashable
        The groups in order of first appearance.
    member : ndarray of int64, shape (n,)
        Each row's group, as its index in `names`.
    sizes : ndarray of int64, shape (groups,)
    """

    def __init__(self, of_rows: Iterable[Group]) -> None:
        place: dict[Group, int] = {}
        self.member = np.array([place.setdefault(group, len(place)) for group in of_rows], np.int64)
        self.names = list(place)
        self.sizes = np.bincount(self.member, minlength=len(place))
        self._order = np.argsort(self.member, kind="stable")
        self._starts = np.cumsum(self.sizes) - self.sizes

    def value(self, of_rows: Values) -> Values:
        """Return what all rows of a group share, such as a recording's label, shape (groups, ...)."""
        values = np.empty((len(self.names), *of_rows.shape[1:]), of_rows.dtype)
        values[self.member] = of_rows
        return cast("Values", values)

    def mean(self, values: NDArray[np.float32], weights: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the mean of each group's rows, shape (groups, columns).

        Parameters
        ----------
        values : ndarray of float32, shape (n, columns)
        weights : ndarray of float32, shape (n,), optional
            Above 0; default: every row counts the same.
        """
        if not self.names:
            return np.zeros((0, values.shape[1]), np.float32)
        totals = self.sizes[:, None]
        if weights is not None:
            totals = np.add.reduceat(weights[self._order], self._starts, dtype=np.float64)[:, None]
            values = values * weights[:, None]
        sums = np.add.reduceat(values[self._order], self._starts, axis=0, dtype=np.float64)
        return (sums / totals).astype(np.float32)

"""Misclassification costs, and the decision rule that minimises the expected cost."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from audionet.errors import ModelError
from audionet.utils.arrays import Float64Array, FloatArray, IntArray
from audionet.utils.text import escape

_REMEDY = "run retrain.py again"
LARGEST_COST = 1e12  # above it, sums of squares lose small terms, and in the end overflow
_CANCELLED = 1e-14
"""Share of the total below which a difference of probabilities is rounding error."""

ROUNDING = 1e-12
_BLOCK_VALUES = 1 << 20


class Cost(NamedTuple):
    """Cost of predicting label number `predicted` if number `true` is correct."""

    true: int
    predicted: int
    cost: float


@dataclass(frozen=True)
class Costs:
    """Cost of each mistake: 0 for a correct prediction, 1 for a wrong one, except for the listed pairs.

    Only the exceptions are stored: a matrix for 5,000 labels would take 200 MB.

    Attributes
    ----------
    labels : int
    exceptions : tuple of Cost
        Wrong predictions, each once, of finite cost, 0 or more; not all wrong predictions cost 0.
    """

    labels: int
    exceptions: tuple[Cost, ...] = ()

    def matrix(self) -> Float64Array:
        """Return all costs, shape (labels, labels): a row for each true label, a column for each predicted one."""
        costs = np.ones((self.labels, self.labels))
        np.fill_diagonal(costs, 0)
        for true, predicted, cost in self.exceptions:
            costs[true, predicted] = cost
        return costs

    def of(self, given: IntArray, true: IntArray) -> Float64Array:
        """Return the cost of each of n predictions.

        Parameters
        ----------
        given, true : ndarray of int64, shape (n,)
            Label numbers.
        """
        costs: Float64Array = (given != true).astype(np.float64)
        if self.exceptions:
            ordered = sorted(self.exceptions)
            places = np.array([exception.true * self.labels + exception.predicted for exception in ordered])
            wanted = true * self.labels + given
            nearest = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
            excepted = places[nearest] == wanted
            costs[excepted] = np.array([exception.cost for exception in ordered])[nearest[excepted]]
        return costs

    @property
    def all_excepted(self) -> bool:
        """True if every mistake is an exception, so that none has the default cost 1."""
        return len(self.exceptions) == self.labels * (self.labels - 1)

    @property
    def all_zero(self) -> bool:
        """True if no mistake costs anything, so that every prediction is equally good."""
        return self.all_excepted and not any(exception.cost for exception in self.exceptions)


class _Column(NamedTuple):
    """Column of the cost matrix that has exceptions: the predicted label, the true labels, and their weights."""

    predicted: int
    true: IntArray
    weights: Float64Array


@dataclass(frozen=True)
class Rule:
    """Decision rule that predicts the label with the least expected cost, each cost raised to the power `exponent`.

    An exponent of 1 gives Bayes' decision rule, the optimum for calibrated probabilities (Duda and Hart, Pattern
    Classification and Scene Analysis, 1973, section 2.2; Elkan, The foundations of cost-sensitive learning, 2001).
    Less than 1 trusts the costs less; more than 1 compensates for overconfident probabilities. With 0 all mistakes have
    equal weight, and the most probable label is predicted. A cost of 0 stays 0 with any exponent.

    Attributes
    ----------
    costs : Costs
    exponent : float
        Finite, 0 or more.
    """

    costs: Costs
    exponent: float = 1.0

    def decide(self, probabilities: FloatArray | Float64Array) -> IntArray:
        """Predict label numbers, shape (n,). Of labels with equal expected cost, the most probable.

        Parameters
        ----------
        probabilities : ndarray of float, shape (n, labels)
        """
        if not self.costs.exceptions:
            return np.asarray(probabilities.argmax(axis=1), np.int64)
        given: IntArray = np.empty(len(probabilities), np.int64)
        rows = max(1, _BLOCK_VALUES // self.costs.labels)
        for start in range(0, len(probabilities), rows):
            block = probabilities[start : start + rows].astype(np.float64)
            expected = self._expected_costs(block)
            least = expected.min(axis=1, keepdims=True)
            given[start : start + rows] = np.where(expected <= least * (1 + ROUNDING), block, -1).argmax(axis=1)
        return given

    def _expected_costs(self, probabilities: Float64Array) -> Float64Array:
        """Compute the expected cost of each label, up to a factor, shape (n, labels)."""
        total = probabilities.sum(axis=1)
        expected: Float64Array = self._default_weight * (total[:, None] - probabilities)
        for predicted, true, weights in self._columns:
            excepted = probabilities[:, true]
            expected[:, predicted] = excepted @ weights
            if len(true) < self.costs.labels - 1:
                others = total - probabilities[:, predicted] - excepted.sum(axis=1)
                # What rounding leaves of nothing must not decide between labels that cost nothing.
                others[others < _CANCELLED * total] = 0
                expected[:, predicted] += self._default_weight * others
        return expected

    @functools.cached_property
    def _largest(self) -> float:
        default = () if self.costs.all_excepted else (1.0,)
        return max(*default, *(exception.cost for exception in self.costs.exceptions), 0.0)

    def _weight(self, costs: Float64Array) -> Float64Array:
        # Relative to the largest cost, so that no power of a cost overflows.
        weights: Float64Array = np.where(costs > 0, (costs / self._largest) ** self.exponent, 0.0)
        return weights

    @functools.cached_property
    def _default_weight(self) -> float:
        return 0.0 if self.costs.all_excepted else float(self._weight(np.ones(1))[0])

    @functools.cached_property
    def _columns(self) -> list[_Column]:
        by_predicted: dict[int, list[Cost]] = {}
        for exception in self.costs.exceptions:
            by_predicted.setdefault(exception.predicted, []).append(exception)
        return [
            _Column(
                predicted,
                np.array([exception.true for exception in exceptions]),
                self._weight(np.array([exception.cost for exception in exceptions])),
            )
            for predicted, exceptions in by_predicted.items()
        ]

    @property
    def threshold(self) -> float | None:
        """Least probability at which the second of two labels is predicted (Elkan, 2001, equation 2).

        At the threshold itself, the more probable label is predicted. None if there are not exactly two labels.
        """
        if self.costs.labels != 2:
            return None
        weights = self._weight(self.costs.matrix())
        return float(weights[0, 1] / (weights[0, 1] + weights[1, 0]))

    def as_json(self, labels: Sequence[str]) -> dict[str, Any]:
        """Return the rule in the form that `from_json` reads: the costs that are not 1, by label, and the exponent."""
        costs = [
            {"true": labels[true], "predicted": labels[predicted], "cost": cost}
            for true, predicted, cost in self.costs.exceptions
        ]
        return {"costs": costs, "caution": self.exponent}

    @classmethod
    def from_json(cls, content: Any, labels: Sequence[str]) -> Rule:
        """Read the rule from a model's JSON.

        Raises
        ------
        ModelError
            If it is not a rule, or is one for other labels.
        """
        if not isinstance(content, dict) or set(content) != {"costs", "caution"}:
            raise _misfit("it was written by another version")
        exponent = parse_cost(content["caution"])
        if exponent is None:
            raise _misfit(
                f"its caution (cost exponent) is {content['caution']!r}, not a number from 0 to {LARGEST_COST:g}"
            )
        if not isinstance(content["costs"], list):
            raise _misfit("its costs are not a list")
        place = {label: number for number, label in enumerate(labels)}
        exceptions: dict[tuple[int, int], float] = {}
        for entry in content["costs"]:
            if not isinstance(entry, dict) or set(entry) != {"true", "predicted", "cost"}:
                raise _misfit("one of its costs does not have the fields true, predicted and cost")
            for name in (entry["true"], entry["predicted"]):
                if not isinstance(name, str) or name not in place:
                    raise _misfit(f"it names {name!r}, which is none of the model's labels")
            cost = parse_cost(entry["cost"])
            if cost is None:
                raise _misfit(f"one of its costs is {entry['cost']!r}, not a number from 0 to {LARGEST_COST:g}")
            pair = place[entry["true"]], place[entry["predicted"]]
            if pair in exceptions or pair[0] == pair[1]:
                raise _misfit(f"{_pair(*pair, labels)} is no mistake, or has two costs")
            exceptions[pair] = cost
        costs = make_costs(exceptions, len(labels))
        if costs.all_zero:
            raise _misfit("no mistake costs anything")
        return cls(costs, exponent)


def parse_cost(value: Any) -> float | None:
    """Return a number from 0 to `LARGEST_COST` as a float, None for anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return abs(number) if 0 <= number <= LARGEST_COST else None


def make_costs(given: dict[tuple[int, int], float], labels: int) -> Costs:
    """Build costs from those of (true, predicted) pairs; pairs that are correct or cost 1 are dropped."""
    exceptions = (Cost(*pair, cost) for pair, cost in sorted(given.items()) if pair[0] != pair[1] and cost != 1)
    return Costs(labels, tuple(exceptions))


def _pair(true: int, predicted: int, labels: Sequence[str]) -> str:
    return escape(f"'{labels[true]}' predicted as '{labels[predicted]}'")


def _misfit(reason: str) -> ModelError:
    return ModelError(escape(f"the decision rule does not fit the model: {reason}; {_REMEDY}"))

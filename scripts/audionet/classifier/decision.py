"""What each mistake costs, and the answers that cost least."""

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
LARGEST_COST = 1e12  # further up, sums of squares lose what is small, and at last overflow
ROUNDING = 1e-12
_VALUES_AT_ONCE = 1 << 20


class Cost(NamedTuple):
    """What it costs to answer label number `predicted` where number `true` is right."""

    true: int
    predicted: int
    cost: float


@dataclass(frozen=True)
class Costs:
    """The cost of each mistake: 0 of a right answer, 1 of a wrong one, except where said otherwise.

    Only the exceptions are held: a matrix for 5,000 labels would take 200 MB.

    Attributes
    ----------
    labels : int
    exceptions : tuple of Cost
        Of wrong answers, each once, finite and not negative; not 0 of every wrong answer.
    """

    labels: int
    exceptions: tuple[Cost, ...] = ()

    def matrix(self) -> Float64Array:
        """All costs, a row for each true label and a column for each answer, shape (labels, labels)."""
        costs = np.ones((self.labels, self.labels))
        np.fill_diagonal(costs, 0)
        for true, predicted, cost in self.exceptions:
            costs[true, predicted] = cost
        return costs

    def of(self, given: IntArray, true: IntArray) -> Float64Array:
        """What each of n answers cost.

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
        """Whether every mistake has a cost of its own, so that none costs the ordinary 1."""
        return len(self.exceptions) == self.labels * (self.labels - 1)

    @property
    def all_zero(self) -> bool:
        """Whether no mistake costs anything, so that any answer is as good as another."""
        return self.all_excepted and not any(exception.cost for exception in self.exceptions)


class _Column(NamedTuple):
    """An answer with mistakes of uncommon cost: its label, the true labels of those, and their weights."""

    predicted: int
    true: IntArray
    weights: Float64Array


@dataclass(frozen=True)
class Rule:
    """Answers the label with the least expected cost, each cost raised to the power of `exponent`.

    With the power 1 this is Bayes' decision rule, the best there is for calibrated probabilities (Duda and Hart,
    Pattern Classification and Scene Analysis, 1973, section 2.2; Elkan, The foundations of cost-sensitive learning,
    2001). Less than 1 trusts the costs less, more than 1 makes up for probabilities that are too sure of themselves.
    With the power 0 all mistakes weigh alike, and the most probable label is answered. What costs nothing costs
    nothing with any power.

    Attributes
    ----------
    costs : Costs
    exponent : float
        Finite, 0 or more.
    """

    costs: Costs
    exponent: float = 1.0

    def decide(self, probabilities: FloatArray | Float64Array) -> IntArray:
        """The label numbers to answer, shape (n,). Of equally dear ones, the more probable.

        Parameters
        ----------
        probabilities : ndarray of float, shape (n, labels)
        """
        if not self.costs.exceptions:
            return np.asarray(probabilities.argmax(axis=1), np.int64)
        given: IntArray = np.empty(len(probabilities), np.int64)
        rows = max(1, _VALUES_AT_ONCE // self.costs.labels)
        for start in range(0, len(probabilities), rows):
            block = probabilities[start : start + rows].astype(np.float64)
            expected = self._expected_costs(block)
            least = expected.min(axis=1, keepdims=True)
            given[start : start + rows] = np.where(expected <= least * (1 + ROUNDING), block, -1).argmax(axis=1)
        return given

    def _expected_costs(self, probabilities: Float64Array) -> Float64Array:
        """Expected cost of each answer, up to a factor, shape (n, labels)."""
        total = probabilities.sum(axis=1)
        expected: Float64Array = self._ordinary_weight * (total[:, None] - probabilities)
        for predicted, true, weights in self._columns:
            excepted = probabilities[:, true]
            expected[:, predicted] = excepted @ weights
            if len(true) < self.costs.labels - 1:
                others = total - probabilities[:, predicted] - excepted.sum(axis=1)
                expected[:, predicted] += self._ordinary_weight * np.maximum(others, 0)
        return expected

    @functools.cached_property
    def _largest(self) -> float:
        ordinary = () if self.costs.all_excepted else (1.0,)
        return max(*ordinary, *(exception.cost for exception in self.costs.exceptions), 0.0)

    def _weight(self, costs: Float64Array) -> Float64Array:
        # Relative to the largest, so that no power of a cost overflows.
        weights: Float64Array = np.where(costs > 0, (costs / self._largest) ** self.exponent, 0.0)
        return weights

    @functools.cached_property
    def _ordinary_weight(self) -> float:
        return 0.0 if self.costs.all_excepted else float(self._weight(np.ones(1))[0])

    @functools.cached_property
    def _columns(self) -> list[_Column]:
        by_answer: dict[int, list[Cost]] = {}
        for exception in self.costs.exceptions:
            by_answer.setdefault(exception.predicted, []).append(exception)
        return [
            _Column(
                predicted,
                np.array([exception.true for exception in exceptions]),
                self._weight(np.array([exception.cost for exception in exceptions])),
            )
            for predicted, exceptions in by_answer.items()
        ]

    @property
    def threshold(self) -> float | None:
        """Of two labels, the probability from which on the second is answered (Elkan, 2001, equation 2).

        At the threshold itself the more probable is answered. None where there are more labels than two.
        """
        if self.costs.labels != 2:
            return None
        weights = self._weight(self.costs.matrix())
        return float(weights[0, 1] / (weights[0, 1] + weights[1, 0]))

    def as_json(self, labels: Sequence[str]) -> dict[str, Any]:
        """The rule as `from_json` takes it: the costs that are not 1, by label, and the caution."""
        costs = [
            {"true": labels[true], "predicted": labels[predicted], "cost": cost}
            for true, predicted, cost in self.costs.exceptions
        ]
        return {"costs": costs, "caution": self.exponent}

    @classmethod
    def from_json(cls, content: Any, labels: Sequence[str]) -> Rule:
        """The rule that a model's JSON holds.

        Raises
        ------
        ModelError
            If it is no rule, or one for other labels.
        """
        if not isinstance(content, dict) or set(content) != {"costs", "caution"}:
            raise _misfit("it is that of another version")
        exponent = parse_cost(content["caution"])
        if exponent is None:
            raise _misfit(f"its caution is {content['caution']!r}, not a number from 0 to {LARGEST_COST:g}")
        if not isinstance(content["costs"], list):
            raise _misfit("its costs are no list")
        place = {label: number for number, label in enumerate(labels)}
        exceptions: dict[tuple[int, int], float] = {}
        for entry in content["costs"]:
            if not isinstance(entry, dict) or set(entry) != {"true", "predicted", "cost"}:
                raise _misfit("one of its costs is not of the form true, predicted, cost")
            for name in (entry["true"], entry["predicted"]):
                if not isinstance(name, str) or name not in place:
                    raise _misfit(f"it names {name!r}, which is none of the model's labels")
            cost = parse_cost(entry["cost"])
            if cost is None:
                raise _misfit(f"one of its costs is {entry['cost']!r}, not a number from 0 to {LARGEST_COST:g}")
            pair = place[entry["true"]], place[entry["predicted"]]
            if pair in exceptions or pair[0] == pair[1]:
                raise _misfit(f"{_pair(*pair, labels)} is a right answer, or has two costs")
            exceptions[pair] = cost
        costs = make_costs(exceptions, len(labels))
        if costs.all_zero:
            raise _misfit("no mistake costs anything")
        return cls(costs, exponent)


def parse_cost(value: Any) -> float | None:
    """A number from 0 to the largest as a float; None of anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return abs(number) if 0 <= number <= LARGEST_COST else None


def make_costs(given: dict[tuple[int, int], float], labels: int) -> Costs:
    exceptions = (Cost(*pair, cost) for pair, cost in sorted(given.items()) if pair[0] != pair[1] and cost != 1)
    return Costs(labels, tuple(exceptions))


def _pair(true: int, predicted: int, labels: Sequence[str]) -> str:
    return escape(f"'{labels[true]}' taken for '{labels[predicted]}'")


def _misfit(reason: str) -> ModelError:
    return ModelError(escape(f"the decision rule does not fit the model: {reason}; {_REMEDY}"))

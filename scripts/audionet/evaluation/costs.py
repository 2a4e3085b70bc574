"""Costs from the command line, and the decision rule that validation recordings choose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.classifier.decision import LARGEST_COST, ROUNDING, Costs, Rule, make_costs, parse_cost
from audionet.errors import UsageError
from audionet.utils.arrays import Float64Array, FloatArray, IntArray
from audionet.utils.text import escape, pluralise

COST_EXPONENTS = tuple(step / 10 for step in range(31))
"""The rules that are tried: 0 is the most probable label, 1 Bayes' decision rule, 3 shuns dear mistakes most."""
_MOST_LABELS_NAMED = 5


def parse_costs(entries: Sequence[str], labels: Sequence[str]) -> Costs:
    """The costs that ``--cost true:predicted=number`` gives, once each.

    Labels may hold colons, equals signs and spaces: the last equals sign is followed by the number, and the colon
    is the one that has a label on either side.

    Raises
    ------
    UsageError
        If an entry is not of that form or names no label, can be read in two ways, or makes no sense.
    """
    place = {label: number for number, label in enumerate(labels)}
    given: dict[tuple[int, int], float] = {}
    for entry in entries:
        names, equals, text = entry.rpartition("=")
        if not equals or ":" not in names:
            raise _refused(entry, "it must be of the form true:predicted=number, as in crow:owl=10")
        pair = _pair_in(entry, names, place)
        try:
            cost = parse_cost(float(text))
        except ValueError:
            cost = None
        if cost is None:
            raise _refused(entry, f"'{text}' is not a number from 0 to {LARGEST_COST:g}: give one, as in {names}=10")
        if pair[0] == pair[1] and cost:
            raise _refused(entry, "a right answer costs nothing: leave it out, or name two labels")
        if given.setdefault(pair, cost) != cost:
            raise _refused(entry, f"the same mistake is said to cost {given[pair]:g}: leave one of the two out")
    costs = make_costs(given, len(labels))
    if entries and costs.all_zero:
        raise _refused(entries[-1], "no mistake would cost anything: give one of them a number above 0")
    return costs


def _pair_in(entry: str, names: str, place: dict[str, int]) -> tuple[int, int]:
    """The numbers of the two labels that an entry names."""
    readings = list(_readings(names))
    fitting = [(true, predicted) for true, predicted in readings if true in place and predicted in place]
    if len(fitting) > 1:
        ways = " or ".join(f"'{true}' taken for '{predicted}'" for true, predicted in fitting)
        raise _refused(entry, f"that can be read as {ways}: rename a label's folder and make the model again")
    if not fitting:
        half_known = [pair for pair in readings if pair[0] in place or pair[1] in place]
        unknown = dict.fromkeys(name for pair in half_known or readings for name in pair if name not in place)
        *others, last = [f"'{name}'" for name in unknown]
        said = f"{', '.join(others)} or {last}" if others else last
        raise _refused(entry, f"there is no label {said}; there is {_some_of(list(place))}")
    true, predicted = fitting[0]
    return place[true], place[predicted]


def _readings(names: str) -> Iterator[tuple[str, str]]:
    for position, letter in enumerate(names):
        if letter == ":":
            yield names[:position], names[position + 1 :]


def _some_of(labels: Sequence[str]) -> str:
    more = len(labels) - _MOST_LABELS_NAMED
    return ", ".join(labels[:_MOST_LABELS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _refused(entry: str, reason: str) -> UsageError:
    return UsageError(escape(f"--cost {entry}: {reason}"))


class MeanCost(NamedTuple):
    """Mean cost of a recording and of how many; NaN where there are none."""

    mean: float
    recordings: int

    def __str__(self) -> str:
        if not self.recordings:
            return "nothing to test on"
        return f"{self.mean:.3g} a recording  ({pluralise(self.recordings, 'recording')})"


def mean_cost(costs: Costs, given: IntArray, true: IntArray) -> MeanCost:
    """What answers cost on average, by the costs as the user gave them.

    Parameters
    ----------
    given, true : ndarray of int64, shape (n,)
        Label numbers, one of each for a recording.
    """
    return MeanCost(float(costs.of(given, true).mean()) if len(true) else float("nan"), len(true))


class RulePoint(NamedTuple):
    """How one rule did on the validation recordings.

    Attributes
    ----------
    exponent : float
    threshold : float or None
        See `Rule.threshold`.
    mean_cost : float
        Of a recording.
    mistakes : ndarray of int64, shape (labels,)
        Recordings of each label that got another; of two labels, those are the two kinds of mistakes.
    """

    exponent: float
    threshold: float | None
    mean_cost: float
    mistakes: IntArray


@dataclass(frozen=True)
class SelectedRule:
    """The rule that was picked, and what it was picked from.

    Attributes
    ----------
    rule : Rule
    curve : tuple of Point
        The rules tried, by rising caution; none where there were no recordings.
    most_probable, bayes, chosen : float
        Mean cost of a validation recording when the most probable label is answered, by Bayes' decision rule, and
        by the rule picked; NaN where there are none.
    recordings : int
    """

    rule: Rule
    curve: tuple[RulePoint, ...]
    most_probable: float
    bayes: float
    chosen: float
    recordings: int


def select_rule(probabilities: FloatArray | Float64Array, true: IntArray, costs: Costs) -> SelectedRule:
    """The caution with the least mean cost on validation recordings; 1 unless another is clearly better.

    Theory says 1 (see `Rule`) for calibrated probabilities, so that of equally good ones the nearest to 1 is taken.
    The best of many on a few recordings is often the luckiest: 1 is left only for one that costs less by more than
    one standard error of the paired difference, the one-standard-error rule (Breiman, Friedman, Olshen and Stone,
    Classification and Regression Trees, 1984, section 3.4.3). A mistake that is dear and rare may be in none of the
    recordings, and a rule that risks it would look the cheaper: the difference is taken with one recording more, on
    which leaving 1 costs the most it can, in the manner of Laplace's rule of succession.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
        Of the validation recordings.
    true : ndarray of int64, shape (n,)
        Their label numbers.
    """
    bayes = Rule(costs)
    if not len(true):
        return SelectedRule(bayes, (), float("nan"), float("nan"), float("nan"), 0)
    rules = [Rule(costs, exponent) for exponent in COST_EXPONENTS]
    answers = [rule.decide(probabilities) for rule in rules]
    by_recording = np.stack([costs.of(given, true) for given in answers])
    means = by_recording.mean(axis=1)
    curve = tuple(
        RulePoint(rule.exponent, rule.threshold, float(mean), np.bincount(true[given != true], minlength=costs.labels))
        for rule, mean, given in zip(rules, means, answers, strict=True)
    )
    one = COST_EXPONENTS.index(1.0)
    best = min(np.flatnonzero(means <= means.min() * (1 + ROUNDING)), key=lambda place: abs(COST_EXPONENTS[place] - 1))
    worst = _worst_case(costs, answers[best], answers[one])
    gain = np.append(by_recording[one] - by_recording[best], -worst)
    chosen = int(best) if _clearly_above_zero(gain) else one
    most_probable = mean_cost(costs, probabilities.argmax(axis=1), true).mean
    return SelectedRule(rules[chosen], curve, most_probable, float(means[one]), float(means[chosen]), len(true))


def _worst_case(costs: Costs, given: IntArray, instead_of: IntArray) -> float:
    """How much more an answer can cost than the one it is given instead of, whatever the true label."""
    changed = np.unique(np.stack([given, instead_of])[:, given != instead_of], axis=1)
    labels = np.arange(costs.labels)
    more = (
        costs.of(np.full_like(labels, one), labels) - costs.of(np.full_like(labels, other), labels)
        for one, other in changed.T
    )
    return max((float(column.max()) for column in more), default=0.0)


def _clearly_above_zero(values: Float64Array) -> bool:
    """Whether the mean is more than one standard error."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    # One value alone that is not zero is one standard error exactly, and must not pass by rounding.
    return bool(values.mean() > error * (1 + 1e-9))

"""Costs of mistakes from the command line, and the choice of a decision rule on validation recordings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.classifier.decision import LARGEST_COST, ROUNDING, Costs, Rule, make_costs, parse_cost
from audionet.errors import UsageError
from audionet.utils.arrays import Float64Array, FloatArray, IntArray
from audionet.utils.text import escape, find_name, pluralise

COST_EXPONENTS = tuple(step / 10 for step in range(31))
"""Cost exponents that are tried: 0 predicts the most probable label, 1 is Bayes' decision rule, and larger ones avoid
costly mistakes more."""
_MAX_LABELS_NAMED = 5
_FEWEST_TO_CHECK = 2


def parse_costs(entries: Sequence[str], labels: Sequence[str]) -> Costs:
    """Parse the entries of ``--cost true:predicted=number``.

    Labels may hold colons, equals signs and spaces: the last equals sign is followed by the number, and the colon
    is the one that has a label on either side.

    Raises
    ------
    UsageError
        If an entry is not of that form, names an unknown label, is ambiguous, or makes no sense.
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
            raise _refused(entry, "a right answer costs nothing: remove the entry, or name two different labels")
        if given.setdefault(pair, cost) != cost:
            raise _refused(entry, f"the same mistake also has the cost {given[pair]:g}: remove one of the two entries")
    costs = make_costs(given, len(labels))
    if entries and costs.all_zero:
        raise _refused(entries[-1], "no mistake would cost anything: give at least one of them a cost above 0")
    return costs


def _pair_in(entry: str, names: str, place: dict[str, int]) -> tuple[int, int]:
    """Return the numbers of the true and the predicted label of an entry."""
    readings = [(find_name(a, place) or a, find_name(b, place) or b) for a, b in _readings(names)]
    fitting = [(true, predicted) for true, predicted in readings if true in place and predicted in place]
    if len(fitting) > 1:
        ways = " or ".join(f"'{true}' predicted as '{predicted}'" for true, predicted in fitting)
        raise _refused(entry, f"that is ambiguous, it can be read as {ways}: rename a label's folder and train again")
    if not fitting:
        half_known = [pair for pair in readings if pair[0] in place or pair[1] in place]
        unknown = dict.fromkeys(name for pair in half_known or readings for name in pair if name not in place)
        *others, last = [f"'{name}'" for name in unknown]
        listed = f"{', '.join(others)} or {last}" if others else last
        raise _refused(entry, f"there is no label {listed}; the labels are {_list_labels(list(place))}")
    true, predicted = fitting[0]
    return place[true], place[predicted]


def _readings(names: str) -> Iterator[tuple[str, str]]:
    for position, letter in enumerate(names):
        if letter == ":":
            yield names[:position], names[position + 1 :]


def _list_labels(labels: Sequence[str]) -> str:
    more = len(labels) - _MAX_LABELS_NAMED
    return ", ".join(labels[:_MAX_LABELS_NAMED]) + (f" and {more} more" if more > 0 else "")


def _refused(entry: str, reason: str) -> UsageError:
    return UsageError(escape(f"--cost {entry}: {reason}"))


class MeanCost(NamedTuple):
    """Mean cost per recording, NaN without recordings, and the number of recordings."""

    mean: float
    recordings: int

    def __str__(self) -> str:
        if not self.recordings:
            return "no recordings to test on"
        return f"{self.mean:.3g} a recording  ({pluralise(self.recordings, 'recording')})"


def mean_cost(costs: Costs, given: IntArray, true: IntArray) -> MeanCost:
    """Compute the mean cost of predictions, by the costs as the user gave them.

    Parameters
    ----------
    given, true : ndarray of int64, shape (n,)
        Predicted and true label number of each recording.
    """
    return MeanCost(float(costs.of(given, true).mean()) if len(true) else float("nan"), len(true))


class RulePoint(NamedTuple):
    """Result of one rule on the validation recordings.

    Attributes
    ----------
    exponent : float
    threshold : float or None
        See `Rule.threshold`.
    mean_cost : float
        Mean cost per recording.
    mistakes : ndarray of int64, shape (labels,)
        Number of misclassified recordings of each label; with two labels, the counts of the two kinds of mistakes.
    """

    exponent: float
    threshold: float | None
    mean_cost: float
    mistakes: IntArray


@dataclass(frozen=True)
class SelectedRule:
    """The selected decision rule, and the rules that it was selected from.

    Attributes
    ----------
    rule : Rule
    curve : tuple of RulePoint
        The rules tried, by rising cost exponent; empty without recordings.
    most_probable, bayes, chosen : float
        Mean cost per validation recording of predicting the most probable label, of Bayes' decision rule, and of the
        selected rule; NaN without recordings.
    recordings : int
    """

    rule: Rule
    curve: tuple[RulePoint, ...]
    most_probable: float
    bayes: float
    chosen: float
    recordings: int


def select_rule(probabilities: FloatArray | Float64Array, true: IntArray, costs: Costs) -> SelectedRule:
    """Select the cost exponent with the lowest mean cost on validation recordings; 1 unless another is clearly better.

    For calibrated probabilities 1 is optimal in theory (see `Rule`), so that of equally good exponents the one nearest
    to 1 is taken. The best of many exponents on a few recordings is often merely lucky: another than 1 is selected only
    if it costs less by more than one standard error of the paired difference, the one-standard-error rule (Breiman,
    Friedman, Olshen and Stone, Classification and Regression Trees, 1984, section 3.4.3). A costly, rare mistake may
    occur in none of the recordings, and a rule that risks it would seem cheaper: the difference is therefore computed
    with one additional recording, on which the other exponent costs as much more as it can, like the additional
    observation of Laplace's rule of succession.

    Parameters
    ----------
    probabilities : ndarray of float, shape (n, labels)
        Calibrated probabilities of the validation recordings.
    true : ndarray of int64, shape (n,)
        Their true label numbers.
    costs : Costs
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


def decide_out_of_fold(
    probabilities: FloatArray | Float64Array, true: IntArray, folds: IntArray, costs: Costs
) -> IntArray:
    """Decide each fold's recordings by a rule that was selected on the other folds, shape (n,)."""
    given: IntArray = probabilities.argmax(axis=1).astype(np.int64)
    for number in np.unique(folds):
        others = folds != number
        if others.any():
            rule = select_rule(probabilities[others], true[others], costs).rule
            given[~others] = rule.decide(probabilities[~others])
    return given


class RuleCheck(NamedTuple):
    """Decision rules, each selected on other recordings than it is checked on, beside the most probable label.

    Attributes
    ----------
    by_rule, most_probable : float
        Mean cost per recording.
    labels : int
        Number of different labels that the rules predict.
    recordings : int
    """

    by_rule: float
    most_probable: float
    labels: int
    recordings: int

    @property
    def problem(self) -> str | None:
        """Reason why the rule should not be used; None if it lowers the cost."""
        counted = pluralise(self.recordings, "recording")
        if self.recordings < _FEWEST_TO_CHECK:
            return f"there are too few recordings to check it ({self.recordings}): record more"
        if self.labels < 2:
            return f"it would predict one label for all of {counted}: record more, or lower the cost"
        if not self.by_rule < self.most_probable:
            return (
                f"on {counted} that it was not selected on, it costs {self.by_rule:.3g} a recording, and the most "
                f"probable label {self.most_probable:.3g}"
            )
        return None


def check_rule(probabilities: FloatArray | Float64Array, true: IntArray, folds: IntArray, costs: Costs) -> RuleCheck:
    """Check a decision rule by selecting it on all folds but one in turn."""
    given = decide_out_of_fold(probabilities, true, folds, costs)
    return RuleCheck(
        mean_cost(costs, given, true).mean,
        mean_cost(costs, probabilities.argmax(axis=1), true).mean,
        len(np.unique(given)),
        len(true),
    )


def _worst_case(costs: Costs, given: IntArray, instead_of: IntArray) -> float:
    """Return the most that a prediction can cost more than the one that it replaces, over all true labels."""
    changed = np.unique(np.stack([given, instead_of])[:, given != instead_of], axis=1)
    labels = np.arange(costs.labels)
    more = (
        costs.of(np.full_like(labels, one), labels) - costs.of(np.full_like(labels, other), labels)
        for one, other in changed.T
    )
    return max((float(column.max()) for column in more), default=0.0)


def _clearly_above_zero(values: Float64Array) -> bool:
    """Return whether the mean is more than one standard error above 0."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    # If only one value is not zero, the mean is exactly one standard error: it must not pass by rounding.
    return bool(values.mean() > error * (1 + 1e-9))

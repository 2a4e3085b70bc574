"""What each mistake costs, and the answers that cost least."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.audio.spectrogram import FloatArray
from audionet.errors import ModelError, UsageError
from audionet.utils.console import count
from audionet.utils.files import printable
from audionet.utils.plots import png

IntArray = NDArray[np.int64]
Float64Array = NDArray[np.float64]

CAUTIONS = tuple(step / 10 for step in range(31))
"""The rules that are tried: 0 is the most probable label, 1 Bayes' decision rule, 3 shuns dear mistakes most."""

_REMEDY = "run retrain.py again"
_MOST_LABELS_NAMED = 5
_LARGEST = 1e12  # further up, sums of squares lose what is small, and at last overflow
_ROUNDING = 1e-12
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
    """Answers the label with the least expected cost, each cost raised to the power of `caution`.

    With the power 1 this is Bayes' decision rule, the best there is for calibrated probabilities (Duda and Hart,
    Pattern Classification and Scene Analysis, 1973, section 2.2; Elkan, The foundations of cost-sensitive learning,
    2001). Less than 1 trusts the costs less, more than 1 makes up for probabilities that are too sure of themselves.
    With the power 0 all mistakes weigh alike, and the most probable label is answered. What costs nothing costs
    nothing with any power.

    Attributes
    ----------
    costs : Costs
    caution : float
        Finite, 0 or more.
    """

    costs: Costs
    caution: float = 1.0

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
            given[start : start + rows] = np.where(expected <= least * (1 + _ROUNDING), block, -1).argmax(axis=1)
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
        weights: Float64Array = np.where(costs > 0, (costs / self._largest) ** self.caution, 0.0)
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
        return {"costs": costs, "caution": self.caution}

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
        caution = _number(content["caution"])
        if caution is None:
            raise _misfit(f"its caution is {content['caution']!r}, not a number from 0 to {_LARGEST:g}")
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
            cost = _number(entry["cost"])
            if cost is None:
                raise _misfit(f"one of its costs is {entry['cost']!r}, not a number from 0 to {_LARGEST:g}")
            pair = place[entry["true"]], place[entry["predicted"]]
            if pair in exceptions or pair[0] == pair[1]:
                raise _misfit(f"{_pair(*pair, labels)} is a right answer, or has two costs")
            exceptions[pair] = cost
        costs = _costs(exceptions, len(labels))
        if costs.all_zero:
            raise _misfit("no mistake costs anything")
        return cls(costs, caution)


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
            cost = _number(float(text))
        except ValueError:
            cost = None
        if cost is None:
            raise _refused(entry, f"'{text}' is not a number from 0 to {_LARGEST:g}: give one, as in {names}=10")
        if pair[0] == pair[1] and cost:
            raise _refused(entry, "a right answer costs nothing: leave it out, or name two labels")
        if given.setdefault(pair, cost) != cost:
            raise _refused(entry, f"the same mistake is said to cost {given[pair]:g}: leave one of the two out")
    costs = _costs(given, len(labels))
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


def _number(value: Any) -> float | None:
    """A number from 0 to the largest as a float; None of anything else."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return abs(number) if 0 <= number <= _LARGEST else None


def _costs(given: dict[tuple[int, int], float], labels: int) -> Costs:
    exceptions = (Cost(*pair, cost) for pair, cost in sorted(given.items()) if pair[0] != pair[1] and cost != 1)
    return Costs(labels, tuple(exceptions))


def _pair(true: int, predicted: int, labels: Sequence[str]) -> str:
    return printable(f"'{labels[true]}' taken for '{labels[predicted]}'")


def _refused(entry: str, reason: str) -> UsageError:
    return UsageError(printable(f"--cost {entry}: {reason}"))


def _misfit(reason: str) -> ModelError:
    return ModelError(printable(f"the decision rule does not fit the model: {reason}; {_REMEDY}"))


class MeanCost(NamedTuple):
    """Mean cost of a recording and of how many; NaN where there are none."""

    mean: float
    recordings: int

    def __str__(self) -> str:
        if not self.recordings:
            return "nothing to test on"
        return f"{self.mean:.3g} a recording  ({count(self.recordings, 'recording')})"


def mean_cost(costs: Costs, given: IntArray, true: IntArray) -> MeanCost:
    """What answers cost on average, by the costs as the user gave them.

    Parameters
    ----------
    given, true : ndarray of int64, shape (n,)
        Label numbers, one of each for a recording.
    """
    return MeanCost(float(costs.of(given, true).mean()) if len(true) else float("nan"), len(true))


class Point(NamedTuple):
    """How one rule did on the validation recordings.

    Attributes
    ----------
    caution : float
    threshold : float or None
        See `Rule.threshold`.
    mean_cost : float
        Of a recording.
    mistakes : ndarray of int64, shape (labels,)
        Recordings of each label that got another; of two labels, those are the two kinds of mistakes.
    """

    caution: float
    threshold: float | None
    mean_cost: float
    mistakes: IntArray


@dataclass(frozen=True)
class Picked:
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
    curve: tuple[Point, ...]
    most_probable: float
    bayes: float
    chosen: float
    recordings: int


def pick_rule(probabilities: FloatArray | Float64Array, true: IntArray, costs: Costs) -> Picked:
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
        return Picked(bayes, (), float("nan"), float("nan"), float("nan"), 0)
    rules = [Rule(costs, caution) for caution in CAUTIONS]
    answers = [rule.decide(probabilities) for rule in rules]
    by_recording = np.stack([costs.of(given, true) for given in answers])
    means = by_recording.mean(axis=1)
    curve = tuple(
        Point(rule.caution, rule.threshold, float(mean), np.bincount(true[given != true], minlength=costs.labels))
        for rule, mean, given in zip(rules, means, answers, strict=True)
    )
    one = CAUTIONS.index(1.0)
    best = min(np.flatnonzero(means <= means.min() * (1 + _ROUNDING)), key=lambda place: abs(CAUTIONS[place] - 1))
    worst = _worst_case(costs, answers[best], answers[one])
    gain = np.append(by_recording[one] - by_recording[best], -worst)
    chosen = int(best) if _clearly_above_zero(gain) else one
    most_probable = mean_cost(costs, probabilities.argmax(axis=1), true).mean
    return Picked(rules[chosen], curve, most_probable, float(means[one]), float(means[chosen]), len(true))


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


def cost_plot(picked: Picked, labels: Sequence[str]) -> bytes:
    """Mean cost of a validation recording by caution, as a PNG; of two labels with the thresholds below.

    By caution, two labels' thresholds are evenly spaced in log-odds: those of dear mistakes do not crowd at 1.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    if picked.curve:
        cautions = [point.caution for point in picked.curve]
        axes.plot(cautions, [point.mean_cost for point in picked.curve], ".-", color="#888888", linewidth=1.4)
        # A line, because where a mistake costs nothing no caution answers the most probable label.
        name = f"most probable label: {picked.most_probable:.3g}"
        axes.axhline(picked.most_probable, color="#444444", linestyle=":", linewidth=1, label=name)
        for name, caution, cost, marker, colour, side in (
            ("Bayes' decision rule", 1.0, picked.bayes, "D", "#2b6ca3", 7),
            ("chosen", picked.rule.caution, picked.chosen, "o", "#c23b22", 12),
        ):
            style: dict[str, Any] = {"color": colour, "markersize": side, "fillstyle": "none", "clip_on": False}
            axes.plot(caution, cost, marker, label=f"{name}: {cost:.3g}", **style)
        axes.set_xticks(cautions[::10], [_tick(point) for point in picked.curve[::10]])
        axes.legend(frameon=False, fontsize=8)
    axes.set_ylim(bottom=0)
    two = picked.rule.threshold is not None
    named = f"caution, and the probability from which on {printable(labels[1])[:40]} is answered" if two else "caution"
    # A label may hold dollar signs, which matplotlib would take for mathematics.
    axes.set_xlabel(named, parse_math=False)
    axes.set_ylabel("mean cost of a recording")
    axes.set_title(count(picked.recordings, "validation recording"), loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def _tick(point: Point) -> str:
    """A point's caution, and below it its threshold, with as many decimals as tell it from 0 and 1."""
    if point.threshold is None:
        return f"{point.caution:g}"
    apart = min(point.threshold, 1 - point.threshold)
    decimals = -math.floor(math.log10(apart)) if apart else 0
    return f"{point.caution:g}\n{point.threshold:.{decimals}f}"

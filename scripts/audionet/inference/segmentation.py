"""Segmentation: smooths the predictions of a sliding window into speaker segments with a hidden Markov model."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.classifier.head import log_odds
from audionet.classifier.rejection import KnownOdds
from audionet.utils.arrays import Float64Array, FloatArray

STAY_SECONDS = 3.0
"""Mean duration of a speaker's turn. It need not be exact: the path depends only on its logarithm."""

LAG_SECONDS = 30.0
"""Lookahead before a decision: several turns, after which all likely paths have merged."""

_BEST_SHARE = 1 / 3  # of the windows that cover a moment: those which hear one speaker alone beside a change
_MIN_PROBABILITY = 1e-6  # other cells can outweigh one in which a label is nearly impossible


class Window(NamedTuple):
    """Prediction for one window of the recording.

    Attributes
    ----------
    start : float
        Seconds from the recording's beginning.
    probabilities : ndarray of float32, shape (labels,), or None
        None if the whole window is silent.
    score : float or None
        Highest score of any known speaker; None if the window is silent or the model has no scores.
    """

    start: float
    probabilities: FloatArray | None
    score: float | None


class Segment(NamedTuple):
    """Segment of the recording in which one speaker is active.

    Attributes
    ----------
    start, end : float
        Seconds from the recording's beginning.
    label : str or None
        None for an unknown speaker.
    probability : float
        Mean over the segment of the label's probability; for an unknown speaker, of the most probable label's.
    score : float or None
        Mean over the segment; None if no window has a score.
    """

    start: float
    end: float
    label: str | None
    probability: float
    score: float | None


def segments(
    windows: Iterable[Window],
    labels: Sequence[str],
    window_seconds: float,
    step_seconds: float,
    seconds: Callable[[], float],
    odds: KnownOdds | None = None,
    stay_seconds: float = STAY_SECONDS,
    lag_seconds: float = LAG_SECONDS,
) -> Iterator[Segment]:
    """Turn the predictions of a sliding window into speaker segments, as a stream and in constant memory.

    Time is divided into cells of one step. A cell's probabilities are the mean over the windows that cover it, and its
    score that of the best third of them: beside a change of speaker, the others hear both, and resemble neither. A cell
    is silent if one of them is, as a silent window is silent throughout. Between silences, the labels are the most
    likely path through a hidden Markov model with a state for each label, and one for unknown (`_path`).

    Parameters
    ----------
    windows : iterable of Window
        By ascending start, about in multiples of a step from the first, all before the recording's end. Time that no
        window covers counts as silent.
    labels : sequence of str
    window_seconds, step_seconds : float
        The step is above 0 and at most a window.
    seconds : callable
        Returns the recording's length; called once, after the last window.
    odds : KnownOdds, optional
        Tells by the score how likely a window's speaker is known. None: all are known.
    stay_seconds : float
        Mean duration of a turn, above 0. At a step or less, every cell is decided independently.
    lag_seconds : float
        Minimum lookahead before a cell is decided.

    Yields
    ------
    Segment
        In order of time and never overlapping. The last one ends no later than the recording.
    """
    penalty = _switch_penalty(len(labels) + (odds is not None), stay_seconds / step_seconds)
    covered = max(1, round(window_seconds / step_seconds))
    cells = _covered_alike(_cells(windows, covered, step_seconds, seconds), covered)
    for run in _joined(_path(cells, penalty, max(1, round(lag_seconds / step_seconds)), odds)):
        label = None if run.label is None else labels[run.label]
        yield Segment(run.start, run.end, label, run.probability / run.cells, run.mean_score)


def label_segments(
    windows: Iterable[Window],
    labels: Sequence[str],
    thresholds: Float64Array,
    window_seconds: float,
    step_seconds: float,
    seconds: Callable[[], float],
) -> list[Segment]:
    """Find the segments of each label by itself, where several may be present at a time.

    Each label has a hidden Markov model with two states, present and not, with even odds at its threshold.

    Parameters
    ----------
    windows, labels, window_seconds, step_seconds, seconds
        As for `segments`; the windows' probabilities are independent of each other.
    thresholds : ndarray of float64, shape (labels,)
        Lowest probability at which a label is present, above 0 and below 1.

    Returns
    -------
    list of Segment
        In order of time, then of label; those of different labels may overlap. Without a score.
    """
    kept = list(windows)
    found: list[Segment] = []
    for place, label in enumerate(labels):
        odds = KnownOdds(threshold=float(log_odds(thresholds[place], _MIN_PROBABILITY)), slope=1.0)
        alone = [_window_of_label(window, place) for window in kept]
        turns = segments(alone, [label], window_seconds, step_seconds, seconds, odds)
        found += [turn._replace(score=None) for turn in turns if turn.label is not None]
    return sorted(found, key=lambda segment: segment[:2])


def _window_of_label(window: Window, place: int) -> Window:
    if window.probabilities is None:
        return window
    alone = window.probabilities[place : place + 1]
    return Window(window.start, alone, float(log_odds(alone, _MIN_PROBABILITY)[0]))


class _Cell(NamedTuple):
    """One step of the recording; probabilities are None if it is silent.

    The coverage is the share of the windows that may cover a step, beyond the first, which do.
    """

    start: float
    end: float
    probabilities: FloatArray | None
    score: float | None
    coverage: float = 0.0


@dataclass(frozen=True)
class _Run:
    """Consecutive cells of one label, None for an unknown speaker, with sums over the cells."""

    start: float
    end: float
    label: int | None
    cells: int
    probability: float
    scored_cells: int
    score: float

    @property
    def mean_score(self) -> float | None:
        return self.score / self.scored_cells if self.scored_cells else None


def _cells(
    windows: Iterable[Window], covered: int, step_seconds: float, seconds: Callable[[], float]
) -> Iterator[_Cell]:
    covering: deque[tuple[int, Window]] = deque()  # windows that cover the next cell
    origin = 0.0
    cell = 0

    starts: dict[int, float] = {}  # of the last windows, by their cells; not all begin on a multiple of the step

    def edge(number: int) -> float:
        return starts.get(number, origin + number * step_seconds)

    def finished(end: float) -> _Cell:
        while covering and covering[0][0] <= cell - covered:
            covering.popleft()
        return _cell(edge(cell), end, [window for _, window in covering], covered)

    for window in windows:
        if not covering and not cell:
            origin = window.start
        index = max(cell, round((window.start - origin) / step_seconds))
        starts[index] = window.start
        while cell < index:
            yield finished(edge(cell + 1))
            starts.pop(cell, None)
            cell += 1
        covering.append((index, window))
    if not covering:
        return
    # The last window may be padded with zeros, or leave out less than half a step, which the last cell then includes.
    length = seconds()
    stop = covering[-1][0] + 1
    stop = min(max(stop, math.floor((length - origin) / step_seconds + 0.5)), stop + covered - 1)
    while cell < stop:
        is_last = cell == stop - 1 and length < edge(stop) + step_seconds
        yield finished(length if is_last else edge(cell + 1))
        cell += 1


def _covered_alike(cells: Iterable[_Cell], covered: int) -> Iterator[_Cell]:
    """Give all cells between two silences the best coverage among them, which one of the first `covered` has.

    Fewer windows cover the ends of a turn than its middle, and it is judged as one.
    """
    waiting: list[_Cell] = []
    best, count = 0.0, 0
    for cell in cells:
        if cell.probabilities is None:
            yield from (one._replace(coverage=best) for one in waiting)
            yield cell
            waiting, best, count = [], 0.0, 0
            continue
        best, count = max(best, cell.coverage), count + 1
        waiting.append(cell)
        if best == 1 or count >= covered:
            yield from (one._replace(coverage=best) for one in waiting)
            waiting = []
    yield from (one._replace(coverage=best) for one in waiting)


def _cell(start: float, end: float, windows: Sequence[Window], most: int) -> _Cell:
    sounding = [window.probabilities for window in windows if window.probabilities is not None]
    if not sounding or len(sounding) < len(windows):
        return _Cell(start, end, None, None)
    scores = sorted((window.score for window in windows if window.score is not None), reverse=True)
    best = scores[: math.ceil(len(scores) * _BEST_SHARE)]
    probabilities: FloatArray = np.mean(sounding, axis=0)
    coverage = (len(windows) - 1) / max(1, most - 1)
    return _Cell(start, end, probabilities, float(np.mean(best)) if best else None, min(1.0, coverage))


def _switch_penalty(labels: int, stay: float) -> float:
    """Compute the penalty of a change of speaker: the log-probability of staying minus that of a switch to one other.

    A turn ends in each cell with probability ``1 / stay``, so that it lasts `stay` cells on average, and all other
    labels are equally likely to follow. Staying is never less likely than a switch to one other label.
    """
    if labels < 2:
        return math.inf
    leave = min(1 / stay, 1 - 1 / labels)
    return math.log((1 - leave) / (leave / (labels - 1)))


class _Step(NamedTuple):
    """Viterbi step: for each label, whether its best path switches from `source`, the best label before."""

    cell: _Cell
    switched: NDArray[np.bool_]
    source: int


def _path(cells: Iterable[_Cell], penalty: float, lag: int, odds: KnownOdds | None) -> Iterator[_Run]:
    """Find the most likely labels of cells, as runs of one cell; each part between silent cells has its own path.

    Viterbi's algorithm (Viterbi, IEEE Transactions on Information Theory 13, 1967; Rabiner, Proceedings of the IEEE
    77, 1989, section III B). As all switches are equally likely, the best path to a label comes from the label itself
    or from the best label of all: O(labels) per cell, not O(labels²). Decisions are made for `lag` cells at a time,
    with a lookahead of at least `lag` cells; the path is exact if silences are no further apart than that.
    """
    pending: deque[_Step] = deque()
    scores: NDArray[np.float64] = np.zeros(0)  # log-likelihood of the best path to each label, up to a constant
    for cell in cells:
        if cell.probabilities is None:
            yield from _decided(pending, scores, len(pending))
            continue
        evidence = _evidence(cell, odds)
        if not pending:
            scores = np.zeros(len(evidence))
        source = int(np.argmax(scores))
        scores = scores - scores[source]
        pending.append(_Step(cell, scores < -penalty, source))
        scores = np.maximum(scores, -penalty) + evidence
        if len(pending) == 2 * lag:
            yield from _decided(pending, scores, lag)
    yield from _decided(pending, scores, len(pending))


def _decided(pending: deque[_Step], scores: NDArray[np.float64], count: int) -> Iterator[_Run]:
    """Trace the best path back through the pending cells, and yield its first cells."""
    if not pending:
        return
    label = int(np.argmax(scores))
    path = [label]
    for step in reversed(pending):
        label = step.source if step.switched[label] else label
        path.append(label)
    path.pop()  # the label before the first cell has no meaning
    for label in path[: -count - 1 : -1]:
        cell = pending.popleft().cell
        assert cell.probabilities is not None
        known = label < len(cell.probabilities)
        probability = float(cell.probabilities[label] if known else cell.probabilities.max())
        given, scored = label if known else None, cell.score is not None
        yield _Run(cell.start, cell.end, given, 1, probability, int(scored), cell.score or 0.0)


def _evidence(cell: _Cell, odds: KnownOdds | None) -> NDArray[np.float64]:
    """Compute the log-likelihood of each label and, with a rejection rule, last of an unknown speaker.

    Known or unknown is decided by the score alone, with even odds at the threshold; which label, by the probabilities,
    relative to the highest of them. A steady speaker so is known or unknown as a clip of it would be, however probable
    its label.
    """
    assert cell.probabilities is not None
    evidence: NDArray[np.float64] = np.log(np.maximum(cell.probabilities, _MIN_PROBABILITY), dtype=np.float64)
    evidence -= evidence.max()
    if odds is None:
        return evidence
    known_odds = math.inf if cell.score is None else odds.of(cell.score, cell.coverage)
    # Logarithms of the logistic function of the odds, and of its complement.
    known, unknown = -np.logaddexp(0, -known_odds), max(-np.logaddexp(0, known_odds), math.log(_MIN_PROBABILITY))
    return np.append(evidence + known, unknown)


def _joined(runs: Iterable[_Run]) -> Iterator[_Run]:
    """Join runs of one label without a gap between them."""
    last: _Run | None = None
    for run in runs:
        if last is None:
            last = run
        elif run.label == last.label and run.start == last.end:
            last = _Run(
                last.start,
                run.end,
                run.label,
                last.cells + run.cells,
                last.probability + run.probability,
                last.scored_cells + run.scored_cells,
                last.score + run.score,
            )
        else:
            yield last
            last = run
    if last is not None:
        yield last

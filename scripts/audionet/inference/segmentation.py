"""Who speaks when: a sliding window's answers to smoothed segments, and segments to text, CSV, RTTM and an image."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.utils.arrays import FloatArray

STAY_SECONDS = 5.0
"""How long a voice stays on average: turns take some seconds, and the path depends on no more than the logarithm."""

LAG_SECONDS = 30.0
"""What is heard later than this changes no decision: several turns, after which all likely paths have met."""

_LEAST_PROBABILITY = 1e-6  # a cell in which a label is all but impossible can be outvoted by others
_SCORE_SPREAD = 0.1  # how much the score of one voice varies from window to window, about


class Window(NamedTuple):
    """What the model says of a stretch of the recording.

    Attributes
    ----------
    start : float
        Seconds from the recording's beginning.
    probabilities : ndarray of float32, shape (labels,), or None
        None where the whole window is silent.
    score : float or None
        How far it is like any known voice, higher is more; None where it is silent or the model does not tell.
    """

    start: float
    probabilities: FloatArray | None
    score: float | None


class Segment(NamedTuple):
    """A stretch in which one voice is heard.

    Attributes
    ----------
    start, end : float
        Seconds from the recording's beginning.
    label : str or None
        None for an unknown voice.
    probability : float
        Mean over the segment of the label's probability; of an unknown voice, of the likeliest label's.
    score : float or None
        Mean over the segment, None where no window has one.
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
    threshold: float | None = None,
    stay_seconds: float = STAY_SECONDS,
    lag_seconds: float = LAG_SECONDS,
) -> Iterator[Segment]:
    """Turn the answers of a sliding window into who speaks when, as they come and in constant memory.

    Time is divided into cells of a step. A cell's probabilities are the mean over the windows that cover its middle;
    it is silent if one of these is, as in a silent window nothing is heard anywhere. Between silences, the voices are
    the most likely path through a hidden Markov model with a state for each label, and one for the unknown (`_path`).

    Parameters
    ----------
    windows : iterable of Window
        By ascending start, in multiples of a step from the first, all before the recording's end. What no window covers
        counts as silent.
    labels : sequence of str
    window_seconds, step_seconds : float
        The step is above 0 and at most a window.
    seconds : callable
        The recording's length; asked once, when there are no more windows.
    threshold : float, optional
        Voices that score less are unknown. None: all are known.
    stay_seconds : float
        How long a voice stays on average, above 0. At a step or less, every cell is decided by itself.
    lag_seconds : float
        How much of what follows is heard, at least, before a cell is decided.

    Yields
    ------
    Segment
        In order of time and never overlapping. The last one ends no later than the recording.
    """
    penalty = _switch_penalty(len(labels) + (threshold is not None), stay_seconds / step_seconds)
    cells = _cells(windows, window_seconds, step_seconds, seconds)
    for run in _joined(_path(cells, penalty, max(1, round(lag_seconds / step_seconds)), threshold)):
        label = None if run.label is None else labels[run.label]
        yield Segment(run.start, run.end, label, run.probability / run.cells, run.mean_score)


class _Cell(NamedTuple):
    """One step of the recording; no probabilities where it is silent."""

    start: float
    end: float
    probabilities: FloatArray | None
    score: float | None


@dataclass(frozen=True)
class _Run:
    """Cells that follow each other: their label, None for an unknown voice, and sums over them."""

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
    windows: Iterable[Window], window_seconds: float, step_seconds: float, seconds: Callable[[], float]
) -> Iterator[_Cell]:
    covered = max(1, round(window_seconds / step_seconds))
    over: deque[tuple[int, Window]] = deque()  # the windows that cover the cell to come
    origin = 0.0
    cell = 0

    def edge(number: int) -> float:
        return origin + number * step_seconds

    def finished(end: float) -> _Cell:
        while over and over[0][0] <= cell - covered:
            over.popleft()
        return _cell(edge(cell), end, [window for _, window in over])

    for window in windows:
        if not over and not cell:
            origin = window.start
        index = round((window.start - origin) / step_seconds)
        while cell < index:
            yield finished(edge(cell + 1))
            cell += 1
        over.append((index, window))
    if not over:
        return
    # The last window may be filled up with zeros, or leave out less than half a step: the last cell takes that in.
    length = seconds()
    stop = over[-1][0] + 1
    stop = min(max(stop, math.floor((length - origin) / step_seconds + 0.5)), stop + covered - 1)
    while cell < stop:
        is_last = cell == stop - 1 and length < edge(stop) + step_seconds
        yield finished(length if is_last else edge(cell + 1))
        cell += 1


def _cell(start: float, end: float, windows: Sequence[Window]) -> _Cell:
    heard = [window.probabilities for window in windows if window.probabilities is not None]
    if not heard or len(heard) < len(windows):
        return _Cell(start, end, None, None)
    scores = [window.score for window in windows if window.score is not None]
    probabilities: FloatArray = np.mean(heard, axis=0)
    return _Cell(start, end, probabilities, float(np.mean(scores)) if scores else None)


def _switch_penalty(labels: int, stay: float) -> float:
    """How much less likely it is that another voice follows than the same, as a difference of logarithms.

    A voice leaves in each cell with probability ``1 / stay``, so that it stays for `stay` cells on average, and every
    other is as likely to follow. No voice is less likely to stay than another is to follow.
    """
    if labels < 2:
        return math.inf
    leave = min(1 / stay, 1 - 1 / labels)
    return math.log((1 - leave) / (leave / (labels - 1)))


class _Step(NamedTuple):
    """A cell on the paths: for each label, whether its best path came from the best label before, `source`."""

    cell: _Cell
    switched: NDArray[np.bool_]
    source: int


def _path(cells: Iterable[_Cell], penalty: float, lag: int, threshold: float | None) -> Iterator[_Run]:
    """The most likely labels of cells, as runs of one cell; silent ones are left out, and what they part is apart.

    Viterbi's algorithm (Viterbi, IEEE Transactions on Information Theory 13, 1967; Rabiner, Proceedings of the IEEE
    77, 1989, section III B). As all switches are equally likely, the best path to a label comes from the label
    itself or from the best of all: O(labels) a cell, not O(labels²). Decisions are made `lag` cells at a time, each at
    least so many cells behind; between silences no further apart than that, the path is exact.
    """
    held: deque[_Step] = deque()
    scores: NDArray[np.float64] = np.zeros(0)  # log-likelihood of the best path to each label, up to a constant
    for cell in cells:
        if cell.probabilities is None:
            yield from _decided(held, scores, len(held))
            continue
        evidence = _evidence(cell, threshold)
        if not held:
            scores = np.zeros(len(evidence))
        source = int(np.argmax(scores))
        scores = scores - scores[source]
        held.append(_Step(cell, scores < -penalty, source))
        scores = np.maximum(scores, -penalty) + evidence
        if len(held) == 2 * lag:
            yield from _decided(held, scores, lag)
    yield from _decided(held, scores, len(held))


def _decided(held: deque[_Step], scores: NDArray[np.float64], count: int) -> Iterator[_Run]:
    """Follow the best path back through what is held, and give out its first cells."""
    if not held:
        return
    label = int(np.argmax(scores))
    path = [label]
    for step in reversed(held):
        label = step.source if step.switched[label] else label
        path.append(label)
    path.pop()  # before the first cell there is nothing
    for label in path[: -count - 1 : -1]:
        cell = held.popleft().cell
        assert cell.probabilities is not None
        known = label < len(cell.probabilities)
        probability = float(cell.probabilities[label] if known else cell.probabilities.max())
        given, scored = label if known else None, cell.score is not None
        yield _Run(cell.start, cell.end, given, 1, probability, int(scored), cell.score or 0.0)


def _evidence(cell: _Cell, threshold: float | None) -> NDArray[np.float64]:
    """Log-likelihood of each label and, where there is a threshold, last of an unknown voice.

    The odds of an unknown voice are even at the threshold, and over several cells depend on their mean score alone.
    """
    assert cell.probabilities is not None
    evidence: NDArray[np.float64] = np.log(np.maximum(cell.probabilities, _LEAST_PROBABILITY), dtype=np.float64)
    if threshold is None:
        return evidence
    distance = math.inf if cell.score is None else (cell.score - threshold) / _SCORE_SPREAD
    # Logarithms of the logistic function of the distance, and of one less it.
    known, unknown = -np.logaddexp(0, -distance), max(-np.logaddexp(0, distance), math.log(_LEAST_PROBABILITY))
    return np.append(evidence + known, unknown)


def _joined(runs: Iterable[_Run]) -> Iterator[_Run]:
    """Join runs of one label that follow each other without a gap."""
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

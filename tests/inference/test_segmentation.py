from __future__ import annotations

import itertools
import math
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audionet.classifier.rejection import KnownOdds
from audionet.inference.segmentation import Segment, Window, segments

NAMES = ("ann", "ben", "cem", "dora")
SURE = {label: np.where(np.arange(4) == number, 0.97, 0.01) for number, label in enumerate("abcd")}


def windows_of(script: str, step: float = 1.0, scores: Sequence[float | None] | None = None) -> list[Window]:
    """Make one window per letter: a, b, c and d are the labels, a dot is silence."""
    return [
        Window(index * step, SURE[letter].astype(np.float32), None if scores is None else scores[index])
        if letter in SURE
        else Window(index * step, None, None)
        for index, letter in enumerate(script)
    ]


def spans(found: Iterable[Segment]) -> list[tuple[float, float, str | None]]:
    return [(round(segment.start, 6), round(segment.end, 6), segment.label) for segment in found]


HALF = KnownOdds(0.5, 10.0)
"""Refuses scores below a half."""


def apart(script: str, seconds: float, odds: KnownOdds | None = None, scores=None) -> list[Segment]:
    """Segment windows of 1 s that do not overlap, each decided independently."""
    return list(segments(windows_of(script, 1.0, scores), NAMES, 1.0, 1.0, lambda: seconds, odds, stay_seconds=0.5))


def test_cells_of_one_label_become_a_segment() -> None:
    assert spans(apart("aaabbc", 6.0)) == [(0, 3, "ann"), (3, 5, "ben"), (5, 6, "cem")]


def test_silence_separates_segments() -> None:
    assert spans(apart("aa.ab..", 7.0)) == [(0, 2, "ann"), (3, 4, "ann"), (4, 5, "ben")]
    assert apart("...", 3.0) == []
    assert apart("", 0.0) == []


def test_a_step_that_is_left_out_is_silent() -> None:
    windows = windows_of("aaaaaa")
    del windows[2:4]
    assert spans(segments(windows, NAMES, 1.0, 1.0, lambda: 6.0)) == [(0, 2, "ann"), (4, 6, "ann")]


def test_segments_of_overlapping_windows_meet_where_the_speaker_changes() -> None:
    # 3 s windows at each second; ann up to 6 s, then ben; a window's probabilities are the shares of its speakers.
    shares = [sum(start + second < 6 for second in range(3)) / 3 for start in range(10)]
    windows = [Window(start, np.array([share, 1 - share], np.float32), None) for start, share in enumerate(shares)]
    assert spans(segments(windows, NAMES[:2], 3.0, 1.0, lambda: 12.0)) == [(0, 6, "ann"), (6, 12, "ben")]


def test_a_cell_has_the_mean_probabilities_and_the_best_score_of_the_windows_over_it() -> None:
    windows = [Window(0.0, np.array([1.0, 0.0], np.float32), 1.0), Window(1.0, np.array([0.6, 0.4], np.float32), 3.0)]
    [segment] = segments(windows, NAMES[:2], 2.0, 1.0, lambda: 3.0)
    assert spans([segment]) == [(0, 3, "ann")]
    assert segment.probability == pytest.approx((1.0 + 0.8 + 0.6) / 3)
    assert segment.score == pytest.approx((1.0 + 3.0 + 3.0) / 3)


def test_all_of_a_silent_window_is_silent() -> None:
    # 3 s of silence in windows of 3 s: exactly one is silent, and its neighbours contain some speech each.
    assert spans(segments(windows_of("aaaa.aaaa"), NAMES, 3.0, 1.0, lambda: 11.0)) == [(0, 4, "ann"), (7, 11, "ann")]


def test_after_a_silence_all_labels_are_equally_likely() -> None:
    doubtful = Window(11.0, np.array([0.4, 0.5, 0.05, 0.05], np.float32), None)
    windows = [*windows_of("aaaaaaaaaa"), Window(10.0, None, None), doubtful]
    assert spans(segments(windows, NAMES, 1.0, 1.0, lambda: 12.0)) == [(0, 10, "ann"), (11, 12, "ben")]


def test_a_window_covers_the_cells_whose_middle_it_covers() -> None:
    found = list(segments(windows_of("ab"), NAMES, 1.4, 1.0, lambda: 2.4, stay_seconds=0.5))
    assert spans(found) == [(0, 1, "ann"), (1, 2.4, "ben")]
    assert [segment.probability for segment in found] == pytest.approx([0.97, 0.97])


@pytest.mark.parametrize(("seconds", "expected"), [(3.6, [(0, 3, "ann"), (3, 3.6, "ben")]), (3.4, [(0, 3.4, "ann")])])
def test_half_a_step_at_the_end_is_a_cell_and_less_is_not(seconds: float, expected: object) -> None:
    windows = [*windows_of("aa"), Window(2.0, np.array([0.4, 0.6, 0, 0], np.float32), None)]
    assert spans(segments(windows, NAMES, 2.0, 1.0, lambda: seconds, stay_seconds=0.5)) == expected


def test_one_odd_window_changes_nothing_unless_speakers_change_fast() -> None:
    script = "aaaaaabaaaaaa"
    odd = [
        window._replace(probabilities=np.array([0.3, 0.5, 0.1, 0.1], np.float32)) if index == 6 else window
        for index, window in enumerate(windows_of(script))
    ]
    assert spans(segments(odd, NAMES, 1.0, 1.0, lambda: 13.0)) == [(0, 13, "ann")]
    assert len(list(segments(odd, NAMES, 1.0, 1.0, lambda: 13.0, stay_seconds=1.0))) == 3


@pytest.mark.parametrize(
    ("windows", "window", "step", "seconds"),
    [
        (5, 3.0, 1.0, 6.6),  # the last one is filled up
        (5, 3.0, 1.0, 7.0),
        (5, 3.0, 1.0, 7.4),  # less than half a step is dropped
        (1, 3.0, 1.0, 0.2),
        (1, 3.0, 1.0, 1.5),
        (31, 3.0, 0.1, 6.0),
        (4, 2.0, 0.7, 4.1),
        (4, 2.3, 0.7, 4.65),
        (3, 1.0, 1.0, 2.6),
        (3, 1.0, 1.0, 3.49),
    ],
)
def test_the_last_segment_ends_with_the_recording(windows: int, window: float, step: float, seconds: float) -> None:
    found = spans(segments(windows_of("a" * windows, step), NAMES, window, step, lambda: seconds))
    assert found == [(0, seconds, "ann")]


def test_what_follows_a_trimmed_end_is_not_labelled() -> None:
    windows = [window._replace(start=window.start + 2.5) for window in windows_of("aaa")]
    assert spans(segments(windows, NAMES, 3.0, 1.0, lambda: 60.0)) == [(2.5, 7.5, "ann")]


@given(
    st.text("ab.", min_size=1, max_size=30),
    st.sampled_from([(3.0, 1.0), (3.0, 0.5), (1.0, 1.0), (1.0, 0.1), (2.3, 0.7), (0.5, 0.3)]),
    st.floats(-0.49, 0.49),
)
def test_segments_lie_in_the_recording_and_in_order(script: str, shape: tuple[float, float], rest: float) -> None:
    window, step = shape
    seconds = max(0.05, window + (len(script) - 1 + rest) * step)
    windows = windows_of(script, step)
    found = list(segments(windows, NAMES, window, step, lambda: seconds, lag_seconds=2.0))
    edges = [edge for segment in found for edge in (segment.start, segment.end)]
    assert edges == sorted(edges)
    assert all(segment.end - segment.start > step / 100 for segment in found)
    assert all(0 <= edge <= seconds for edge in edges)
    assert all(
        one.end < other.start or one.label != other.label for one, other in itertools.pairwise(found)
    )  # else it would be one segment
    if "." not in script:
        assert found[0].start == 0
        assert found[-1].end == pytest.approx(seconds)
        assert all(one.end == other.start for one, other in itertools.pairwise(found))
    for silent in (place for place, letter in enumerate(script) if letter == "."):
        middle = (silent + 0.5) * step
        assert not any(segment.start < middle < segment.end for segment in found)


def viterbi(probabilities: NDArray[np.float32], stay: float) -> float:
    """Log-likelihood of the best path, over every pair of labels in every cell."""
    labels = probabilities.shape[1]
    transitions = log_transitions(labels, stay)
    best = np.log(probabilities[0].astype(float))
    for row in probabilities[1:]:
        best = (best[:, None] + transitions).max(axis=0) + np.log(row.astype(float))
    return float(best.max())


def log_transitions(labels: int, stay: float) -> NDArray[np.float64]:
    if labels == 1:
        return np.zeros((1, 1))
    leave = min(1 / stay, 1 - 1 / labels)
    matrix = np.full((labels, labels), leave / (labels - 1))
    np.fill_diagonal(matrix, 1 - leave)
    return np.log(matrix)


def likelihood(probabilities: NDArray[np.float32], path: Sequence[int], stay: float) -> float:
    transitions = log_transitions(probabilities.shape[1], stay)
    emissions = sum(math.log(float(row[label])) for row, label in zip(probabilities, path, strict=True))
    return emissions + sum(float(transitions[pair]) for pair in itertools.pairwise(path))


def decoded(probabilities: NDArray[np.float32], stay: float, lag: float) -> list[int]:
    names = [str(number) for number in range(probabilities.shape[1])]
    windows = [Window(float(start), row, None) for start, row in enumerate(probabilities)]
    end = float(len(windows))
    return [
        int(segment.label or "")
        for segment in segments(windows, names, 1.0, 1.0, lambda: end, stay_seconds=stay, lag_seconds=lag)
        for _ in range(round(segment.end - segment.start))
    ]


def voices(seed: int, cells: int, labels: int, sharpness: float) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((cells, labels)) * sharpness
    logits[np.arange(cells), np.repeat(generator.integers(0, labels, cells), 4)[:cells]] += sharpness
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.maximum(shares / shares.sum(axis=1, keepdims=True), 1e-5).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 3), st.floats(0.2, 20), st.floats(0.1, 3))
def test_no_path_is_likelier(seed: int, cells: int, labels: int, stay: float, sharpness: float) -> None:
    probabilities = voices(seed, cells, labels, sharpness)
    path = decoded(probabilities, stay, 30.0)
    best = max(
        likelihood(probabilities, other, max(stay, 1e-9)) for other in itertools.product(range(labels), repeat=cells)
    )
    assert likelihood(probabilities, path, stay) == pytest.approx(best, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 12), st.floats(0.2, 50), st.floats(0.1, 3))
def test_the_path_is_viterbis(seed: int, cells: int, labels: int, stay: float, sharpness: float) -> None:
    probabilities = voices(seed, cells, labels, sharpness)
    path = decoded(probabilities, stay, 30.0)
    assert likelihood(probabilities, path, stay) == pytest.approx(viterbi(probabilities, stay), abs=1e-6)


def test_a_lag_of_several_turns_costs_nothing() -> None:
    probabilities = voices(0, 3000, 8, 1.5)
    path = decoded(probabilities, 5.0, 30.0)
    assert len(path) == 3000
    assert path == decoded(probabilities, 5.0, 3000.0)
    assert likelihood(probabilities, path, 5.0) == pytest.approx(viterbi(probabilities, 5.0), abs=1e-6)


def test_a_short_lag_gives_a_less_likely_path() -> None:
    probabilities = voices(0, 3000, 8, 1.0)
    hasty = decoded(probabilities, 5.0, 1.0)
    assert len(hasty) == 3000
    assert likelihood(probabilities, hasty, 5.0) < viterbi(probabilities, 5.0) - 10


def test_a_label_that_was_impossible_once_can_come_back() -> None:
    windows = [
        Window(float(start), np.array([share, 1 - share], np.float32), None)
        for start, share in enumerate([1.0] * 10 + [0.0] * 10)
    ]
    assert spans(segments(windows, NAMES[:2], 1.0, 1.0, lambda: 20.0)) == [(0, 10, "ann"), (10, 20, "ben")]


def test_speakers_below_the_threshold_are_unknown() -> None:
    scores = [0.9, 0.9, 0.1, 0.3, 0.2, 0.4, 0.8]
    found = apart("aabbcda", 7.0, HALF, scores)
    assert spans(found) == [(0, 2, "ann"), (2, 6, None), (6, 7, "ann")]
    assert found[1].score == pytest.approx(0.25)
    assert found[1].probability == pytest.approx(0.97)
    assert spans(apart("aabbcda", 7.0, None, scores))[1:4] == [(2, 4, "ben"), (4, 5, "cem"), (5, 6, "dora")]
    assert spans(apart("abb", 3.0, HALF, [0.55, 0.3, 0.6])) == [(0, 1, "ann"), (1, 2, None), (2, 3, "ben")]


def test_an_unknown_speaker_is_separated_from_the_one_it_resembles() -> None:
    def found(scores: list[float]) -> list[tuple[float, float, str | None]]:
        windows = windows_of("a" * len(scores), 1.0, scores)
        return spans(segments(windows, NAMES, 1.0, 1.0, lambda: float(len(scores)), HALF))

    assert found([0.9] * 5 + [0.2] * 5) == [(0, 5, "ann"), (5, 10, None)]
    assert found([0.9] * 5 + [0.4] + [0.9] * 5) == [(0, 11, "ann")]
    assert found([0.2] * 5 + [0.6] + [0.2] * 5) == [(0, 11, None)]


def test_a_steady_speaker_is_known_by_its_score_however_probable_its_label_is() -> None:
    """At a probability of 0.4 and a score just above the threshold, a label paid twice, and unknown once."""
    likely = np.float32([0.4, 0.3, 0.2, 0.1])
    for score, label in ((0.52, "ann"), (0.48, None)):
        windows = [Window(float(start), likely, score) for start in range(20)]
        assert spans(segments(windows, NAMES, 1.0, 1.0, lambda: 20.0, HALF)) == [(0, 20, label)]


def test_windows_that_hear_two_speakers_make_no_unknown_one() -> None:
    """Two known speakers of 6 s: each second is covered by a window of 3 s that hears one of them alone."""
    shares = [min(1.0, max(0.0, (6 - start) / 3)) for start in range(10)]
    windows = [
        Window(float(start), np.float32([share, 1 - share, 0, 0]), 0.2 + 0.8 * abs(2 * share - 1))
        for start, share in enumerate(shares)
    ]
    odds = KnownOdds(0.9, 30.0)
    assert [label for *_, label in spans(segments(windows, NAMES, 3.0, 1.0, lambda: 12.0, odds))] == ["ann", "ben"]


def test_windows_that_begin_off_the_grid_keep_their_starts() -> None:
    windows = [window._replace(start=start) for window, start in zip(windows_of("aab"), (0, 1, 2.4), strict=True)]
    assert spans(segments(windows, NAMES, 1.0, 1.0, lambda: 3.4, stay_seconds=0.5)) == [
        (0, 2.4, "ann"),
        (2.4, 3.4, "ben"),
    ]


def test_silence_separates_unknown_speakers() -> None:
    assert spans(apart("ab.c", 4.0, HALF, [0.1] * 4)) == [(0, 2, None), (3, 4, None)]


def test_without_scores_all_speakers_are_known() -> None:
    [segment] = apart("aa", 2.0, HALF)
    assert (segment.label, segment.score) == ("ann", None)
    assert spans(apart("aaa", 3.0, HALF, [0.1, None, 0.3])) == [(0, 1, None), (1, 2, "ann"), (2, 3, None)]


def test_segments_come_while_windows_do() -> None:
    taken = 0

    def endless() -> Iterator[Window]:
        nonlocal taken
        for start in itertools.count():
            taken += 1
            yield Window(start * 0.5, SURE["ab"[start // 20 % 2]].astype(np.float32), None)

    def never() -> float:
        raise AssertionError("asked for the length of a recording that has not ended")

    stream = segments(endless(), NAMES, 3.0, 0.5, never)
    assert taken == 0
    first = next(stream)
    assert (first.start, first.label) == (0, "ann")
    assert taken < 2 * 30 / 0.5 + 10
    assert spans(itertools.islice(stream, 50))[-1][2] == "ann"


def test_the_length_is_asked_for_once_and_last() -> None:
    events: list[str] = []

    def watched() -> Iterator[Window]:
        yield from windows_of("aabb")
        events.append("end")

    def seconds() -> float:
        events.append("asked")
        return 4.0

    list(segments(watched(), NAMES, 1.0, 1.0, seconds))
    assert events == ["end", "asked"]


def test_memory_does_not_grow() -> None:
    def peak(windows: int, labels: int) -> int:
        names = [str(number) for number in range(labels)]
        sure = np.where(np.eye(labels, dtype=bool), 0.9, 0.1 / labels).astype(np.float32)
        stream = (Window(float(start), sure[start // 5000 % labels].copy(), 0.9) for start in range(windows))
        tracemalloc.start()
        try:
            found = segments(stream, names, 3.0, 1.0, lambda: windows + 2.0, HALF)
            assert sum(1 for _ in found) == max(1, windows // 5000)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short = peak(2_000, 40)
    assert peak(20_000, 40) < short + 20_000
    assert short < 200_000


def test_a_moment_that_one_window_covers_has_the_threshold_of_one() -> None:
    """Where windows overlap, the best of several must do better than a clip's only one."""
    odds = KnownOdds(threshold=0.9, slope=20.0, lone=0.7)
    ann = np.array([0.98, 0.02], np.float32)

    def labels(number: int, seconds: float) -> list[str | None]:
        windows = [Window(start / 2, ann, 0.8) for start in range(number)]
        return [found.label for found in segments(windows, ["ann", "ben"], 3.0, 0.5, lambda: seconds, odds)]

    assert labels(1, 3.0) == ["ann"]
    assert labels(60, 32.5) == [None]
    assert odds.of(0.8, 0.5) == pytest.approx(0, abs=1e-9)

from __future__ import annotations

import csv
import io
import itertools
import math
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from audionet.inference.segmentation import Segment, Window, segments
from audionet.inference.timeline_files import (
    CSV_HEADER,
    diarization_plot,
    format_segment,
    format_time,
    segment_to_csv,
    segment_to_rttm,
)
from tests.support.sounds import ROOT

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


def apart(script: str, seconds: float, threshold: float | None = None, scores=None) -> list[Segment]:
    """Segment windows of 1 s that do not overlap, each decided independently."""
    return list(
        segments(windows_of(script, 1.0, scores), NAMES, 1.0, 1.0, lambda: seconds, threshold, stay_seconds=0.5)
    )


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


def test_a_cell_is_the_mean_of_the_windows_over_it() -> None:
    windows = [Window(0.0, np.array([1.0, 0.0], np.float32), 1.0), Window(1.0, np.array([0.6, 0.4], np.float32), 3.0)]
    [segment] = segments(windows, NAMES[:2], 2.0, 1.0, lambda: 3.0)
    assert spans([segment]) == [(0, 3, "ann")]
    assert segment.probability == pytest.approx((1.0 + 0.8 + 0.6) / 3)
    assert segment.score == pytest.approx((1.0 + 2.0 + 3.0) / 3)


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
    found = apart("aabbcda", 7.0, 0.5, scores)
    assert spans(found) == [(0, 2, "ann"), (2, 6, None), (6, 7, "ann")]
    assert found[1].score == pytest.approx(0.25)
    assert found[1].probability == pytest.approx(0.97)
    assert spans(apart("aabbcda", 7.0, None, scores))[1:4] == [(2, 4, "ben"), (4, 5, "cem"), (5, 6, "dora")]
    assert spans(apart("abb", 3.0, 0.5, [0.55, 0.3, 0.6])) == [(0, 1, "ann"), (1, 2, None), (2, 3, "ben")]


def test_an_unknown_speaker_is_separated_from_the_one_it_resembles() -> None:
    def found(scores: list[float]) -> list[tuple[float, float, str | None]]:
        windows = windows_of("a" * len(scores), 1.0, scores)
        return spans(segments(windows, NAMES, 1.0, 1.0, lambda: float(len(scores)), 0.5))

    assert found([0.9] * 5 + [0.2] * 5) == [(0, 5, "ann"), (5, 10, None)]
    assert found([0.9] * 5 + [0.4] + [0.9] * 5) == [(0, 11, "ann")]
    assert found([0.2] * 5 + [0.6] + [0.2] * 5) == [(0, 11, None)]


def test_silence_separates_unknown_speakers() -> None:
    assert spans(apart("ab.c", 4.0, 0.5, [0.1] * 4)) == [(0, 2, None), (3, 4, None)]


def test_without_scores_all_speakers_are_known() -> None:
    [segment] = apart("aa", 2.0, 0.5)
    assert (segment.label, segment.score) == ("ann", None)
    assert spans(apart("aaa", 3.0, 0.5, [0.1, None, 0.3])) == [(0, 1, None), (1, 2, "ann"), (2, 3, None)]


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
        stream = (Window(float(start), sure[start // 5000 % labels].copy(), 0.5) for start in range(windows))
        tracemalloc.start()
        try:
            found = segments(stream, names, 3.0, 1.0, lambda: windows + 2.0, 0.1)
            assert sum(1 for _ in found) == max(1, windows // 5000)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    short = peak(2_000, 40)
    assert peak(20_000, 40) < short + 20_000
    assert short < 200_000


def test_lines_for_people() -> None:
    line = format_segment(Segment(3.46, 12.0, "ann", 0.981, None))
    assert line == "  0:00:03.5 – 0:00:12.0   98.10%  ann"
    assert format_segment(Segment(0, 3599.96, None, 1.0, 0.1)) == "  0:00:00.0 – 1:00:00.0           unknown"
    assert format_segment(Segment(0, 1, "a\nb\udcff\x1b", 0.5, None)).endswith("  a\\nb\\udcff\\x1b")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3661, "1:01:01"), (36000.4, "10:00:00")]
)
def test_clock(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


LABELS = st.text(min_size=1).filter(lambda label: "\0" not in label)


@given(LABELS | st.none(), st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 1))
def test_csv_can_be_read_back(label: str | None, start: float, length: float, probability: float) -> None:
    text = CSV_HEADER + "\n" + segment_to_csv(Segment(start, start + length, label, probability, None)) + "\n"
    [row] = csv.DictReader(io.StringIO(text, newline=""))
    assert row["label"] == (label or "")
    assert row["unknown"] == ("true" if label is None else "false")
    assert float(row["start"]) == pytest.approx(start, abs=5.1e-4)
    assert float(row["end"]) == pytest.approx(start + length, abs=5.1e-4)
    if label is None:
        assert row["probability"] == ""
    else:
        assert float(row["probability"]) == pytest.approx(probability, abs=5.1e-7)


def test_a_label_called_unknown_is_known() -> None:
    assert segment_to_csv(Segment(0, 1.5, "unknown", 0.5, None)) == "0.000,1.500,unknown,0.500000,false"
    assert segment_to_csv(Segment(0, 1.5, None, 0.5, 0.1)) == "0.000,1.500,,,true"
    for label in ("unknown", "<unknown>", "<NA>"):
        assert segment_to_rttm(Segment(0, 1, label, 0.5, None), "a").split()[7] not in ("<unknown>", "<NA>")


@given(LABELS | st.sampled_from(["a b\udcff", "100 %", "%41", "\u2028", "a\u00a0b\x85"]), LABELS, st.floats(0, 1e5))
def test_rttm_can_be_read_back(label: str, recording: str, start: float) -> None:
    line = segment_to_rttm(Segment(start, start + 2, label, 0.5, None), recording)
    assert len(line.splitlines()) == 1
    fields = line.split()
    assert len(fields) == 10
    assert unquote(fields[1], errors="surrogateescape") == recording
    assert unquote(fields[7], errors="surrogateescape") == label
    assert float(fields[3]) == pytest.approx(start, abs=5.1e-4)


def test_rttm_lines() -> None:
    line = segment_to_rttm(Segment(3.5, 12.0004, "ann lee", 0.5, None), "my talk.wav")
    assert line == "SPEAKER my%20talk.wav 1 3.500 8.500 <NA> <NA> ann%20lee <NA> <NA>"
    assert segment_to_rttm(Segment(0.0014, 1.0016, "b", 0.5, None), "a").split()[3:5] == [
        "0.001",
        "1.001",
    ]  # to the next one
    assert (
        segment_to_rttm(Segment(0, 1, None, 0.5, 0.1), "a") == "SPEAKER a 1 0.000 1.000 <NA> <NA> <unknown> <NA> <NA>"
    )


def image(png: bytes) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def blue_rows(png: bytes) -> int:
    """Count the bars of known speakers, as runs of image rows that contain blue."""
    is_blue = (image(png) == (0x2F, 0x6F, 0x9F)).all(axis=2).any(axis=1)
    return int(is_blue[0]) + int((is_blue[1:] & ~is_blue[:-1]).sum())


def turns(labels: int, number: int) -> list[Segment]:
    return [Segment(turn * 2.0, turn * 2.0 + 2, f"label {turn % labels}", 0.9, None) for turn in range(number)]


def test_a_row_for_each_speaker_and_the_rest_in_one() -> None:
    assert blue_rows(diarization_plot(turns(3, 30), 60.0, "talk")) == 3
    assert blue_rows(diarization_plot(turns(21, 42), 84.0, "talk")) == 21
    assert blue_rows(diarization_plot(turns(300, 600), 1200.0, "talk")) == 20


def test_any_number_of_segments_can_be_plotted() -> None:
    assert blue_rows(diarization_plot([], 0.0, "silence")) == 0
    many = diarization_plot(turns(50, 20_000), 40_000.0, "ten hours")
    assert image(many).shape[1] == 1300
    assert image(many).shape[0] < 1200


def test_a_short_turn_in_a_long_recording_can_be_seen() -> None:
    assert blue_rows(diarization_plot([Segment(17_003.1, 17_003.6, "ann", 0.9, None)], 36_000.0, "ten hours")) == 1


def test_a_gap_can_be_seen_unless_it_is_narrower_than_a_pixel() -> None:
    for gap, bars in ((1.0, 2), (0.005, 1)):
        found = [Segment(0, 10, "ann", 0.9, None), Segment(10 + gap, 20, "ann", 0.9, None)]
        is_blue = (image(diarization_plot(found, 20.0, "talk")) == (0x2F, 0x6F, 0x9F)).all(axis=2).any(axis=0)
        assert int((is_blue[1:] & ~is_blue[:-1]).sum()) == bars


def test_who_speaks_longest_comes_first() -> None:
    found = [Segment(0, 10, "ann", 0.9, None), Segment(10, 50, "ben", 0.9, None), Segment(50, 70, "cem", 0.9, None)]
    is_blue = (image(diarization_plot(found, 70.0, "talk")) == (0x2F, 0x6F, 0x9F)).all(axis=2)
    lengths = [length for length, _ in itertools.groupby(is_blue.sum(axis=1)) if length > 50]
    assert len(lengths) == 3
    assert lengths == sorted(lengths, reverse=True)


def test_bars_lie_where_the_segments_do() -> None:
    png = diarization_plot([Segment(25, 50, "ann", 0.9, None), Segment(75, 100, None, 0.5, 0.1)], 100.0, "talk")
    pixels = image(png)
    is_blue = (pixels == (0x2F, 0x6F, 0x9F)).all(axis=2)
    is_grey = (pixels == 0xD9).all(axis=2)
    blue, grey = (np.flatnonzero(colour.sum(axis=0) > 5) for colour in (is_blue, is_grey))  # letters have some too
    assert np.ptp(blue) == pytest.approx(np.ptp(grey), abs=3)
    assert grey.min() - blue.min() == pytest.approx(2 * np.ptp(blue), abs=6)
    assert np.flatnonzero(is_blue.any(axis=1)).max() < np.flatnonzero(is_grey.sum(axis=1) > 50).min()


def test_any_label_can_be_plotted() -> None:
    labels = ["$x^$", "анна", "日本 🎻", "a" * 300, "\\frac{1}{", "%s", "a\nb", "\udcff"]
    found = [Segment(float(number), number + 1.0, label, 0.9, None) for number, label in enumerate(labels)]
    assert blue_rows(diarization_plot(found, 8.0, "$\\frac{$ \n" + "title " * 100)) == 8


def test_importing_it_is_light() -> None:
    code = (
        "import sys, audionet.inference.segmentation; print({'matplotlib', 'scipy', 'tensorflow'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, check=True)
    assert result.stdout.strip() == b"set()"

from __future__ import annotations

import csv
import io
import itertools
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from audionet.data.label_formats import Row, read_rows
from audionet.inference.segmentation import Segment
from audionet.inference.timeline_files import (
    CSV_HEADER,
    RAVEN_HEADER,
    diarization_plot,
    format_segment,
    format_time,
    segment_to_audacity,
    segment_to_csv,
    segment_to_raven,
    segment_to_rttm,
)
from tests.support.sounds import ROOT


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
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
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


@pytest.mark.parametrize("kind", ["csv", "rttm", "txt", "selections.txt"])
def test_every_text_form_is_read_as_a_label_table(tmp_path: Path, kind: str) -> None:
    found = [
        Segment(0.5, 2.25, "ann, or bob", 0.9, None),
        Segment(2.25, 4, None, 0.1, 0.1),
        Segment(4, 5, "zoë", 1, None),
    ]
    lines = {
        "csv": [CSV_HEADER, *map(segment_to_csv, found)],
        "rttm": [segment_to_rttm(segment, "talk") for segment in found],
        "txt": list(map(segment_to_audacity, found)),
        "selections.txt": [RAVEN_HEADER, *(segment_to_raven(segment, i) for i, segment in enumerate(found))],
    }
    path = tmp_path / f"talk.{kind}"
    path.write_text("\r\n".join(lines[kind]) + "\r\n", "utf-8")
    first, unknown, last = read_rows(path)
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert (first.start, first.end, first.label) == (0.5, 2.25, "ann, or bob")
    assert (last.start, last.end, last.label) == (4.0, 5.0, "zoë")
    assert isinstance(unknown, Row)
    assert unknown.label == ""
